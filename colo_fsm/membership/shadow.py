"""A survivor's copy to a new Secondary while it serves: the store is copied, not the guest.

The Primary of such a pair has a *shadow* for its guest: what its rounds send is what the member's own store
holds, and then what has changed in it. The guest itself stands still for the last of these rounds only; then
the shadow becomes it, and the pair goes on with the guest.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from colo_fsm.arbiter import Claim
from colo_fsm.fsm import Side
from colo_fsm.replica import AsyncGuest, Checkpoint, Guest, Saved, Store
from colo_fsm.replica.store.base import NO_META
from colo_fsm.stream import PAGE_SIZE, ZERO_PAGE, Blocks, Delta, Page, PatchSink
from colo_fsm.stream.memory import Buffer

from .seat import Standing

PIECE = 256 * PAGE_SIZE
"""Copied at a time; a commit waits no longer."""


class Copied:
    """A store of which somebody else takes copies: `whole`, then again and again what has changed `since`.

    They are taken between two commits, from any thread.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._changed: set[tuple[str, int]] = set()
        self._before: dict[tuple[str, int], bytes] | None = None
        """While a whole copy is taken: what commits have changed since it was begun, as it was."""
        self._over: _Over | None = None
        self.in_place = False
        """Whether the next image to begin is the newest one, of which only what changes is put."""

    @property
    def newest(self) -> Checkpoint | None:
        return self._store.newest

    def begin(self, blocks: Blocks) -> PatchSink:
        if self.in_place:
            self._over = _Over(self)
            return self._over
        return self._store.begin(blocks)

    def complete(
        self, generation: int, device: bytes, meta: Mapping[str, str] = NO_META, *, provisional: bool = False
    ) -> None:
        with self._lock:
            over, self._over = self._over, None
            if over is not None:
                self._store.renew(generation, over, device)
            else:
                self._store.complete(generation, device, meta, provisional=provisional)

    def renew(self, generation: int, delta: Delta, device: bytes) -> None:
        with self._lock:
            self._store.renew(generation, delta, device)

    def commit(self, delta: Delta, device: bytes, meta: Mapping[str, str] | None = None) -> None:
        with self._lock:
            if self._before is not None:
                for block, at, _ in delta:
                    self._before.setdefault((block, at), bytes(self._now(block, at)))
            self._store.commit(delta, device, meta)
            self._changed.update((page.block, page.offset) for page in delta)

    def abort(self) -> None:
        self._over = None
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
            self._before = {}
        return Saved(self._pages(newest), newest.device)

    def _pages(self, newest: Checkpoint) -> Iterator[Page]:
        """As they were when the copy was begun: commits go on meanwhile, and put aside what they change."""
        try:
            for name, view in newest.blocks.items():
                for start in range(0, len(view), PIECE):
                    with self._lock:
                        piece = [
                            self._page((name, at))
                            for at in range(start, min(start + PIECE, len(view)), PAGE_SIZE)
                        ]
                    yield from (page for page in piece if page.data != ZERO_PAGE)
        finally:
            self._before = None

    def since(self) -> Saved:
        """What has changed since the last copy was taken, and the device state."""
        with self._lock:
            changed, self._before = sorted(self._changed), None
            newest = self._take()
            return Saved(list(map(self._page, changed)), newest.device)

    def _take(self) -> Checkpoint:
        self._changed.clear()
        newest = self._store.newest
        assert newest is not None
        return newest

    def _page(self, place: tuple[str, int]) -> Page:
        before = None if self._before is None else self._before.get(place)
        return Page(*place, bytes(self._now(*place)) if before is None else before)

    def _now(self, block: str, at: int) -> Buffer:
        newest = self._store.newest
        assert newest is not None
        return newest.blocks[block][at : at + PAGE_SIZE]


class _Over(Delta):
    """What a new generation changes of the newest image."""

    __slots__ = ("_under",)

    def __init__(self, under: Copied) -> None:
        super().__init__()
        self._under = under

    def get(self, block: str, offset: int) -> Buffer:
        kept, newest = self.kept(block, offset), self._under.newest
        assert newest is not None
        return newest.blocks[block][offset : offset + PAGE_SIZE] if kept is None else kept


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
