"""A member alone: the Primary of a pair whose Secondary is its own store.

So what it acknowledges alone is kept by the same rounds, the same store and the same outbox as ever: an
answer leaves when the checkpoint that covers it is in the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import AsyncExitStack
from inspect import iscoroutinefunction
from itertools import islice
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import attrs

from colo_fsm.arbiter import Claim
from colo_fsm.fsm import GuestFailed, Side
from colo_fsm.replica import (
    AsyncGuest,
    Checkpoint,
    Guest,
    Options,
    Saved,
    link_pair,
    primary,
    secondary,
)
from colo_fsm.stream.memory import PAGE_SIZE, ZERO_PAGE, Page

from .seat import Standing
from .shadow import Copied
from .tables import MEMBER_PRIMARY

MUCH = 4
"""One page in so many may differ to be written over what is there, which writes it twice."""


@runtime_checkable
class Remembers(Protocol):
    """What a guest may offer besides: it knows which of its pages are not as its member's own store has them.

    That store has what the guest has loaded last, or what was `stored` last.
    """

    def stored(self, checkpoint: Checkpoint) -> None:
        """The store has what was saved last, as this checkpoint. On any thread; no save is under way."""

    def save_since(self, checkpoint: Checkpoint) -> Saved | None:
        """What `save` saves, but only the pages that may differ from this one; None: it cannot tell."""


class _Unloaded:
    """The guest of the store's side: what is stored is not loaded anywhere."""

    def __init__(self, guest: Guest | AsyncGuest) -> None:
        self._guest = guest
        self.blocks = guest.blocks

    def suspend(self) -> None:
        """It does not run."""

    def resume(self) -> None:
        """It does not run."""

    def save(self, full: bool) -> Saved:
        raise NotImplementedError("a store's side saves nothing")

    def load(self, checkpoint: Checkpoint) -> None:
        """It is in the store."""
        if isinstance(self._guest, Remembers):
            self._guest.stored(checkpoint)


class _Resumed:
    """A guest whose first copy into its own store is only what differs from what that store has already.

    A member that takes over, or goes on after a restart, has loaded just that: it need not all be written
    again before anybody is answered. Where much differs, all of it is copied.
    """

    def __init__(self, guest: Guest, copied: Copied) -> None:
        self._guest = guest
        self._copied = copied
        self.blocks = guest.blocks
        self.suspend, self.resume, self.load = guest.suspend, guest.resume, guest.load

    def save(self, full: bool) -> Saved:
        newest = self._copied.newest
        if not full or newest is None or {n: len(v) for n, v in newest.blocks.items()} != dict(self.blocks):
            return self._guest.save(full)
        if isinstance(self._guest, Remembers) and (saved := self._guest.save_since(newest)) is not None:
            self._copied.in_place = True
            return saved
        saved = self._guest.save(True)
        pages = saved.pages if isinstance(saved.pages, Sized) else list(saved.pages)
        changed = list(islice(_changed(pages, newest), len(pages) // MUCH + 1))
        self._copied.in_place = len(changed) <= len(pages) // MUCH
        return attrs.evolve(saved, pages=changed if self._copied.in_place else pages)


def _changed(pages: Iterable[Page], newest: Checkpoint) -> Iterator[Page]:
    """Those that the image has not; a page that is not in use any more is zero.

    Compared as bytes: a comparison of memoryviews looks at each element.
    """
    used = set()
    for page in pages:
        block, at, data = page
        used.add((block, at))
        if bytes(newest.blocks[block][at : at + PAGE_SIZE]) != bytes(data):
            yield page
    for block, view in newest.blocks.items():
        for at in range(0, len(view), PAGE_SIZE):
            if (block, at) not in used and bytes(view[at : at + PAGE_SIZE]) != ZERO_PAGE:
                yield Page(block, at, ZERO_PAGE)


class _Never:
    """The arbiter of the store's side, which never goes on alone."""

    local_only = True

    def open(self) -> int:
        raise NotImplementedError("the guest's side opens generations")

    def check(self, generation: int) -> None:
        """Any."""

    def claim(self, generation: int, side: Side) -> Claim:
        return Claim(side.peer, 0)


class _Holder:
    """The arbiter of the guest's side: it is the holder already, and says where its newest state is."""

    local_only = True

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self.token = 0

    def open(self) -> int:
        return self._standing.begin_to_keep()

    def check(self, generation: int) -> None:
        """Nobody else can have it."""

    def protect(self, generation: int) -> None:
        """The store has the whole of it, and nothing was let out since."""
        self.token = self._standing.keep(generation).token

    def claim(self, generation: int, side: Side) -> Claim:
        """The store has failed, or this side leaves: whoever holds the data set still does."""
        return Claim(side, self.token)


class Keeper:
    """`async with Keeper(...) as keeper`: `keeper.pair` runs the guest, and keeps it in `store`."""

    def __init__(
        self, guest: Guest | AsyncGuest, store: Copied, standing: Standing, options: Options
    ) -> None:
        ours, its = link_pair()
        kept = guest if iscoroutinefunction(guest.save) else _Resumed(guest, store)  # type: ignore[arg-type]
        self._holder = _Holder(standing)
        self._store = secondary(
            _Unloaded(guest),
            listen=its,
            arbiter=_Never(),
            store=store,
            options=options,
            replace_store=True,
        )
        self._exits = AsyncExitStack()
        self._ended = False
        self.pair = primary(kept, peer=ours, arbiter=self._holder, options=options, table=MEMBER_PRIMARY)

    @property
    def token(self) -> int:
        """The fencing token under which the guest runs."""
        return self._holder.token

    @property
    def ended(self) -> bool:
        """Whether it was ended, with all that the guest has done in its store."""
        return self._ended

    @property
    def trouble(self) -> Exception | None:
        """What has broken it: the guest may have done more than its store has."""
        return None if self._ended else self._store.session.error or self.pair.session.error

    @property
    def guest_failed(self) -> bool:
        """Whether a hook of the guest's has raised: not the store has broken it, and it was not only late."""
        error = self.pair.session.error
        if not isinstance(error, GuestFailed) or isinstance(error.cause, TimeoutError):
            return False
        return error.hook.startswith("guest.")

    def let_out(self) -> None:
        """Answers leave at once, those that wait too, in their order; the store has them with the next round.

        Raises GuestFailed when one of them could not be delivered.
        """
        try:
            self.pair.outbox.release_all()
        except Exception as cause:
            raise GuestFailed("output", cause) from cause

    async def settle(self) -> None:
        """Until the store has all that is true now; answers wait from now on. Raises NotCommitted."""
        self.pair.outbox.hold_back()
        self.pair.request_checkpoint()
        await self.pair.committed()

    async def __aenter__(self) -> Self:
        """Until the store has the guest's whole state, and it runs. Raises ProtocolError, NotRunning."""
        async with self._exits:
            await self._exits.enter_async_context(self._store)
            await self._exits.enter_async_context(self.pair)
            self._exits = self._exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `end`."""
        await self.end()

    async def end(self) -> None:
        """Suspend the guest; unless there was `trouble`, the store has all that it has done.

        Ending again does nothing.
        """
        await self._exits.aclose()
        self._ended = self._ended or self.pair.session.error is None
