"""A member alone: the Primary of a pair whose Secondary is its own store.

So what it acknowledges alone is kept by the same rounds, the same store and the same outbox as ever: an
answer leaves when the checkpoint that covers it is in the store.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from colo_fsm.arbiter import Claim
from colo_fsm.fsm import GuestFailed, Side
from colo_fsm.replica import (
    AsyncGuest,
    Checkpoint,
    Guest,
    Options,
    Saved,
    Store,
    link_pair,
    primary,
    secondary,
)
from colo_fsm.stream.memory import Blocks

from .seat import Standing
from .tables import MEMBER_PRIMARY


class _Unloaded:
    """The guest of the store's side: what is stored is not loaded anywhere."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def suspend(self) -> None:
        """It does not run."""

    def resume(self) -> None:
        """It does not run."""

    def save(self, full: bool) -> Saved:
        raise NotImplementedError("a store's side saves nothing")

    def load(self, checkpoint: Checkpoint) -> None:
        """It is in the store."""


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

    def __init__(self, guest: Guest | AsyncGuest, store: Store, standing: Standing, options: Options) -> None:
        ours, its = link_pair()
        self._holder = _Holder(standing)
        self._store = secondary(
            _Unloaded(guest.blocks),
            listen=its,
            arbiter=_Never(),
            store=store,
            options=options,
            replace_store=True,
        )
        self._exits = AsyncExitStack()
        self._ended = False
        self.pair = primary(guest, peer=ours, arbiter=self._holder, options=options, table=MEMBER_PRIMARY)

    @property
    def token(self) -> int:
        """The fencing token under which the guest runs."""
        return self._holder.token

    @property
    def ended(self) -> bool:
        """Whether it was ended, with all that was acknowledged in its store."""
        return self._ended

    @property
    def trouble(self) -> Exception | None:
        """Why it is over, if it was not ended."""
        return None if self._ended else self._store.session.error or self.pair.session.error

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
        """Suspend the guest; the store has all that was acknowledged. Ending again does nothing."""
        self._ended = self._ended or not self.pair.session.over
        await self._exits.aclose()
