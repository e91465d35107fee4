"""`StateGuest`: any object with a `bytes` state as a guest."""

from __future__ import annotations

import random
import struct
import zlib

import attrs
import pytest
from replicas import AsyncCounting, Counting

from colo_fsm.replica import AsyncGuest, CapacityExceeded, Checkpoint, Guest, MemoryStore, StateGuest
from colo_fsm.replica.guest import DamagedState, state_in
from colo_fsm.stream import PAGE_SIZE, Delta


class Service:
    def __init__(self, state: bytes = b"") -> None:
        self.state = state
        self.failing = False

    def get_state(self) -> bytes:
        return self.state

    def set_state(self, state: bytes) -> None:
        if self.failing:
            raise ValueError("not now")
        self.state = state


class Twin:
    """A guest, the store that gets what it saves, and a second guest that loads it."""

    def __init__(self, state: bytes, capacity: int = 8 * PAGE_SIZE) -> None:
        self.service = Service(state)
        self.other = Service(b"old")
        self.guest, self.loads = StateGuest(self.service, capacity), StateGuest(self.other, capacity)
        self.store = MemoryStore()
        saved = self.guest.save(True)
        sink = self.store.begin(self.guest.blocks)
        for page in saved.pages:
            sink.put(*page)
        self.store.complete(1, saved.device)

    def round(self, lost: int | None = None) -> int:
        """Save and commit what changed, but this page; how many pages that were."""
        saved = self.guest.save(False)
        self.delta = Delta()
        for page in saved.pages:
            if page.offset != lost:
                self.delta.put(*page)
        self.store.commit(self.delta, saved.device)
        return len(self.delta)

    def change(self, *pages: int) -> None:
        """Change a byte of these."""
        state = bytearray(self.service.state)
        for number in pages:
            state[number * PAGE_SIZE] ^= 1
        self.service.state = bytes(state)

    def loaded(self, *, told: bool = False) -> bytes:
        """What the other has loaded; `told`: what has changed since it did so last, which is the round."""
        newest = self.store.newest
        assert newest is not None
        self.loads.load(attrs.evolve(newest, changed=self.delta.ranges() if told else None))
        return self.other.state


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 8 * PAGE_SIZE])
def test_what_is_saved_is_loaded(size: int) -> None:
    twin = Twin(random.Random(size).randbytes(size))
    assert twin.loaded() == twin.service.state


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE + 1, 8 * PAGE_SIZE])
def test_a_stored_state_is_told_without_a_guest(size: int) -> None:
    twin = Twin(random.Random(size).randbytes(size))
    newest = twin.store.newest
    assert newest is not None
    assert state_in(newest) == twin.service.state
    length, checksum = struct.unpack(">QQ", newest.device)
    with pytest.raises(DamagedState):
        state_in(attrs.evolve(newest, device=struct.pack(">QQ", length, checksum + 1)))
    for another in (
        {"device": newest.device + b"\0"},
        {"device": struct.pack(">QQ", 8 * PAGE_SIZE + 1, checksum)},
        {"blocks": {"ram": newest.blocks["state"]}},
        {"blocks": {**newest.blocks, "ram": memoryview(b"")}},
    ):
        assert state_in(attrs.evolve(newest, **another)) is None


def test_only_changed_pages_travel() -> None:
    twin = Twin(bytes([1]) * 8 * PAGE_SIZE)
    assert twin.round() == 0
    state = bytearray(twin.service.state)
    state[0] = state[5 * PAGE_SIZE] = state[6 * PAGE_SIZE - 1] = 2
    twin.service.state = bytes(state)
    assert twin.round() == 2
    assert twin.loaded() == state


@pytest.mark.parametrize("told", [False, True])
def test_any_history_is_loaded(told: bool) -> None:
    """Growing, shrinking, growing again over what was there before, and pages of zeros."""
    rng = random.Random(1)
    twin = Twin(b"")
    for _ in range(200):
        size = rng.choice([0, 1, 4095, 4096, 4097, rng.randrange(8 * PAGE_SIZE), 8 * PAGE_SIZE])
        state = bytearray(twin.service.state[:size].ljust(size, b"\0"))
        for _ in range(rng.randrange(3)):
            at = rng.randrange(8 * PAGE_SIZE)
            state[at : at + 10] = rng.randbytes(10)[: max(0, size - at)]
        twin.service.state = bytes(state[:size])
        twin.round()
        assert twin.loaded(told=told) == twin.service.state


def test_a_load_looks_at_what_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = Twin(random.Random(3).randbytes(8 * PAGE_SIZE))
    twin.loaded()
    looked_at, checksum = list[int](), zlib.crc32

    def noted(page: bytes, number: int) -> int:
        looked_at.append(number)
        return checksum(page, number)

    monkeypatch.setattr(zlib, "crc32", noted)
    twin.change(5)
    twin.round()
    assert twin.loaded(told=True) == twin.service.state
    assert looked_at == [5, 5], "once to save it, once to load it"


@pytest.mark.parametrize("lost", [0, 7])
def test_a_page_that_went_missing_is_noticed_by_who_looks_at_the_others_only(lost: int) -> None:
    """And what comes next is looked at whole: what that load has left is no measure."""
    twin = Twin(random.Random(3).randbytes(8 * PAGE_SIZE))
    twin.loaded()
    twin.change(0, 7)
    assert twin.round(lost * PAGE_SIZE) == 1
    with pytest.raises(DamagedState):
        twin.loaded(told=True)
    twin.change(lost)
    twin.round()
    newest = twin.store.newest
    assert newest is not None
    memory = bytearray(newest.blocks["state"])
    memory[3 * PAGE_SIZE] ^= 1
    damaged = attrs.evolve(newest, blocks={"state": memoryview(memory)}, changed=twin.delta.ranges())
    with pytest.raises(DamagedState):
        twin.loads.load(damaged)
    assert twin.loaded(told=True) == twin.service.state


