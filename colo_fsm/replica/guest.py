"""What is replicated: a guest is RAM blocks of declared capacity plus a device state.

Write a class with these four methods (or four coroutines), or hand any object whose state is a
`bytes` to `StateGuest`.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, wraps
from inspect import iscoroutinefunction
from io import BytesIO
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

import attrs

from colo_fsm.stream.memory import PAGE_SIZE, Blocks, Page

from .store.base import Checkpoint

QUICK_STATE = 256 << 10
"""Bytes that are compared, summed and copied in less time than another thread takes to begin with it."""

_DEVICE = struct.Struct(">QQ")
_PIECE = 64 * PAGE_SIZE


@attrs.frozen
class Saved:
    """What a guest saves: the pages that changed since the last save, and its device state, whole.

    The pages are asked for while the guest is suspended, one at a time and once: a generator holds no second
    image. `used`: how many bytes of the capacity of its blocks are in use, where a guest can outgrow them.
    """

    pages: Iterable[Page]
    device: bytes
    used: int | None = None


@runtime_checkable
class Guest(Protocol):
    """A guest whose hooks block. Both sides of a pair need one that declares the same blocks.

    The hooks are called by the driver, one at a time, and not on the event loop. A hook that raises
    breaks the pair (`GuestFailed`): the side fails over.
    """

    @property
    def blocks(self) -> Blocks:
        """The RAM blocks: name to capacity in bytes, a multiple of PAGE_SIZE. Fixed for life."""

    def suspend(self) -> None:
        """Stop changing. No turn is open when this is called."""

    def resume(self) -> None:
        """Run (again)."""

    def save(self, full: bool) -> Saved:
        """The state now, while suspended. `full`: every page in use, not the changed ones only.

        Pages that were never saved are zero. The pages must stay as they are until it is resumed.
        """

    def load(self, checkpoint: Checkpoint) -> None:
        """Become this checkpoint, while suspended: at least what it says has `changed`.

        Its memory is valid during the call only.
        """


@runtime_checkable
class AsyncGuest(Protocol):
    """The same with coroutines, called on the event loop. For the asyncio driver."""

    @property
    def blocks(self) -> Blocks:
        """See `Guest.blocks`."""

    async def suspend(self) -> None:
        """See `Guest.suspend`."""

    async def resume(self) -> None:
        """See `Guest.resume`."""

    async def save(self, full: bool) -> Saved:
        """See `Guest.save`."""

    async def load(self, checkpoint: Checkpoint) -> None:
        """See `Guest.load`."""


HookT = TypeVar("HookT", bound=Callable[..., Any])


@overload
def quick(hook: HookT) -> HookT: ...


@overload
def quick(*, when: Callable[..., bool]) -> Callable[[HookT], HookT]: ...


def quick(hook: Any = None, *, when: Callable[..., bool] | None = None) -> Any:
    """Say of a hook that it returns at once and waits for nothing: a decorator for the hooks of a `Guest`.

    It is called where its turn comes, on the event loop too, which saves two switches of threads. Nobody can
    go on without one that hangs all the same: no `hook_deadline` holds for it. `@quick(when=f)`: where `f`,
    asked with the hook's own arguments just before, says so; it must return at once itself. Raises TypeError
    for a coroutine function, which is on the loop as it is.
    """
    if hook is None:
        return partial(quick, when=when)
    if iscoroutinefunction(hook):
        raise TypeError(f"{hook.__name__} is a coroutine function: it is called on the event loop as it is")

    @wraps(hook)
    def at_once(*args: Any, **kwargs: Any) -> Any:
        return hook(*args, **kwargs)

    vars(at_once)["quick"] = True if when is None else when
    return at_once


def is_quick(hook: Callable[..., Any], *args: Any) -> bool:
    """Whether this hook was said to be, called with these."""
    said = getattr(hook, "quick", False)
    if said is True or not callable(said):
        return said is True
    owner = getattr(hook, "__self__", None)
    return bool(said(*args) if owner is None else said(owner, *args))


class BytesState(Protocol):
    """Any object that can hand out its whole state and take it back."""

    def get_state(self) -> bytes:
        """The whole state now."""

    def set_state(self, state: bytes) -> None:
        """Become this state."""


class CapacityExceeded(ValueError):
    """The state has outgrown the declared capacity; nothing of it was sent."""


class DamagedState(ValueError):
    """What arrived is not what the Primary saved; the guest has not become it."""


class StateGuest:
    """A guest made of any object with `get_state` and `set_state`.

    `capacity` is the most bytes that its state may ever have (rounded up to whole pages). Changed
    pages are found by comparing with the last saved state, which is kept: a save costs one compare of the
    whole (nothing where `get_state` returns the same object again), a load one copy. The length in use and
    a checksum of the whole, which costs what has changed, travel as the device state: a page that went
    missing on the way is noticed without asking the state.

    Up to QUICK_STATE bytes, save and load are `quick` where the service's `get_state` and `set_state` are.
    """

    BLOCK = "state"

    def __init__(self, service: BytesState, capacity: int) -> None:
        if capacity <= 0:
            raise ValueError(f"capacity must be positive, not {capacity}")
        self.service = service
        self.blocks: Blocks = {self.BLOCK: -(-capacity // PAGE_SIZE) * PAGE_SIZE}
        self._small = capacity <= QUICK_STATE
        self._saved, self._saved_sums = b"", _Sums()
        self._loaded_sums: _Sums | None = None
        """Of the checkpoint that was loaded last; None once a load has failed."""

    @quick
    def suspend(self) -> None:
        """Nothing to do: the state changes in turns only, and none is open."""

    @quick
    def resume(self) -> None:
        """Nothing to do."""

    def _saves_at_once(self, _: bool) -> bool:
        return self._small and is_quick(self.service.get_state)

    def _loads_at_once(self, _: Checkpoint) -> bool:
        return self._small and is_quick(self.service.set_state)

    @quick(when=_saves_at_once)
    def save(self, full: bool) -> Saved:
        """See `Guest.save`. Raises CapacityExceeded."""
        state = bytes(self.service.get_state())
        capacity = self.blocks[self.BLOCK]
        if len(state) > capacity:
            raise CapacityExceeded(
                f"the state has {len(state)} bytes, the declared capacity is {capacity}: "
                "start both sides with a larger capacity"
            )
        if full:
            self._saved, self._saved_sums = b"", _Sums()
        changed, self._saved = _changed(self._saved, state), state
        self._saved_sums.add(memoryview(state), changed)
        device = _DEVICE.pack(len(state), self._saved_sums.total)
        pages = self._pages(state, changed)
        return Saved(pages if full else list(pages), device, len(state))

    def _pages(self, state: bytes, places: Iterable[int]) -> Iterator[Page]:
        """One at a time: of a first copy they would take a tenth of the state. The last is filled up."""
        view = memoryview(state)
        for at in places:
            page = view[at : at + PAGE_SIZE]
            whole = len(page) == PAGE_SIZE
            yield Page(self.BLOCK, at, page if whole else bytes(page).ljust(PAGE_SIZE, b"\0"))

    @quick(when=_loads_at_once)
    def load(self, checkpoint: Checkpoint) -> None:
        """See `Guest.load`. Raises DamagedState."""
        length, checksum = _DEVICE.unpack(checkpoint.device)
        state = checkpoint.blocks[self.BLOCK][:length]
        sums, self._loaded_sums = self._loaded_sums, None
        if checkpoint.changed is None or sums is None:
            sums = _Sums()
            sums.add(state, range(0, len(state), PAGE_SIZE))
        else:
            ranges = checkpoint.changed.get(self.BLOCK, ())
            sums.add(state, (at for start, size in ranges for at in range(start, start + size, PAGE_SIZE)))
        if sums.total != checksum:
            raise DamagedState("the state that arrived is not the one that was saved: start both sides again")
        self.service.set_state(_copied(state))
        self._loaded_sums = sums


def state_in(checkpoint: Checkpoint) -> bytes | None:
    """The state of a `StateGuest` in this checkpoint; None: another guest's. Raises DamagedState."""
    if checkpoint.blocks.keys() != {StateGuest.BLOCK} or len(checkpoint.device) != _DEVICE.size:
        return None
    length, checksum = _DEVICE.unpack(checkpoint.device)
    block = checkpoint.blocks[StateGuest.BLOCK]
    if length > len(block):
        return None
    sums = _Sums()
    sums.add(block[:length], range(0, length, PAGE_SIZE))
    if sums.total != checksum:
        raise DamagedState("the state in it is not the one that was saved")
    return bytes(block[:length])


