"""The life of a pair, from its first moment to its last: connect or accept, run, end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from colo_fsm.fsm import Side

from .address import Address, address_of
from .gate import Answer
from .link import Link, Place, accept, connect, tuned
from .script import Replica
from .wish import Call, Script


class Life:
    """Serve `run`, once. However it ends, also by what is thrown into it, everything is given back.

    `place`: where to connect to or to listen at, or a connected link. `close` is called last, once no hook
    is at work any more: it closes the store, if that is ours to do.
    """

    def __init__(
        self, replica: Replica, place: Place | Link, close: Callable[[], object] = lambda: None
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
            replica.link = yield from self._link()
            self.met.settle()
            # without a link somebody has asked for the end before a peer came: the script sees to that
            yield from replica.run()

    def _link(self) -> Script[Link | None]:
        place, replica = self._place, self.replica
        if not isinstance(place, Place):
            return tuned(place)  # type: ignore[no-any-return]
        if replica.session.side is Side.PRIMARY:
            timeout = replica.options.connect_timeout
            return (yield from connect(place, timeout, replica.clock, self._given_up))
        listener = yield Call(place.listen)
        try:
            listener.setblocking(False)
            self.address = address_of(listener)
            self.met.settle()
            return (yield from accept(listener, self._given_up))
        finally:
            listener.close()

    def _given_up(self) -> bool:
        return self.replica.given_up
