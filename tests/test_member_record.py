"""The rules of a data set's record, a line each: what a member finds, and what may become of the record."""

from __future__ import annotations

import json

import pytest

from colo_fsm.membership import record as to
from colo_fsm.membership.record import Finding, Member, Phase, Point, Record, find

A, B, C = Member("a", "1"), Member("b", "2"), Member("c", "3")
A_AGAIN = Member("a", "another disk")

NEW = Record("set", Phase.NEW, A, generation=0, stored=False, mate=None, begun=0, guest=None, token=0)
ALONE = Record("set", Phase.ALONE, A, 5, stored=True, mate=B, begun=5)
UNSTORED = Record("set", Phase.ALONE, A, 5, stored=False, mate=B, begun=5)
PAIRED = Record("set", Phase.PAIRED, A, 5, mate=B, begun=5)
VACANT = Record("set", Phase.VACANT, A, 5, stored=True, mate=B, begun=5)
COPYING = Record("set", Phase.ALONE, A, 5, stored=True, mate=C, begun=6, guest=B, token=7)


def has(generation: int, number: int = 0, id: str = "set") -> Point:
    return Point(id, generation, number)


@pytest.mark.parametrize(
    ("record", "me", "have", "finding"),
    [
        (None, A, None, Finding.BEGIN),
        (None, A, has(1), Finding.FORGOTTEN),
        *((record, A, has(5, id="other"), Finding.FOREIGN) for record in (NEW, ALONE, PAIRED, VACANT)),
        # newer than all that the record knows of
        *((record, B, has(6), Finding.AHEAD) for record in (NEW, ALONE, UNSTORED, PAIRED, VACANT)),
        (ALONE, B, has(5, 1), Finding.FOLLOW),
        (COPYING, B, has(6, 3), Finding.FOLLOW),
        (COPYING, B, has(7), Finding.AHEAD),
        (ALONE, A, has(6, 1), Finding.GO_ON),
        # begun
        (NEW, A, None, Finding.OFFER),
        (NEW, B, None, Finding.FOLLOW),
        (NEW, A_AGAIN, None, Finding.FOLLOW),
        # a pair: the Secondary's store counts, if it has the pair's generation
        (PAIRED, A, None, Finding.GIVE_BACK),
        (PAIRED, A, has(5, 1), Finding.GIVE_BACK),
        (PAIRED, B, has(5, 9), Finding.SUCCEED),
        (Record("set", Phase.PAIRED, A, 5, mate=B, begun=6), B, has(6), Finding.SUCCEED),
        (PAIRED, B, has(4, 9), Finding.FOLLOW),
        (PAIRED, B, None, Finding.FOLLOW),
        (PAIRED, C, has(5, 9), Finding.FOLLOW),
        # alone: the holder's own store counts, once it has been kept
        (ALONE, A, has(5), Finding.GO_ON),
        (ALONE, A, has(4, 9), Finding.MISSING),
        (ALONE, A, None, Finding.MISSING),
        (ALONE, A_AGAIN, None, Finding.FOLLOW),
        (UNSTORED, A, None, Finding.GIVE_BACK),
        (UNSTORED, A, has(5, 1), Finding.GIVE_BACK),
        (UNSTORED, A, has(6), Finding.GO_ON),
        (UNSTORED, B, has(5, 1), Finding.FOLLOW),
        # nobody runs
        (VACANT, A, has(5), Finding.GO_ON),
        (VACANT, A, has(4, 9), Finding.MISSING),
        (VACANT, A, None, Finding.MISSING),
        (VACANT, B, has(5, 9), Finding.FOLLOW),
    ],
)
def test_what_a_member_finds(record: Record | None, me: Member, have: Point | None, finding: Finding) -> None:
    assert find(record, me, have) is finding


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (to.begun("set", A), NEW),
        (to.taken(COPYING, B), None),
        (to.taken(Record("set", Phase.NEW, A, guest=C), B), Record("set", Phase.NEW, B)),
        # insisted: whatever the record says, and what was begun stays begun
        (
            to.insisted(None, A, has(7, 2)),
            Record("set", Phase.ALONE, A, 7, stored=True, begun=7),
        ),
        (
            to.insisted(COPYING, B, has(4, 2, "other")),
            Record("other", Phase.ALONE, B, 4, stored=True, mate=C, begun=6, token=7),
        ),
        (
            to.insisted(Record("set", Phase.PAIRED, A, 5, mate=B), B, has(4)),
            Record("set", Phase.ALONE, B, 4, stored=True, mate=B, begun=5),
        ),
        # opened: by the holder, with a number above all that was begun, if nobody is its Secondary
        (to.opened(NEW, A, 1), Record("set", Phase.NEW, A, begun=1)),
        (
            to.opened(COPYING, A, 7),
            Record("set", Phase.ALONE, A, 5, stored=True, mate=C, begun=7, token=7),
        ),
        (to.opened(COPYING, A, 6), None),
        (to.opened(ALONE, B, 6), None),
        (to.opened(PAIRED, A, 6), None),
        (to.opened(VACANT, A, 6), None),
        # copied: by another than the holder, of what was begun last
        (
            to.copied(COPYING, C, 6),
            Record("set", Phase.ALONE, A, 5, stored=True, mate=C, begun=6, guest=C, token=7),
        ),
        (to.copied(COPYING, C, 5), None),
        (to.copied(COPYING, A, 6), None),
        # joined: by the holder, of what was begun last, once it is whole at somebody's
        (to.joined(COPYING, A, 6), Record("set", Phase.PAIRED, A, 6, mate=B, begun=6, token=7)),
        (to.joined(COPYING, A, 5), None),
        (to.joined(COPYING, B, 6), None),
        (to.joined(ALONE, A, 5), None),
        # claimed: by one of the pair, once; the Primary's own store has nothing of it
        (
            to.claimed(PAIRED, A, 5, 8),
            Record("set", Phase.ALONE, A, 5, stored=False, mate=B, begun=5, token=8),
        ),
        (
            to.claimed(PAIRED, B, 5, 8),
            Record("set", Phase.ALONE, B, 5, stored=True, mate=A, begun=5, token=8),
        ),
        (to.claimed(PAIRED, C, 5, 8), None),
        (to.claimed(PAIRED, B, 4, 8), None),
        (to.claimed(ALONE, A, 5, 8), None),
        (to.claimed(ALONE, B, 5, 8), None),
        (
            to.claimed(VACANT, A, 5, 8),
            Record("set", Phase.ALONE, A, 5, stored=True, mate=B, begun=5, token=8),
        ),
        (to.claimed(VACANT, B, 5, 8), None),
        (to.claimed(VACANT, A, 4, 8), None),
        # kept: by the holder that runs alone or is to go on; neither numbers nor tokens fall
        (
            to.kept(COPYING, A, 5, 3),
            Record("set", Phase.ALONE, A, 5, stored=True, mate=C, begun=6, token=7),
        ),
        (
            to.kept(VACANT, A, 8, 9),
            Record("set", Phase.ALONE, A, 8, stored=True, mate=B, begun=8, token=9),
        ),
        (
            to.kept(UNSTORED, A, 6, 9),
            Record("set", Phase.ALONE, A, 6, stored=True, mate=B, begun=6, token=9),
        ),
        (to.kept(ALONE, A, 4, 9), None),
        (to.kept(ALONE, B, 5, 9), None),
        (to.kept(NEW, A, 5, 9), None),
        (to.kept(PAIRED, A, 5, 9), None),
        # handed over, and given back where nothing was kept since
        (to.handed(PAIRED, A), Record("set", Phase.VACANT, B, 5, stored=True, mate=A, begun=5)),
        (to.handed(PAIRED, B), None),
        (to.handed(ALONE, A), None),
        (to.handed(Record("set", Phase.PAIRED, A, 5), A), None),
        (to.given_back(PAIRED, A), Record("set", Phase.VACANT, B, 5, stored=True, mate=A, begun=5)),
        (to.given_back(UNSTORED, A), Record("set", Phase.VACANT, B, 5, stored=True, mate=A, begun=5)),
        (to.given_back(UNSTORED, B), None),
        (to.given_back(ALONE, A), None),
        (to.given_back(VACANT, A), None),
    ],
)
def test_what_becomes_of_the_record(after: Record | None, expected: Record | None) -> None:
    assert after == expected


@pytest.mark.parametrize("record", [NEW, COPYING, PAIRED, UNSTORED])
def test_a_record_is_text_and_back(record: Record) -> None:
    assert Record.decode(record.encode()) == record


@pytest.mark.parametrize(
    "text",
    [
        *("", "7", "[]", "{}", "not JSON"),
        json.dumps({**json.loads(PAIRED.encode()), "phase": "half"}),
        json.dumps({**json.loads(PAIRED.encode()), "mate": "b"}),
        json.dumps({**json.loads(PAIRED.encode()), "more": 1}),
        json.dumps({key: value for key, value in json.loads(PAIRED.encode()).items() if key != "holder"}),
    ],
)
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Record.decode(text)


def test_a_member_and_a_point_in_words() -> None:
    assert str(A) == "a"
    assert str(Point("0123456789", 3, 1)) == "data set 01234567, generation 3, checkpoint 1"
