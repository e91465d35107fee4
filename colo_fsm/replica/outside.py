"""What a side has to do with the outside: its link and its hooks, and how long each may take."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import Any

from colo_fsm.fsm import (
    SIGN_OF_LIFE,
    FailoverRequested,
    FailoverStatus,
    Fault,
    GuestFailed,
    LinkLost,
    ProtocolError,
    SendFailed,
    Session,
    TimedOut,
    begin,
    fault,
)
from colo_fsm.stream.memory import Buffer

from .guest import AsyncGuest, Guest, is_quick
from .link import READ_SIZE, SMALL_READ, Link, Outgoing, hang_up, receive
from .options import Options
from .wish import Call, Script, Wait

FIRST_COPY = 10
"""Deadlines that the link may stand still, and hook deadlines that a hook may take, in the first copy."""

SIGNS_A_DEADLINE = 5
"""Signs of life in the time after which a peer with the same deadline would take this side for dead."""


class Leaving(Exception):
    """Somebody wants to leave, and this is a moment where one may."""


class Outside:
    """Reads and writes the link, and has hooks called, for a script that knows what for.

    Whoever serves the script puts what wakes it into `wake`, and the link, once there is one, into `link`.
    """

    def __init__(
        self, session: Session, guest: Guest | AsyncGuest, options: Options, clock: Callable[[], float]
    ) -> None:
        self.session = session
        self.table = session.table
        self.guest = guest
        self.options = options
        self.clock = clock
        self.link: Link | None = None
        self.wake: Callable[..., object] = lambda at_once=False: None
        self.leave_requested = False
        self.failover_requested = False
        self._hook: Call | None = None
        self._hanging: Call | None = None
        self._inside = ""
        self._ahead: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = []
        self._outgoing: list[Buffer] = []
        self._most = SMALL_READ
        """Bytes to read next: many while they come in bulk."""
        self._torn = False
        """Whether a write was broken off: what is sent behind it would be misread."""
        self._guest_awaits = iscoroutinefunction(guest.save)
        self._leaves = {s for s in self.table.states if self.table.may(s, begin.leave)}
        self.sign_interval = options.deadline / SIGNS_A_DEADLINE
        """Seconds between two signs of life."""
        self._meanwhile = self._show_life if session.signs else None
        self._quiet = session.state, clock()
        """Since when nothing has moved on the link, in which state."""

    @property
    def given_up(self) -> bool:
        """Whether somebody has asked for something that cannot wait for a link."""
        return self.leave_requested or self.failover_requested

    # -- time and the link --------------------------------------------------------------------

    def deadline(self) -> float | None:
        """How long nothing may move on the link in this state; None: for ever."""
        if self._first_copy:
            return FIRST_COPY * self.options.deadline
        return self.options.deadline if self.session.state in self.table.timed else None

    def _left(self) -> float | None:
        """What is left of the deadline: a wake-up is no progress."""
        if self._quiet[0] is not self.session.state:
            self._progress()
        deadline = self.deadline()
        return None if deadline is None else max(0.0, self._quiet[1] + deadline - self.clock())

    def _moved_on(self, size: int) -> None:
        """So many bytes have arrived."""
        self._progress()

    def _progress(self) -> None:
        self._quiet = self.session.state, self.clock()

    def _take(self, link: Link | None) -> bytes | None:
        """What has arrived, b"" at the end of the link; None when nothing has."""
        if link is None:
            return None
        try:
            data = receive(link, self._most, ours=self.session.signs)
        except BlockingIOError:
            return None
        except OSError as cause:
            raise LinkLost(cause) from cause
        self._most = SMALL_READ if len(data) < SMALL_READ else READ_SIZE
        self._moved_on(len(data))
        return data

    def receive(self) -> Script[bytes]:
        """Bytes of a state that is under way, b"" at the end of the link."""
        if early := self.session.unread():
            return early
        if self._outgoing and (rest := self._flush()):
            yield from rest
        while True:
            self._heed()
            link = self.link
            try:
                ready = yield Wait(link, timeout=self._left())
            except TimeoutError as cause:
                raise TimedOut(self.session.state, self.deadline()) from cause
            if ready is not False and (data := self._take(link)) is not None:
                return data

    def _heed(self) -> None:
        """Break off what is under way for a request that cannot wait."""
        if self.leave_requested and self.session.state in self._leaves:
            raise Leaving
        self._heed_failover()

    def _heed_failover(self) -> None:
        session = self.session
        if self.failover_requested:
            self.failover_requested = False
            if self.table.by_input[session.state, fault(Fault.FAILOVER_REQUEST)].dest is not None:
                raise FailoverRequested

    def send(self, *buffers: Buffer) -> None:
        """Queue bytes behind the messages queued before."""
        self._outgoing += buffers

    def _flush(self) -> Script[None] | None:
        """Let everything queued leave in one write; what waits for room, if something has to."""
        outgoing, self._outgoing = Outgoing(self._outgoing), []
        if self.link is None or self._torn:
            return None
        self._write(outgoing)
        return self._push(outgoing) if outgoing.left else None

    def _write(self, outgoing: Outgoing) -> None:
        assert self.link is not None
        try:
            if outgoing.send_some(self.link):
                self._progress()
        except OSError as cause:
            raise SendFailed(cause) from cause

    def _push(self, outgoing: Outgoing) -> Script[None]:
        self._torn = True
        self._progress()
        while outgoing.left:
            self._heed()
            try:
                yield Wait(self.link, writing=True, timeout=self._left())
            except TimeoutError as cause:
                raise TimedOut(self.session.state, self.deadline(), sending=True) from cause
            self._write(outgoing)
        self._torn = False

    def _show_life(self) -> None:
        """Tell a peer that waits for us that what takes so long is our own work: slow is not dead.

        Only where a message may begin, and nothing at all once a round is broken: then it is to hear the end.
        """
        torn = self._torn or bool(self._outgoing)
        if self.link is None or torn or self.session.failover_status is not FailoverStatus.NONE:
            return
        sign = Outgoing([SIGN_OF_LIFE])
        with suppress(OSError):  # whoever uses the link next meets it
            if sign.send_some(self.link):
                self._outgoing += sign.left

    def _farewell(self) -> Script[None]:
        """Let what is queued leave before the link is closed: in time, or not at all."""
        outgoing, self._outgoing = Outgoing(self._outgoing), []
        end = self.clock() + self.options.deadline
        with suppress(OSError):
            while self.link is not None and outgoing.left and not self._torn:
                outgoing.send_some(self.link)
                if outgoing.left:
                    yield Wait(self.link, writing=True, timeout=max(0.0, end - self.clock()))

    def hang_up(self) -> None:
        """Close the link, if it is open."""
        link, self.link = self.link, None
        if link is not None:
            hang_up(link)

    # -- hooks --------------------------------------------------------------------------------

    def call(self, name: str, hook: Callable[..., Any], *args: Any, quick: bool | None = None) -> Script[Any]:
        """Call a hook of the embedder's; `name` says in the error which one failed.

        None is called while one before it hangs, and what it works on stays as it is. One that is `quick`
        (None: if it says so) is called at once: messages go on gathering.
        """
        if not self._ahead and (is_quick(hook, *args) if quick is None else quick):
            return self.call_here(name, hook, *args)
        if self._outgoing and (rest := self._flush()):
            yield from rest
        self._check_hanging()
        work: Callable[..., Any] = self._named_async if self.awaited(hook) else self._named
        hooks, self._ahead = (*self._ahead, (name, hook, args)), []
        patience = self.options.hook_deadline * (FIRST_COPY if self._first_copy else 1)
        seldom = name == "arbiter"
        self._hook = call = Call(work, hooks, patience, self._meanwhile, self.sign_interval, seldom)
        try:
            return (yield call)
        except TimeoutError:
            self._hanging = call
            raise self._hangs() from None

    def call_here(self, name: str, hook: Callable[..., Any], *args: Any) -> Any:
        """The same for what returns at once, and waits for nothing."""
        self._check_hanging()
        return self.named(name, hook, *args)

    def _check_hanging(self) -> None:
        if self._hanging is not None and not self._hanging.over:
            raise self._hangs()

    def call_ahead(self, name: str, hook: Callable[..., Any], *args: Any) -> Script[Any]:
        """The same where nobody looks at the outcome before the next hook: it goes along with that."""
        if self.awaited(hook):
            yield from self.call(name, hook, *args)
        elif is_quick(hook, *args):
            self.call_here(name, hook, *args)
        else:
            self._ahead.append((name, hook, args))

    def awaited(self, hook: Callable[..., Any]) -> bool:
        """Whether this is a coroutine; none is but those of an `AsyncGuest`."""
        return self._guest_awaits and iscoroutinefunction(hook)

    def _catch_up(self) -> Script[Any]:
        """Call what was to go along, by itself."""
        name, hook, args = self._ahead.pop()
        return (yield from self.call(name, hook, *args))

    @property
    def _first_copy(self) -> bool:
        return self.session.state is self.table.initial

    def named(self, name: str, hook: Callable[..., Any], *args: Any) -> Any:
        """What a hook of this name returns; what it raises is its failure."""
        self._inside = name
        try:
            return hook(*args)
        except ProtocolError:
            raise
        except Exception as cause:
            raise GuestFailed(name, cause) from cause

    def _named(self, *hooks: tuple[str, Callable[..., Any], tuple[Any, ...]]) -> Any:
        result: Any = None
        for name, hook, args in hooks:
            result = self.named(name, hook, *args)
        return result

    async def _named_async(self, hooked: tuple[str, Callable[..., Any], tuple[Any, ...]]) -> Any:
        name, hook, args = hooked
        self._inside = name
        try:
            return await hook(*args)
        except Exception as cause:
            raise GuestFailed(name, cause) from cause

    def _hangs(self) -> GuestFailed:
        assert self._hanging is not None
        late = f"no answer in {self._hanging.timeout:g} s, its hook_deadline"
        return GuestFailed(self._inside, TimeoutError(late))

    def after_hooks(self, action: Callable[[], object]) -> None:
        """Do this once no hook is at work: now, or when the last one returns, on its thread."""
        for call in (self._hook, self._hanging):
            if call is not None and not call.over:
                call.then(lambda: self.after_hooks(action))
                return
        action()
