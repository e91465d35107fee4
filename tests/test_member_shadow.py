"""What of a store goes to a new Secondary while rounds go on, and what need not be written twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from colo_fsm.membership.keeper import _Resumed
from colo_fsm.membership.shadow import PIECE, Copied, joined
from colo_fsm.replica import Checkpoint, DirectoryStore, MemoryStore, Saved, Store
from colo_fsm.stream import PAGE_SIZE, ZERO_PAGE, Delta, Page

BLOCKS = {"ram": 2 * PIECE}
LAST = 2 * PIECE - PAGE_SIZE


def page(letter: str) -> bytes:
    return letter.encode() * PAGE_SIZE


def delta(**pages: str) -> Delta:
    made = Delta()
    for at, letter in pages.items():
        made.put("ram", int(at.removeprefix("at")), page(letter))
    return made


@pytest.fixture(params=["memory", "directory"])
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Copied]:
    kept: Store = MemoryStore() if request.param == "memory" else DirectoryStore(tmp_path)
    with kept as store:
        sink = store.begin(BLOCKS)
        sink.put("ram", 0, page("a"))
        sink.put("ram", LAST, page("z"))
        store.complete(7, b"first")
        yield Copied(store)


def content(saved: Saved) -> dict[int, bytes]:
    return {found.offset: bytes(found.data) for found in saved.pages}


def test_a_copy_is_of_one_moment_though_rounds_go_on(copied: Copied) -> None:
    saved = copied.whole()
    pages = iter(saved.pages)
    first = next(pages)
    copied.commit(delta(at0="b", **{f"at{LAST}": "y"}), b"second")
    copied.commit(delta(**{f"at{LAST}": "x", f"at{PIECE}": "n"}), b"third")
    rest = list(pages)
    assert {p.offset: p.data for p in [first, *rest]} == {0: page("a"), LAST: page("z")}
    assert saved.device == b"first"
    after = copied.since()
    assert content(after) == {0: page("b"), PIECE: page("n"), LAST: page("x")}
    assert after.device == b"third"
    assert content(copied.since()) == {}


def test_two_saves_as_one_have_the_later_page() -> None:
    both = joined(
        Saved([Page("ram", 0, b"1"), Page("ram", 4096, b"1")], b"a"), Saved([Page("ram", 0, b"2")], b"b", 5)
    )
    assert (content(both), both.device, both.used) == ({0: b"2", 4096: b"1"}, b"b", 5)


class Guest:
    """Some pages."""

    def __init__(self, pages: dict[int, bytes]) -> None:
        self.blocks = BLOCKS
        self.pages = pages

    def suspend(self) -> None: ...

    def resume(self) -> None: ...

    def save(self, full: bool) -> Saved:
        return Saved([Page("ram", at, data) for at, data in self.pages.items()], b"saved")

    def load(self, checkpoint: Checkpoint) -> None: ...


def kept_anew(copied: Copied, guest: Guest) -> list[int]:
    """Let this guest have a generation of its own in the store; the places that were written for it."""
    saved = _Resumed(guest, copied).save(full=True)
    sink = copied.begin(BLOCKS)
    for each in saved.pages:
        sink.put(*each)
    copied.complete(8, saved.device)
    return [each.offset for each in saved.pages]


def test_what_the_store_has_is_not_written_again(copied: Copied) -> None:
    many = {at: page("m") for at in range(PAGE_SIZE, 8 * PAGE_SIZE, PAGE_SIZE)}
    copied.commit(delta(**{f"at{at}": "m" for at in many}), b"")
    guest = Guest({0: page("changed"[0]), **many})  # its last page is not in use any more
    assert kept_anew(copied, guest) == [0, LAST]
    newest = copied.newest
    assert newest is not None
    assert (newest.generation, newest.number, newest.device) == (8, 0, b"saved")
    whole = {at: bytes(newest.blocks["ram"][at : at + PAGE_SIZE]) for at in range(0, 2 * PIECE, PAGE_SIZE)}
    assert {at: data for at, data in whole.items() if data != ZERO_PAGE} == guest.pages


def test_where_much_differs_all_of_it_is_copied(copied: Copied) -> None:
    guest = Guest({0: page("n"), LAST: page("z")})
    assert kept_anew(copied, guest) == [0, LAST]
    assert not copied.in_place
    newest = copied.newest
    assert newest is not None
    assert (newest.generation, newest.number) == (8, 0)


def test_a_generation_in_place_survives_its_process(tmp_path: Path) -> None:
    with DirectoryStore(tmp_path) as store:
        store.begin(BLOCKS).put("ram", 0, page("a"))
        store.complete(7, b"first")
        store.commit(delta(at0="b"), b"second")
        store.renew(9, delta(at0="c"), b"third")
        store.commit(delta(at4096="d"), b"fourth")
    with DirectoryStore(tmp_path) as again:
        newest = again.newest
        assert newest is not None
        assert (newest.generation, newest.number, newest.device) == (9, 1, b"fourth")
        assert bytes(newest.blocks["ram"][: 2 * PAGE_SIZE]) == page("c") + page("d")
