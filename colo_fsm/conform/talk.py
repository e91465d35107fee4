"""One conversation with a side under test, in its table's own terms."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from colo_fsm.fsm import CompleteTable, Message
from colo_fsm.stream import StreamError

from .blackbox import Output, said
from .case import Act, Initial, Line, Seen
from .link import Link, moment
from .voice import Voice

LEAST_QUIET = 0.02
"""Seconds in which a side that is quick has said what it has to say."""
LENIENT = 0.2
"""Seconds, at least, before a lenient answer counts: the declared one may still come of it."""
ENDLESS = 50
"""Timeouts after which a conversation that still goes on is cut off."""


class Pace:
    """How long to wait for a side: `timeout` for what has to come, `quiet` to be sure that nothing does.

    In seconds of `clock`; `least` is the shortest quiet time. Learns from the answers of all conversations of
    a run, of any thread, as TCP does from round trips (RFC 6298: their mean and four times their deviation,
    old ones forgotten; but twice their mean at least): one late answer does not slow the rest of a run down.
    """

    def __init__(
        self, timeout: float, least: float = LEAST_QUIET, *, clock: Callable[[], float] = moment
    ) -> None:
        self.timeout = timeout
        self.clock = clock
        self._least = least
        self._mean: float | None = None
        self._deviation = 0.0
        self._lock = threading.Lock()

    @property
    def quiet(self) -> float:
        """At most the timeout."""
        mean = self._mean or 0.0
        return min(self.timeout, max(self._least, 2 * mean, mean + 4 * self._deviation))

    def wait(self, now: Output, accepted: Sequence[Output]) -> float:
        """How long a side may still be silent that has done `now`, where one of `accepted` is to come.

        The first of these is the declared one; none: whatever comes.
        """
        if not accepted or now == accepted[0]:
            return self.quiet
        return min(self.timeout, max(LENIENT, self.quiet)) if now in accepted else self.timeout

    def took(self, seconds: float) -> None:
        """An answer came after so long."""
        with self._lock:
            if self._mean is None:
                self._mean, self._deviation = seconds, seconds / 2
            self._deviation += (abs(self._mean - seconds) - self._deviation) / 4
            self._mean += (seconds - self._mean) / 8

    def patient(self, times: float) -> Pace:
        """One that waits so many times as long."""
        return Pace(self.timeout * times, self.quiet * times, clock=self.clock)


class Talk:
    """What passes on one link. `exchange` is what has passed so far, for a report."""

    def __init__(self, table: CompleteTable, link: Link, voice: Voice, pace: Pace) -> None:
        self._table, self._link, self._voice, self._pace = table, link, voice, pace
        self._began = pace.clock()
        self._gave: float | None = None
        """When the last thing was given that there may be an answer to."""
        self._heard: list[int] = []
        self._garbled: str | None = None
        self.ended = False
        """Whether the side has given the pair up."""
        self.failure: Seen | None = None
        """What was seen of a side whose initial state has not come whole."""
        self.exchange: list[Line] = []

    def open(self, first: Act | None = None) -> bool:
        """Give the initial state, or `first` in its place, and read the side's own.

        Returns whether that has come whole, in time. Else `failure` is all that there is to see.
        """
        self._write(Initial() if first is None else first)
        while not (self._voice.ready or self._over):
            if not self._read(self._pace.timeout):
                return self._fail(f"nothing more for {self._pace.timeout:.3g} s", late=True)
        if self._voice.ready:
            return True
        return self._fail(self._garbled or "the side gives up", late=False)

    def _fail(self, why: str, late: bool) -> bool:
        text = f"no whole initial state: {why}"
        self._note("--", text)
        self.failure = Seen(self._now(), late, garbled=text)
        return False

    def give(self, act: Act) -> None:
        """Write this act."""
        self._gave = self._pace.clock()
        self._write(act)

    def watch(self, seconds: float) -> Seen:
        """What the side does in so many seconds in which it ought to do nothing: the first of it."""
        self._gave = None
        until = self._pace.clock() + seconds
        while not (self._heard or self._over):
            if not self._read(max(0.0, until - self._pace.clock())):
                self._note("--", f"nothing for {seconds:.3g} s")
                break
        return Seen(self._now(), garbled=self._garbled or self._unread())

    def see(self, accepted: Sequence[Output] = ()) -> Seen:
        """What the side does now.

        Returns as soon as that is one of `accepted`, or cannot become one any more; where one of them is
        to do nothing, or none is named, once it has been quiet.
        """
        seen: tuple[Message | int, ...] = ()
        while True:
            now = self._now(seen)
            seen = now.messages
            if self._over or settled(now, accepted):
                return Seen(now, garbled=self._garbled)
            wait = self._pace.wait(now, accepted)
            if not self._read(wait):
                self._note("--", f"nothing for {wait:.3g} s")
                return Seen(now, late=True, garbled=self._unread())

    def _now(self, seen: tuple[Message | int, ...] = ()) -> Output:
        """What has been seen, and what the side has said since."""
        heard, self._heard = self._heard, []
        return Output((*seen, *map(self._word, heard)), self.ended)

    @property
    def _over(self) -> bool:
        return self.ended or self._garbled is not None

    def _write(self, act: Act) -> None:
        """An act of no bytes that ends nothing is not noted: to a Primary there is no initial state."""
        noted = act.ends
        if noted:
            self._note("->", str(act))
        for number, piece in enumerate(act.pieces(self._voice)):
            if number:
                self._link.apart()
            for buffer in piece:
                if len(buffer) and not noted:
                    self._note("->", str(act))
                    noted = True
                self._link.send((buffer,))
        if act.ends:
            self._link.end()

    def _read(self, timeout: float) -> bool:
        """Take what comes; False: nothing did."""
        data = self._link.receive(timeout)
        if data is None:
            return False
        now = self._pace.clock()
        if self._gave is not None:
            self._pace.took(now - self._gave)
        if not data:
            self.ended = True
            self._garbled = self._unread()
            self._note("<-", f"gives the pair up{self._why()}")
            return True
        if now - self._began > ENDLESS * self._pace.timeout:
            self._garbled = "it goes on and on"
        try:
            for value in self._voice.feed(data):
                self._heard.append(value)
                self._note("<-", said(self._word(value)))
        except StreamError as error:
            self._garbled = str(error)
        if self._garbled is not None:
            self._note("<-", f"what cannot be read: {self._garbled}")
        return True

    def _unread(self) -> str | None:
        """What is wrong with the end of what has come: it ought to be that of a message."""
        size = self._voice.unread
        if not self._voice.ready or not size:
            return None
        text = f"{size} bytes that are no whole message" if size > 1 else "a byte that is no whole message"
        self._note("<-", text)
        return text

    def _why(self) -> str:
        words = self._voice.refusal or self._link.evidence()
        return f": {words}" if words else ""

    def _word(self, value: int) -> Message | int:
        return self._table.words.by_value.get(value, value)

    def _note(self, way: str, text: str) -> None:
        self.exchange.append(Line(self._pace.clock() - self._began, way, text))


def settled(now: Output, accepted: Sequence[Output]) -> bool:
    """Whether to wait longer would change nothing: it is accepted, or cannot be any more."""
    if any(one != now and begins(one, now) for one in accepted):
        return False
    return bool(accepted) and (now not in accepted or bool(now.messages))


def begins(whole: Output, part: Output) -> bool:
    """Whether `part` may still become `whole`."""
    return not part.ended and whole.messages[: len(part.messages)] == part.messages
