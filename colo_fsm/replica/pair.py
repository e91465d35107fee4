"""What the two kinds of pair, blocking and asyncio, have in common."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Protocol

from colo_fsm.arbiter import Arbiter, open_arbiter
from colo_fsm.colo import PrimarySession, SecondarySession, Variant
from colo_fsm.fsm import FailoverStatus, Observer, Session, Side

from .address import Address
from .directory import DirectoryStore
from .events import Event, Serving
from .guest import AsyncGuest, Guest
from .options import Options
from .outbox import Outbox
from .primary_script import PrimaryReplica
from .script import Gate, Replica
from .secondary_script import SecondaryReplica
from .store import MemoryStore, Store

Link = str | socket.socket
"""`tcp:HOST:PORT`, `unix:PATH`, or a connected socket (see `link_pair`)."""


class Make(Protocol):
    """Makes what a pair is to run: the script of a side with everything but the driver."""

    def __call__(
        self, *, gate: Gate, emit: Callable[[Event], None], clock: Callable[[], float]
    ) -> Replica: ...


def make_primary(guest: Guest | AsyncGuest, arbiter: Arbiter, options: Options) -> Make:
    """A Primary of this guest."""
    session = PrimarySession(Variant(release_on=options.release_on))
    return partial(PrimaryReplica, session, guest, arbiter, options)


def make_secondary(guest: Guest | AsyncGuest, arbiter: Arbiter, options: Options, store: Store) -> Make:
    """A Secondary in this guest."""
    session = SecondarySession(Variant(release_on=options.release_on))
    return partial(SecondaryReplica, session, guest, arbiter, options, store=store)


def arbiter_of(arbiter: Arbiter | str) -> Arbiter:
    """The arbiter itself. Raises ValueError."""
    return open_arbiter(arbiter) if isinstance(arbiter, str) else arbiter


def store_of(store: Store | str | Path | None) -> tuple[Store, Callable[[], None]]:
    """The store itself, and what closes it if that is ours to do."""
    if store is not None and not isinstance(store, str | Path):
        return store, lambda: None
    ours = MemoryStore() if store is None else DirectoryStore(store)
    return ours, lambda: ours.close()


class Turn:
    """A turn; a task that was begun inside it may outlive it."""

    open = True


in_turn: ContextVar[Turn | None] = ContextVar("in_turn", default=None)


class NotRunning(Exception):
    """The guest does not run on this side any more: do not answer, the other side may."""


def check_not_in_turn(what: str) -> None:
    """A checkpoint waits for the turn to end, so waiting for one inside it might never end."""
    turn = in_turn.get()
    if turn is not None and turn.open:
        raise RuntimeError(f"{what} after the turn, not inside it: a checkpoint waits for the turn's end")


class PairBase:
    """One side of a replicated pair, whatever drives it."""

    def __init__(self, link: Link, arbiter: Arbiter, gate: Gate, make: Make) -> None:
        self._link = _place(link, arbiter)
        self._listening: Address | None = None
        self._replica = make(gate=gate, emit=self._emit, clock=time.monotonic)

    def _emit(self, event: Event) -> None:
        raise NotImplementedError

    def _wake(self) -> None:
        raise NotImplementedError

    @property
    def address(self) -> Address | None:
        """Where a Secondary listens or has listened (the real port, if 0 was asked for)."""
        return self._listening

    @property
    def session(self) -> Session:
        """The protocol state; look, do not feed."""
        return self._replica.session

    @property
    def side(self) -> Side:
        """Which side this is, for good."""
        return self.session.side

    @property
    def state(self) -> StrEnum:
        """Where this side stands."""
        return self.session.state

    @property
    def failover_status(self) -> FailoverStatus:
        """QEMU's FailoverStatus."""
        return self._replica.failover_status

    @property
    def generation(self) -> int | None:
        """The replication generation, None until it is known."""
        return self._replica.generation

    @property
    def token(self) -> int:
        """The fencing token of a claim that was won, 0 before. Guarded resources refuse older ones."""
        return self._replica.token

    @property
    def checkpoint(self) -> int:
        """The newest checkpoint: on the Primary, that let packets out; on the Secondary, loaded."""
        return self._replica.checkpoint

    @property
    def outbox(self) -> Outbox:
        """Where output waits for its checkpoint; `committed()` is the easy way to use it."""
        return self._replica.outbox

    def on_transition(self, observer: Observer, state: StrEnum | None = None) -> None:
        """Tell `observer` of this pair's transitions; see `Session.on_transition`."""
        self.session.on_transition(observer, state)

    def announce(self, address: str) -> None:
        """Tell those who follow `events()` that a service on top of the guest answers at `address`."""
        self._emit(Serving(address))

    def request_checkpoint(self) -> None:
        """Begin the next checkpoint as soon as the last one is over (Primary)."""
        replica = self._replica
        if isinstance(replica, PrimaryReplica) and not replica.checkpoint_requested:
            replica.checkpoint_requested = True
            self._wake()

    def request_failover(self) -> None:
        """Give the pair up and claim (QEMU: x-colo-lost-heartbeat).

        That asks for a decision, it does not make it: the peer sees the link end, and may claim first.
        """
        self._replica.failover_requested = True
        self._wake()

    def request_leave(self) -> None:
        """End in order, as soon as no checkpoint is under way.

        The wire has no goodbye: the peer takes it for a break. To end a pair, stop the Secondary
        first, then the Primary; the other way round, the Secondary takes over.
        """
        self._replica.leave_requested = True
        self._wake()


def _place(link: Link, arbiter: Arbiter) -> Address | socket.socket:
    """Where the peer is. Raises ValueError where this arbiter cannot serve it."""
    if isinstance(link, socket.socket):
        return link
    address = Address.parse(link)
    if arbiter.local_only and not address.on_this_machine:
        raise ValueError(
            f"{address} is another machine, and an SQLite claim serves one machine only: "
            "use exec:COMMAND with a claim that both machines reach"
        )
    return address
