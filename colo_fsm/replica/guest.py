"""What is replicated: a guest is RAM blocks of declared capacity plus a device state.

Write a class with these four methods (or four coroutines), or hand any object whose state is a
`bytes` to `StateGuest`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import attrs

from colo_fsm.stream.memory import PAGE_SIZE, Blocks, Buffer, Page

from .store.base import Checkpoint

_DEVICE = struct.Struct(">QQ")


@attrs.frozen
class Saved:
    """What a guest saves: the pages that changed since the last save, and its device state, whole.

    `used`: how many bytes of the capacity of its blocks are in use, where a guest can outgrow them.
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

        Pages that were never saved are zero. The pages must stay as they are until the next save.
        """

    def load(self, checkpoint: Checkpoint) -> None:
        """Become this checkpoint, while suspended. Its memory is valid during the call only."""


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


def quick(hook: HookT) -> HookT:
    """Say of a hook that it returns at once and waits for nothing: a decorator for the hooks of a `Guest`.

    It is called where its turn comes, on the event loop too, which saves two switches of threads. Nobody can
    go on without one that hangs all the same: no `hook_deadline` holds for it. Raises TypeError for a
    coroutine function, which is on the loop as it is.
    """
    if iscoroutinefunction(hook):
        raise TypeError(f"{hook.__name__} is a coroutine function: it is called on the event loop as it is")

    @wraps(hook)
    def at_once(*args: Any, **kwargs: Any) -> Any:
        return hook(*args, **kwargs)

    vars(at_once)["quick"] = True
    return cast(HookT, at_once)


def is_quick(hook: Callable[..., Any]) -> bool:
    """Whether this hook was said to be."""
    return getattr(hook, "quick", False) is True


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
    pages are found by comparing with the last saved state, so a save costs one copy and one compare
    of the state; a load costs the same, and keeps a copy. The length in use and a checksum of the whole
    travel as the device state: a page that went missing on the way is noticed without asking the state.
    """

    BLOCK = "state"

    def __init__(self, service: BytesState, capacity: int) -> None:
        if capacity <= 0:
            raise ValueError(f"capacity must be positive, not {capacity}")
        self.service = service
        self.blocks: Blocks = {self.BLOCK: -(-capacity // PAGE_SIZE) * PAGE_SIZE}
        self._saved, self._loaded = _Seen(), _Seen()

    @quick
    def suspend(self) -> None:
        """Nothing to do: the state changes in turns only, and none is open."""

    @quick
    def resume(self) -> None:
        """Nothing to do."""

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
            self._saved = _Seen()
        pages = [Page(self.BLOCK, at, data) for at, data in self._saved.changed(state)]
        return Saved(pages, _DEVICE.pack(len(state), self._saved.checksum), len(state))

    def load(self, checkpoint: Checkpoint) -> None:
        """See `Guest.load`. Raises DamagedState."""
        length, checksum = _DEVICE.unpack(checkpoint.device)
        state = bytes(checkpoint.blocks[self.BLOCK][:length])
        self._loaded.changed(state)
        if self._loaded.checksum != checksum:
            self._loaded = _Seen()
            raise DamagedState("the state that arrived is not the one that was saved: start both sides again")
        self.service.set_state(state)


def state_in(checkpoint: Checkpoint) -> bytes | None:
    """The state of a `StateGuest` in this checkpoint; None: another guest's. Raises DamagedState."""
    if checkpoint.blocks.keys() != {StateGuest.BLOCK} or len(checkpoint.device) != _DEVICE.size:
        return None
    length, checksum = _DEVICE.unpack(checkpoint.device)
    block = checkpoint.blocks[StateGuest.BLOCK]
    if length > len(block):
        return None
    state, seen = bytes(block[:length]), _Seen()
    seen.changed(state)
    if seen.checksum != checksum:
        raise DamagedState("the state in it is not the one that was saved")
    return state


class _Seen:
    """A state as it was last seen, and a checksum of it that costs what has changed since.

    The checksum is the sum of those of the pages, each begun with its number, so that pages that change
    places are noticed.
    """

    def __init__(self) -> None:
        self._state = b""
        self._sums: list[int] = []
        self.checksum = 0

    def changed(self, now: bytes) -> list[tuple[int, Buffer]]:
        """The pages of `now` that are new, by their offset; the last one is filled up with zeros.

        Compared as slices of bytes (memcmp), a large piece first: most of a state does not change.
        """
        before, self._state = self._state, now
        count = -(-len(now) // PAGE_SIZE)
        self.checksum -= sum(self._sums[count:])
        del self._sums[count:]
        self._sums += [0] * (count - len(self._sums))
        view, piece = memoryview(now), 64 * PAGE_SIZE
        pages: list[tuple[int, Buffer]] = []
        for start in range(0, len(now), piece):
            if now[start : start + piece] == before[start : start + piece]:
                continue
            for at in range(start, min(start + piece, len(now)), PAGE_SIZE):
                page = now[at : at + PAGE_SIZE]
                if page != before[at : at + PAGE_SIZE]:
                    whole = len(page) == PAGE_SIZE
                    pages.append((at, view[at : at + PAGE_SIZE] if whole else page.ljust(PAGE_SIZE, b"\0")))
                    self._sum(at // PAGE_SIZE, page)
        return pages

    def _sum(self, number: int, page: bytes) -> None:
        fresh = zlib.crc32(page, number)
        self.checksum += fresh - self._sums[number]
        self._sums[number] = fresh
