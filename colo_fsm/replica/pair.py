"""What the two kinds of pair, blocking and asyncio, have in common."""

from __future__ import annotations

import socket
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from colo_fsm.arbiter import Arbiter, open_arbiter
from colo_fsm.fsm import FailoverStatus, Observer, Session, Side, Table, machine_for

from .address import Address
from .door import Visitors
from .events import NotServing, Serving
from .gate import Again, Answer, Attempt, Changing, NotRunning
from .guest import AsyncGuest, Guest
from .life import Life
from .link import Link, Place
from .options import Options
from .outbox import NotCommitted, Outbox
from .primary_script import PrimaryReplica
from .script import Replica
from .secondary_script import SecondaryReplica
from .store.base import MemoryStore, Store, StoreError
from .store.directory import DirectoryStore

Where = str | socket.socket
"""`tcp:HOST:PORT`, `unix:PATH`, or a connected socket (see `link_pair`)."""


class Driver(Protocol):
    """Serves a script on threads or on an event loop."""

    def wake(self, at_once: bool = False) -> None:
        """Let a `Wait` be answered. From any thread. `at_once`: inside this call, if it may be."""

    def interrupt(self, error: BaseException) -> None:
        """Throw this into the script, also in the middle of a wish."""


DriverT = TypeVar("DriverT", bound=Driver)

Parts = tuple[Replica, Place | Link | Visitors, Callable[[], object]]
"""What a pair is made of: its script, where its peer is, and what closes its store."""


def primary_parts(
    guest: Guest | AsyncGuest, peer: Where, arbiter: Arbiter | str, options: Options | None, table: Table
) -> Parts:
    """A Primary of this guest. Raises ValueError."""
    judge = open_arbiter(arbiter) if isinstance(arbiter, str) else arbiter
    place = _place(peer, judge)
    options = options or Options()
    session = session_for(Side.PRIMARY, table, options)
    return PrimaryReplica(session, guest, judge, options), place, lambda: None


def secondary_parts(
    guest: Guest | AsyncGuest,
    listen: Where,
    arbiter: Arbiter | str,
    store: Store | str | Path | None,
    options: Options | None,
    table: Table,
    replace_store: bool,
) -> Parts:
    """A Secondary in this guest. Raises ValueError, StoreError, OSError; a store of ours is closed then."""
    judge = open_arbiter(arbiter) if isinstance(arbiter, str) else arbiter
    place = _place(listen, judge)
    options = options or Options()
    session = session_for(Side.SECONDARY, table, options)
    if store is None:
        store = MemoryStore()
    ours = isinstance(store, str | Path)
    keep = DirectoryStore(store) if isinstance(store, str | Path) else store
    try:
        if not replace_store:
            _refuse_what_is_kept(keep)
        replica = SecondaryReplica(session, guest, judge, options, store=keep)
    except BaseException:
        if ours:
            keep.close()
        raise
    return replica, place, keep.close if ours else lambda: None


def _refuse_what_is_kept(store: Store) -> None:
    """A Primary begins with a state of its own: nothing says that it goes on from what this store has."""
    if (newest := store.newest) is not None:
        raise StoreError(
            f"the store holds checkpoint {newest.number} of generation {newest.generation}, and a Primary "
            "that begins would replace it: take it out with `colo-fsm export`, name another directory, or "
            "throw it away with --replace-store (replace_store=True)"
        )


def _place(where: Where, arbiter: Arbiter) -> Address | socket.socket:
    """Where the peer is. Raises ValueError where this arbiter cannot serve it."""
    if isinstance(where, socket.socket):
        return where
    address = Address.parse(where)
    if arbiter.local_only and not address.on_this_machine:
        raise ValueError(
            f"{address} is another machine, and an SQLite claim serves one machine only: "
            "use etcd://HOST,HOST,HOST/PREFIX, or exec:COMMAND with a claim that both machines reach"
        )
    return address