class _Sums:
    """A checksum of a state that costs what has changed.

    It is the sum of those of the pages, each begun with its number, so that pages that change places are
    noticed.
    """

    def __init__(self) -> None:
        self._pages = array("I")
        self.total = 0

    def add(self, state: memoryview, places: Iterable[int]) -> None:
        """It is the one of `state` now, in which the pages at these offsets are new."""
        count = -(-len(state) // PAGE_SIZE)
        self.total -= sum(self._pages[count:])
        del self._pages[count:]
        self._pages.frombytes(bytes((count - len(self._pages)) * self._pages.itemsize))
        for at in places:
            number = at // PAGE_SIZE
            if number < count:
                fresh = zlib.crc32(state[at : at + PAGE_SIZE], number)
                self.total += fresh - self._pages[number]
                self._pages[number] = fresh


def _copied(state: memoryview) -> bytes:
    """A copy in pieces, between which other threads run, an event loop's too."""
    copy = BytesIO()
    for at in range(0, len(state), _PIECE):
        copy.write(state[at : at + _PIECE])
    return copy.getvalue()


def _changed(before: bytes, now: bytes) -> Sequence[int]:
    """The offsets of the pages of `now` that are new.

    A large piece is compared first, in place (memcmp): most of a state does not change.
    """
    if not before:
        return range(0, len(now), PAGE_SIZE)
    changed: list[int] = []
    if before is now:
        return changed
    view = memoryview(now)

    def same(start: int, end: int) -> bool:
        as_long = min(end, len(before)) == min(end, len(now))
        return as_long and before.startswith(view[start:end], start)

    for start in range(0, len(now), _PIECE):
        if not same(start, start + _PIECE):
            end = min(start + _PIECE, len(now))
            changed += (at for at in range(start, end, PAGE_SIZE) if not same(at, at + PAGE_SIZE))
    return changed
