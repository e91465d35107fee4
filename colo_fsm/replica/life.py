"""The life of a pair, from its first moment to its last: connect or accept, run, end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack, closing

from colo_fsm.fsm import Do, Side

from .address import Address, address_of
from .door import Door, OneByOne, Visitors, ours
from .events import Refused
from .gate import Answer
from .link import Link, Listener, Place, connect, tuned
from .outside import FIRST_COPY
from .script import Replica
from .wish import Call, Script


class Life:
    """Serve `run`, once. However it ends, also by what is thrown into it, everything is given back.

    `place`: where to connect to or to listen at, a connected link, or visitors, which whoever listens
    already will go on receiving. `close` is called last, once no hook is at work any more: it closes the
    store, if that is ours to do.
    """

    def __init__(
        self, replica: Replica, place: Place | Link | Visitors, close: Callable[[], object] = lambda: None
    ) -> None:
        self.replica = replica
        self.address: Address | None = None
        """Where a Secondary listens or has listened."""
        self.met = Answer()
        """Whether a peer can come now, or has come."""
        self._place = place
        self._close = close

    def run(self) -> Script[None]:
        """From nothing to nothing."""
        replica = self.replica
        with ExitStack() as end:  # in reverse; each is done even if another raises
            end.callback(replica.after_hooks, self._close)
            end.callback(replica.events.end)
            end.callback(lambda: replica.gate.shut(*replica.epitaph()))
            end.callback(replica.outbox.discard)
            end.callback(replica.hang_up)
            replica.link = yield from self._link(end)
            self.met.settle()
            # without a link somebody has asked for the end before a peer came: the script sees to that
            yield from replica.run()

    def _link(self, end: ExitStack) -> Script[Link | None]:
        place, replica = self._place, self.replica
        if isinstance(place, Visitors):
            return (yield from self._first(place))
        if not isinstance(place, Place):
            return tuned(place)  # type: ignore[no-any-return]
        if replica.session.side is Side.PRIMARY:
            timeout = replica.options.connect_timeout
            return (yield from connect(place, timeout, replica.clock, self._given_up))
        listener = yield from self._listener(place, end)
        listener.setblocking(False)
        self.address = address_of(listener)
        visitors = self._visitors(listener)
        end.callback(visitors.close)
        return (yield from self._first(visitors))

    @staticmethod
    def _listener(place: Place, end: ExitStack) -> Script[Listener]:
        """Closed in the end: also one that is made when whoever wanted it has given up."""
        made = ExitStack()
        listening = Call(lambda: made.enter_context(closing(place.listen())), seldom=True)
        end.callback(listening.then, made.close)
        return (yield listening)  # type: ignore[no-any-return]

    def _visitors(self, listener: Listener) -> Visitors:
        """Who comes there: one that begins a stream, where the protocol has any."""
        replica = self.replica
        if not isinstance(listener, socket.socket) or Do.receive_initial not in replica.table.start:
            return OneByOne(listener)
        return Door(
            listener,
            ours,
            own=True,
            greeting_deadline=replica.options.greeting_deadline,
            patience=FIRST_COPY * replica.options.hook_deadline,
            knock=lambda: replica.wake(),
            report=lambda why, count: replica.events.put(Refused(why, count)),
        )

    def _first(self, visitors: Visitors) -> Script[Link | None]:
        """The first of them; when it turns out to be the wrong one, the script asks for the next."""
        self.replica.come_from(visitors)
        self.met.settle()
        return (yield from visitors.next(self._given_up))

    def _given_up(self) -> bool:
        return self.replica.given_up
