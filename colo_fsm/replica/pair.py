"""What the two kinds of pair, blocking and asyncio, have in common."""

from __future__ import annotations

import socket
import time
from contextvars import ContextVar
from pathlib import Path

from colo_fsm.arbiter import Arbiter, open_arbiter
from colo_fsm.protocol.session import Observer, PrimarySession, SecondarySession, Session
from colo_fsm.protocol.vocabulary import FailoverStatus, Side, State, Variant

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

in_turn: ContextVar[bool] = ContextVar("in_turn", default=False)


class NotRunning(Exception):
    """The guest does not run on this side any more: do not answer, the other side may."""


def check_not_in_turn() -> None:
    """A checkpoint waits for the turn to end, so waiting for one inside it would never end."""
    if in_turn.get():
        raise RuntimeError("wait for committed() after the turn, not inside it")


class PairBase:
    """One side of a replicated pair, whatever drives it."""

    def __init__(
        self,
        guest: Guest | AsyncGuest,
        link: Link,
        arbiter: Arbiter | str,
        options: Options | None,
        store: Store | str | Path | None,
        side: Side,
        gate: Gate,
    ) -> None:
        options = options or Options()
        arbiter = open_arbiter(arbiter) if isinstance(arbiter, str) else arbiter
        self._link = _place(link, arbiter)
        variant = Variant(release_on=options.release_on)
        self._owned_store: Store | None = None
        if side is Side.PRIMARY:
            self._replica: Replica = PrimaryReplica(
                PrimarySession(variant), guest, arbiter, options,
                gate=gate, emit=self._emit, clock=time.monotonic,
            )  # fmt: skip
            return
        if store is None or isinstance(store, str | Path):
            store = self._owned_store = MemoryStore() if store is None else DirectoryStore(store)
        self._replica = SecondaryReplica(
            SecondarySession(variant), guest, arbiter, options,
            gate=gate, emit=self._emit, clock=time.monotonic, store=store,
        )  # fmt: skip

    def _emit(self, event: Event) -> None:
        raise NotImplementedError

    def _wake(self) -> None:
        raise NotImplementedError

    @property
    def session(self) -> Session:
        """The protocol state; look, do not feed."""
        return self._replica.session

    @property
    def side(self) -> Side:
        """Which side this is, for good."""
        return self.session.side

    @property
    def state(self) -> State:
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

    def on_transition(self, observer: Observer, state: State | None = None) -> None:
        """Tell `observer` of this pair's transitions; see `Session.on_transition`."""
        self.session.on_transition(observer, state)

    def announce(self, address: str) -> None:
        """Tell those who follow `events()` that a service on top of the guest answers at `address`."""
        self._emit(Serving(address))

    def request_checkpoint(self) -> None:
        """Begin the next checkpoint as soon as the last one is over (Primary)."""
        if isinstance(self._replica, PrimaryReplica):
            self._replica.checkpoint_requested = True
            self._wake()

    def request_failover(self) -> None:
        """Give the pair up and claim (QEMU: x-colo-lost-heartbeat)."""
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