def test_a_service_that_fails_to_become_it_is_given_all_of_the_next() -> None:
    twin = Twin(bytes(8 * PAGE_SIZE))
    twin.loaded()
    twin.other.failing = True
    twin.service.state = b"1" + bytes(8 * PAGE_SIZE - 1)
    twin.round()
    with pytest.raises(ValueError, match="not now"):
        twin.loaded(told=True)
    twin.other.failing = False
    twin.service.state = b"12" + bytes(8 * PAGE_SIZE - 2)
    twin.round()
    assert twin.loaded(told=True) == twin.service.state


def test_the_same_object_again_is_not_looked_at() -> None:
    """A state that nobody has changed costs nothing, and one of the same content no page."""
    twin = Twin(random.Random(4).randbytes(8 * PAGE_SIZE))
    assert twin.round() == 0
    twin.service.state = bytes(bytearray(twin.service.state))
    assert twin.round() == 0


def test_a_large_state() -> None:
    """Larger than the pieces that are compared at once."""
    capacity = 200 * PAGE_SIZE
    twin = Twin(random.Random(2).randbytes(capacity - 5), capacity)
    state = bytearray(twin.service.state)
    for at in (0, 64 * PAGE_SIZE - 1, 64 * PAGE_SIZE, 128 * PAGE_SIZE, capacity - 6):
        state[at] ^= 255
    twin.service.state = bytes(state)
    assert twin.round() == 5
    assert twin.loaded() == state


def test_a_full_save_forgets_what_was_saved_before() -> None:
    guest = StateGuest(Service(b"a" * 2 * PAGE_SIZE), 2 * PAGE_SIZE)
    assert len(list(guest.save(True).pages)) == 2
    assert len(list(guest.save(True).pages)) == 2
    assert len(list(guest.save(False).pages)) == 0


@pytest.mark.parametrize(("capacity", "pages"), [(1, 1), (PAGE_SIZE, 1), (PAGE_SIZE + 1, 2)])
def test_capacity_is_whole_pages(capacity: int, pages: int) -> None:
    assert StateGuest(Service(), capacity).blocks == {"state": pages * PAGE_SIZE}


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_that_cannot_be(capacity: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        StateGuest(Service(), capacity)


@pytest.mark.parametrize("full", [True, False])
def test_an_outgrown_capacity_says_what_to_do(full: bool) -> None:
    guest = StateGuest(Service(bytes(PAGE_SIZE + 1)), 10)
    with pytest.raises(CapacityExceeded, match=r"4097 bytes.*4096.*larger capacity"):
        guest.save(full)


def test_a_buffer_that_the_service_goes_on_using() -> None:
    """Compared with itself it never changes: every later change would be lost without a word."""
    service = Service()
    service.state = bytearray(b"before")  # type: ignore[assignment]
    guest = StateGuest(service, 10)
    try:
        guest.save(True)
        service.state[:] = b"behind"  # type: ignore[index]
        pages = list(guest.save(False).pages)
    except TypeError:
        return  # refused is as good
    assert [bytes(page.data[:6]) for page in pages] == [b"behind"]


def test_loading_what_another_guest_saved() -> None:
    guest = StateGuest(Service(b"kept"), 10)
    blocks = {"state": memoryview(bytes(PAGE_SIZE))}
    with pytest.raises(struct.error):
        guest.load(Checkpoint(1, 0, blocks, b"short", {}))


@pytest.mark.parametrize("fault", ["changed", "missing", "exchanged", "shorter"])
def test_a_state_that_did_not_arrive_as_it_was_saved_is_refused(fault: str) -> None:
    """And the next one that did is taken."""
    service, other = Service(b"a" * PAGE_SIZE + b"b" * PAGE_SIZE + b"c"), Service(b"old")
    guest, twin = StateGuest(service, 3 * PAGE_SIZE), StateGuest(other, 3 * PAGE_SIZE)
    saved = guest.save(True)
    good = b"".join(bytes(page.data) for page in saved.pages)
    a, b, rest = good[:PAGE_SIZE], good[PAGE_SIZE : 2 * PAGE_SIZE], good[2 * PAGE_SIZE :]
    bad = {
        "changed": a[:-1] + b"A" + b + rest,
        "missing": a + bytes(PAGE_SIZE) + rest,
        "exchanged": b + a + rest,
        "shorter": a + b + bytes(PAGE_SIZE),
    }[fault]
    for memory in bad, good, bad, good:
        newest = Checkpoint(1, 0, {"state": memoryview(memory)}, saved.device, {})
        if memory is bad:
            with pytest.raises(DamagedState, match="start both sides again"):
                twin.load(newest)
        else:
            twin.load(newest)
            assert other.state == service.state


def test_the_protocols_are_checked_at_run_time() -> None:
    assert isinstance(StateGuest(Service(), 1), Guest)
    assert isinstance(Counting(), Guest)
    assert isinstance(AsyncCounting(), AsyncGuest)
    assert not isinstance(Service(), Guest)
