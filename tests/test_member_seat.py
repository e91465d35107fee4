"""A member's directory, and what it says of itself at the register, also when somebody is faster."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from store_process import delta

from colo_fsm.arbiter import ArbiterUnreachable, Claim, GenerationClaimed, UnknownGeneration
from colo_fsm.arbiter.register import Entry
from colo_fsm.fsm import Side
from colo_fsm.membership.record import Finding, Member, Phase, Point, Record, begun
from colo_fsm.membership.seat import Refused, Seat, Standing
from colo_fsm.replica.store.base import StoreError
from colo_fsm.replica.store.directory import DirectoryStore
from colo_fsm.replica.store.disk import Disk
from colo_fsm.stream.memory import PAGE_SIZE

B = Member("b", "2")
BIG = 1 << 60
"""A generation above all that a clock gives."""


@attrs.define
class Memory:
    """A register that forgets with us. `meanwhile` happens once, between a read and the swap after it."""

    local_only = True
    entry: Entry | None = None
    swaps: int = 0
    meanwhile: Callable[[], None] = lambda: None

    def read(self) -> Entry | None:
        return self.entry

    def swap(self, version: int | None, value: str) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        if (None if self.entry is None else self.entry.version) != version:
            return False
        self.put(value)
        return True

    def put(self, value: Record | str) -> None:
        self.swaps += 1
        text = value if isinstance(value, str) else value.encode()
        self.entry = Entry(text, 1 if self.entry is None else self.entry.version + 1)


@attrs.frozen
class Desk:
    """A member `a` with a store and a register."""

    register: Memory
    seat: Seat
    standing: Standing

    @property
    def me(self) -> Member:
        return self.seat.me

    def stores(self, generation: int, number: int = 0, id: str = "set") -> None:
        self.seat.belongs_to(id)
        fill(self.seat, generation, number)

    def put(self, record: Record) -> None:
        self.register.put(record)

    @property
    def record(self) -> Record:
        assert self.register.entry is not None
        return Record.decode(self.register.entry.value)


def fill(seat: Seat, generation: int, number: int = 0) -> None:
    seat.store.begin({"ram": PAGE_SIZE}).put("ram", 0, b"\x5a" * PAGE_SIZE)
    seat.store.complete(generation, b"")
    for _ in range(number):
        seat.store.commit(delta(("ram", 0, b"\x5b" * PAGE_SIZE)), b"")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    register, seat = Memory(), Seat(tmp_path / "a", "a")
    return Desk(register, seat, Standing(register, seat))


# -- the directory -----------------------------------------------------------------------------------


def test_a_seat_is_the_same_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a"
    seat = Seat(path, "a")
    assert (seat.id, seat.point, seat.me.name, len(seat.me.seat)) == (None, None, "a", 32)
    assert path.stat().st_mode & 0o777 == 0o700
    seat.belongs_to("set")
    fill(seat, 7, 2)
    seat.close()
    again = Seat(path, "a")
    assert (again.me, again.id, again.point) == (seat.me, "set", Point("set", 7, 2))
    assert {entry.name for entry in path.iterdir()} == {"member.json", "store"}
    assert Seat(tmp_path / "b", "a").me != seat.me


def test_a_seat_is_one_members_and_one_processs(tmp_path: Path) -> None:
    seat = Seat(tmp_path, "a")
    with pytest.raises(StoreError, match="in use"):
        Seat(tmp_path, "a")
    seat.close()
    for _ in range(2):
        with pytest.raises(StoreError, match="is the member a's: start it with --name a"):
            Seat(tmp_path, "b")
    Seat(tmp_path, "a")


@pytest.mark.parametrize("text", ["", "[]", '{"name": "a"}', "not JSON"])
def test_a_damaged_seat_says_so_and_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    Seat(tmp_path, "a").close()
    (tmp_path / "member.json").write_text(text)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"member\.json is damaged .* name another directory"):
            Seat(tmp_path, "a")
    assert (tmp_path / "member.json").read_text() == text


def test_what_is_thrown_away_is_gone_and_the_seat_is_the_same(tmp_path: Path) -> None:
    seat = Seat(tmp_path, "a")
    seat.belongs_to("set")
    fill(seat, 7)
    seat.clear()
    assert (seat.point, seat.id) == (None, None)
    fill(seat, 8)
    seat.close()
    again = Seat(tmp_path, "a")
    assert again.me == seat.me
    assert again.point == Point("", 8, 0)


def test_a_store_that_has_closed_itself_is_opened_again(tmp_path: Path) -> None:
    seat = Seat(tmp_path, "a")
    seat.belongs_to("set")
    fill(seat, 7)
    seat.store.close()
    seat.reopen()
    assert seat.point == Point("set", 7, 0)
    seat.reopen()
    assert seat.point == Point("set", 7, 0)


@pytest.mark.parametrize(
    ("given", "fsync"), [({"fsync": True}, True), ({"fsync": False}, False), ({}, False)]
)
def test_every_store_of_a_seat_is_as_safe_as_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], fsync: bool
) -> None:
    asked: list[bool] = []

    class Store(DirectoryStore):
        def __init__(self, path: Path, *, fsync: bool, disk: Disk) -> None:
            asked.append(fsync)
            super().__init__(path, fsync=fsync, disk=disk)

    monkeypatch.setattr("colo_fsm.membership.seat.DirectoryStore", Store)
    seat = Seat(tmp_path, "a", **given)
    seat.reopen()
    seat.clear()
    assert asked == [fsync] * 3


# -- looking -----------------------------------------------------------------------------------------


def test_looking_goes_by_the_record_and_the_store(desk: Desk) -> None:
    assert desk.standing.look() == (Finding.BEGIN, None)
    assert desk.standing.local_only
    desk.put(Record("set", Phase.ALONE, desk.me, 5, stored=True))
    assert desk.standing.look() == (Finding.MISSING, desk.record)
    desk.stores(5)
    assert desk.standing.look() == (Finding.GO_ON, desk.record)


def test_a_record_that_is_none_is_no_answer(desk: Desk) -> None:
    desk.register.put("{}")
    with pytest.raises(ArbiterUnreachable, match="no record of a data set"):
        desk.standing.look()


# -- changing ----------------------------------------------------------------------------------------


def test_a_data_set_is_begun_once(desk: Desk) -> None:
    assert desk.standing.begin()
    first = desk.record
    assert (first.phase, first.holder, len(first.id)) == (Phase.NEW, desk.me, 32)
    assert not desk.standing.begin()
    assert desk.record == first


def test_a_change_is_made_again_where_somebody_was_faster(desk: Desk) -> None:
    desk.put(begun("set", desk.me))
    desk.register.meanwhile = lambda: desk.put(attrs.evolve(desk.record, token=9))
    after = desk.standing.change(lambda record: attrs.evolve(record, begun=3))
    assert after == desk.record == attrs.evolve(begun("set", desk.me), begun=3, token=9)


def test_a_change_is_refused_without_a_record_and_where_it_is_not_allowed(desk: Desk) -> None:
    with pytest.raises(Refused):
        desk.standing.change(lambda record: record)
    desk.put(Record("set", Phase.PAIRED, B, 5))
    with pytest.raises(Refused, match="says otherwise by now: paired"):
        desk.standing.take()


def test_what_stays_the_same_is_not_written(desk: Desk) -> None:
    desk.put(begun("set", B))
    assert desk.standing.change(lambda record: record) == begun("set", B)
    assert desk.register.swaps == 1


def test_insisting_gives_way_to_whoever_was_faster(desk: Desk) -> None:
    desk.standing.insist(Point("set", 5, 1))
    assert desk.record == Record("set", Phase.ALONE, desk.me, 5, stored=True, begun=5)
    desk.register.meanwhile = lambda: desk.put(begun("other", B))
    with pytest.raises(Refused, match="changed meanwhile"):
        desk.standing.insist(Point("set", 6, 1))
    assert desk.record == begun("other", B)
    desk.standing.insist(Point("set", 6, 1))
    assert desk.record.generation == 6


@pytest.mark.parametrize(
    ("record", "stored"),
    [
        (None, BIG),
        (Record("set", Phase.ALONE, B, BIG, begun=1), None),
        (Record("set", Phase.ALONE, B, 1, begun=BIG), None),
        (Record("set", Phase.ALONE, B, 1, begun=1), BIG),
    ],
)
def test_a_new_generation_is_above_all_that_anybody_has(
    desk: Desk, record: Record | None, stored: int | None
) -> None:
    if record is not None:
        desk.put(record)
    if stored is not None:
        desk.stores(stored)
    assert desk.standing.next_generation(desk.standing.read()) == BIG + 1


def test_a_store_that_begins_to_keep_belongs_to_the_records_data_set(desk: Desk) -> None:
    desk.put(Record("set", Phase.ALONE, desk.me, BIG))
    assert desk.standing.begin_to_keep() == BIG + 1
    assert desk.seat.id == "set"


def test_a_store_does_not_begin_to_keep_what_the_record_does_not_let_it(desk: Desk) -> None:
    """Else it would be ahead of the record afterwards, and wait for a person."""
    paired = Record("set", Phase.PAIRED, desk.me, 5, mate=B, begun=5)
    for found in (None, paired, Record("set", Phase.ALONE, B, 5, begun=5)):
        if found is not None:
            desk.put(found)
        with pytest.raises(Refused, match="otherwise by now"):
            desk.standing.begin_to_keep()
        assert desk.seat.id is None


def test_keeping_succeeding_and_giving_back(desk: Desk) -> None:
    desk.put(Record("set", Phase.PAIRED, B, 5, mate=desk.me, begun=5, token=BIG))
    assert desk.standing.succeed(5) == Record(
        "set", Phase.ALONE, desk.me, 5, stored=True, mate=B, begun=5, token=BIG + 1
    )
    assert desk.standing.keep(6).token == BIG + 2
    assert (desk.record.generation, desk.record.stored) == (6, True)
    with pytest.raises(Refused):
        desk.standing.give_back()
    desk.put(Record("set", Phase.ALONE, desk.me, 5, stored=False, mate=B))
    assert desk.standing.give_back().holder == B


def test_handing_over_again_after_a_lost_answer_is_no_error(desk: Desk) -> None:
    desk.put(Record("set", Phase.PAIRED, desk.me, 5, mate=B))
    for _ in range(2):
        assert desk.standing.hand_over() == Record("set", Phase.VACANT, B, 5, stored=True, mate=desk.me)
    desk.put(Record("set", Phase.ALONE, B, 5, mate=Member("c", "3")))
    with pytest.raises(Refused):
        desk.standing.hand_over()


def test_a_data_set_that_nobody_has_used_is_taken_over(desk: Desk) -> None:
    desk.put(begun("set", B))
    assert desk.standing.take().holder == desk.me


# -- what a pair asks --------------------------------------------------------------------------------


def test_a_generation_is_opened_checked_copied_and_protected(desk: Desk) -> None:
    desk.put(Record("set", Phase.NEW, desk.me, begun=BIG))
    assert desk.standing.open() == BIG + 1 == desk.record.begun
    desk.put(attrs.evolve(desk.record, guest=B))
    for _ in range(2):  # the answer may be lost
        desk.standing.protect(BIG + 1)
        assert desk.record == Record("set", Phase.PAIRED, desk.me, BIG + 1, mate=B, begun=BIG + 1)
    with pytest.raises(Refused):
        desk.standing.protect(BIG)
    with pytest.raises(Refused):
        desk.standing.open()


@pytest.mark.parametrize(
    "changed",
    [
        lambda paired: attrs.evolve(paired, phase=Phase.ALONE),
        lambda paired: attrs.evolve(paired, holder=B),
        lambda paired: attrs.evolve(paired, generation=6),
    ],
    ids=["alone", "another's", "another generation"],
)
def test_another_pair_is_not_taken_for_the_protected_one(
    desk: Desk, changed: Callable[[Record], Record]
) -> None:
    desk.put(changed(Record("set", Phase.PAIRED, desk.me, 5, mate=B, begun=5)))
    with pytest.raises(Refused):
        desk.standing.protect(5)


def test_before_anything_is_overwritten_the_secondary_looks_once_more(desk: Desk) -> None:
    with pytest.raises(UnknownGeneration):
        desk.standing.check(6)
    desk.put(Record("set", Phase.ALONE, B, 5, stored=True, begun=6))
    with pytest.raises(UnknownGeneration):
        desk.standing.check(5)
    desk.stores(7, 1)
    with pytest.raises(GenerationClaimed):
        desk.standing.check(6)
    assert desk.register.swaps == 1
    desk.seat.clear()
    desk.standing.check(6)
    assert desk.record.guest == desk.me
    assert desk.seat.id == "set"


def test_a_claim_is_won_once_and_the_other_hears_who_has_won(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(UnknownGeneration):
        desk.standing.claim(5, Side.PRIMARY)
    other = Standing(desk.register, Seat(tmp_path / "b", "b"))
    desk.put(Record("set", Phase.PAIRED, desk.me, 5, mate=other.me, begun=5, token=BIG))
    for _ in range(2):
        assert other.claim(5, Side.SECONDARY) == Claim(Side.SECONDARY, BIG + 1)
        assert desk.standing.claim(5, Side.PRIMARY) == Claim(Side.SECONDARY, BIG + 1)
    assert desk.record.stored


def test_of_a_pair_that_never_counted_the_holder_goes_on(desk: Desk) -> None:
    desk.put(Record("set", Phase.ALONE, desk.me, 5, stored=True, begun=6, token=3))
    assert desk.standing.claim(6, Side.PRIMARY) == Claim(Side.PRIMARY, 3)


@pytest.mark.parametrize(("fsync", "synced"), [(True, ["file", "folder"]), (False, [])])
def test_which_data_set_it_is_survives_a_power_cut_with_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool, synced: list[str]
) -> None:
    """The file before it gets its name, the folder after."""
    seat = Seat(tmp_path, "a", fsync=fsync)
    done: list[str] = []

    def sync(number: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        named = json.loads((tmp_path / "member.json").read_text())["set"] == "set"
        assert named == (done[-1] == "folder")

    monkeypatch.setattr(os, "fsync", sync)
    seat.belongs_to("set")
    assert done == synced
