"""A survivor's copy to a new Secondary while it serves: the store is copied, not the guest.

The Primary of such a pair has a *shadow* for its guest: what its rounds send is what the member's own store
holds, and then what has changed in it. The guest itself stands still for the last of these rounds only; then
the shadow becomes it, and the pair goes on with the guest.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from colo_fsm.arbiter import Claim
from colo_fsm.fsm import Side
from colo_fsm.replica import AsyncGuest, Checkpoint, Guest, Saved, Store
from colo_fsm.replica.store.base import NO_META
from colo_fsm.stream import PAGE_SIZE, ZERO_PAGE, Blocks, Delta, Page, PatchSink
from colo_fsm.stream.memory import Buffer

from .seat import Standing


class Copied:
    """A store of which somebody else takes copies: `whole`, then again and again what has changed `since`.

    They are taken between two commits, from any thread.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._changed: set[tuple[str, int]] = set()

    @property
    def newest(self) -> Checkpoint | None:
        return self._store.newest

    def begin(self, blocks: Blocks) -> PatchSink:
        return self._store.begin(blocks)

    def complete(
        self, generation: int, device: bytes, meta: Mapping[str, str] = NO_META, *, provisional: bool = False
    ) -> None:
        with self._lock:
            self._store.complete(generation, device, meta, provisional=provisional)

    def commit(self, delta: Delta, device: bytes, meta: Mapping[str, str] | None = None) -> None:
        with self._lock:
            self._store.commit(delta, device, meta)
            self._changed.update((page.block, page.offset) for page in delta)

    def abort(self) -> None:
        self._store.abort()

    def close(self) -> None:
        """Whoever owns the store closes it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `close`."""

    def whole(self) -> Saved:
        """All of the newest checkpoint but its zero pages."""
        with self._lock:
            newest = self._take()
            places = [
                (name, at) for name, view in newest.blocks.items() for at in range(0, len(view), PAGE_SIZE)
            ]
            pages = [page for page in map(self._page, places) if page.data != ZERO_PAGE]
            return Saved(pages, newest.device)

    def since(self) -> Saved:
        """What has changed since the last copy was taken, and the device state."""
        with self._lock:
            changed = sorted(self._changed)
            newest = self._take()
            return Saved(list(map(self._page, changed)), newest.device)

    def _take(self) -> Checkpoint:
        self._changed.clear()
        newest = self._store.newest
        assert newest is not None
        return newest

    def _page(self, place: tuple[str, int]) -> Page:
        name, at = place
        newest = self._store.newest
        assert newest is not None
        return Page(name, at, bytes(newest.blocks[name][at : at + PAGE_SIZE]))


class Shadow:
    """Stands in for `guest` until it becomes it."""

    def __init__(self, guest: Guest, copied: Copied) -> None:
        self._guest = guest
        self._copied: Copied | None = copied
        self._rest: Saved | None = None

    @property
    def blocks(self) -> Blocks:
        return self._guest.blocks

    def become(self) -> None:
        """From the next save on it is the guest. Only while it is suspended, and no save is under way."""
        assert self._copied is not None
        self._rest, self._copied = self._copied.since(), None

    def suspend(self) -> None:
        if self._copied is None:
            self._guest.suspend()

    def resume(self) -> None:
        if self._copied is None:
            self._guest.resume()

    def save(self, full: bool) -> Saved:
        if self._copied is not None:
            return self._copied.whole() if full else self._copied.since()
        return self._with_the_rest(self._guest.save(full))

    def _with_the_rest(self, saved: Saved) -> Saved:
        rest, self._rest = self._rest, None
        return saved if rest is None else joined(rest, saved)

    def load(self, checkpoint: Checkpoint) -> None:
        raise NotImplementedError("a Primary's guest loads nothing")


class AsyncShadow(Shadow):
    """The same of an `AsyncGuest`."""

    _guest: Any

    async def suspend(self) -> None:  # type: ignore[override]
        if self._copied is None:
            await self._guest.suspend()

    async def resume(self) -> None:  # type: ignore[override]
        if self._copied is None:
            await self._guest.resume()

    async def save(self, full: bool) -> Saved:  # type: ignore[override]
        if self._copied is not None:
            return await asyncio.to_thread(self._copied.whole if full else self._copied.since)
        return self._with_the_rest(await self._guest.save(full))

    async def load(self, checkpoint: Checkpoint) -> None:  # type: ignore[override]
        raise NotImplementedError("a Primary's guest loads nothing")


def joined(first: Saved, then: Saved) -> Saved:
    """Two saves as one: a page of the later one counts."""
    pages: dict[tuple[str, int], Buffer] = {(p.block, p.offset): p.data for p in first.pages}
    pages.update({(p.block, p.offset): p.data for p in then.pages})
    return Saved([Page(*place, data) for place, data in pages.items()], then.device, then.used)


def shadow_of(guest: Guest | AsyncGuest, copied: Copied) -> Shadow:
    """The one that this guest needs."""
    awaits = asyncio.iscoroutinefunction(guest.save)
    return (AsyncShadow if awaits else Shadow)(guest, copied)  # type: ignore[arg-type]


class Joining:
    """The arbiter of a pair that does not count yet: as the record has it, but nothing is protected by it."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self.local_only = standing.local_only

    def open(self) -> int:
        return self._standing.open()

    def check(self, generation: int) -> None:
        self._standing.check(generation)

    def claim(self, generation: int, side: Side) -> Claim:
        return self._standing.claim(generation, side)