def session_for(side: Side, table: Table, options: Options) -> Session:
    """The session of a pair whose peer is one of this package's, too. Raises ValueError, TableError."""
    if table.side is not side:
        raise ValueError(f"this is the {table.side}'s table, and here is the {side}: give its own")
    return Session(machine_for(table, options.variant), signs=True)


class PairBase:
    """One side of a replicated pair, whatever drives it."""

    def __init__(
        self, replica: Replica, place: Place | Link | Visitors, close: Callable[[], object] = lambda: None
    ) -> None:
        self._replica = replica
        self._life = Life(replica, place, close)
        self._over = Answer()
        self._driver: Driver | None = None
        self._service: Serving | NotServing | None = None

    # -- for the drivers ------------------------------------------------------------------------

    def _driven_by(self, driver: DriverT) -> DriverT:
        self._driver = driver
        self._replica.wake = driver.wake
        return driver

    def _entering(self) -> tuple[Changing, Attempt[bool]]:
        """What to wait for at the start: a Primary runs, a Secondary can be reached.

        A checkpoint may be under way, and hang, by the time that somebody looks.
        """
        gate, met = self._replica.gate, self._life.met
        return (gate, gate.begun) if self.side is Side.PRIMARY else (met, met.get)

    def _abandon(self, error: BaseException) -> None:
        """Who began it wants it no more: end in order, or at once where nothing has begun yet."""
        assert self._driver is not None
        if self._replica.started:
            self.request_leave()
        else:
            self._driver.interrupt(error)

    def _end(self, error: BaseException | None) -> None:
        """Nothing is served any more."""
        self._over.settle(error)
        self._life.met.settle(NotRunning("this side has not begun"))

    def _runs(self, again: Again) -> bool | None:
        """An attempt: True when the guest runs. Raises what broke the handshake, or NotRunning."""
        try:
            return self._replica.gate.running(again)
        except NotRunning as refused:
            error = self._replica.unready or refused
            raise error from error.__cause__  # not from what refused it, which may be this very error

    def _promise(self) -> Answer:
        """That a checkpoint covers all that is true now, or NotCommitted."""
        self._replica.gate.check_outside("wait for committed()")
        answer = Answer()
        stopped = NotCommitted("this side has stopped")
        self.outbox.hold(answer.settle, lambda: answer.settle(stopped))
        return answer

    # -- for embedders --------------------------------------------------------------------------

    @property
    def address(self) -> Address | None:
        """Where a Secondary listens or has listened (the real port, if 0 was asked for)."""
        return self._life.address

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
    def protected(self) -> bool:
        """Whether the other side has what is acknowledged here; not so once this side runs alone."""
        return self.state not in self.session.table.alone

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
        self._serves(Serving(address))

    def announce_trouble(self, address: str, cause: Exception, retry: float) -> None:
        """The same for a service that cannot, and tries again in `retry` seconds."""
        self._serves(NotServing(address, cause, retry))

    def _serves(self, event: Serving | NotServing) -> None:
        self._service = event
        self._replica.events.put(event)

    @property
    def service(self) -> Serving | NotServing | None:
        """What a service on top of the guest has last said: whether it answers, and where."""
        return self._service

    def request_checkpoint(self) -> None:
        """Begin the next checkpoint as soon as the last one is over (Primary)."""
        if not self._replica.pace.requested:
            self._replica.pace.requested = True
            self._replica.wake()

    def request_failover(self) -> None:
        """Give the pair up and claim (QEMU: x-colo-lost-heartbeat).

        That asks for a decision, it does not make it: the peer sees the link end, and may claim first.
        """
        self._replica.failover_requested = True
        self._replica.wake()

    def request_leave(self) -> None:
        """End in order, as soon as no checkpoint is under way.

        The wire has no goodbye: the peer takes it for a break. To end a pair, stop the Secondary
        first, then the Primary; the other way round, the Secondary takes over.
        """
        self._replica.leave_requested = True
        self._replica.wake()
