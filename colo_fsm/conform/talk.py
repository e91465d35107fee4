"""One conversation with a side under test, in its table's own terms."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from colo_fsm.fsm import CompleteTable, Message
from colo_fsm.stream import StreamError

from .blackbox import Output, said
from .case import Act, Line, Seen
from .link import Link, moment
from .voice import Voice

LEAST_QUIET = 0.02
"""Seconds in which a side that is quick has said what it has to say."""
NOTHING = Output((), ended=False)
ENDLESS = 50
"""Timeouts after which a conversation that still goes on is cut off."""


class Pace:
    """How long to wait for a side: `timeout` for what has to come, `quiet` to be sure that nothing does.

    In seconds; `least` is the shortest quiet time. Learns from the answers of all conversations of a run, of
    any thread, as TCP does from round trips (RFC 6298: their mean and four times their deviation, old ones
    forgotten), and waits twice as long: one late answer does not slow the rest of the run down.
    """

    def __init__(self, timeout: float, least: float = LEAST_QUIET) -> None:
        self.timeout = timeout
        self._least = least
        self._mean: float | None = None
        self._deviation = 0.0
        self._lock = threading.Lock()

    @property
    def quiet(self) -> float:
        """At most the timeout."""
        return min(self.timeout, max(self._least, 2 * ((self._mean or 0.0) + 4 * self._deviation)))

    def took(self, seconds: float) -> None:
        """An answer came after so long."""
        with self._lock:
            if self._mean is None:
                self._mean, self._deviation = seconds, seconds / 2
            self._deviation += (abs(self._mean - seconds) - self._deviation) / 4
            self._mean += (seconds - self._mean) / 8

    def patient(self, times: float) -> Pace:
        """One that waits so many times as long."""
        return Pace(self.timeout * times, self.quiet * times)


class Talk:
    """What passes on one link. `exchange` is what has passed so far, for a report."""

    def __init__(self, table: CompleteTable, link: Link, voice: Voice, pace: Pace) -> None:
        self._table, self._link, self._voice, self._pace = table, link, voice, pace
        self._began = self._gave = moment()
        self._heard: list[int] = []
        self._garbled: str | None = None
        self.ended = False
        """Whether the side has given the pair up."""
        self.exchange: list[Line] = []

    def open(self) -> bool:
        """Say what comes first, and read what does; whether it came whole, in time."""
        self._link.send(self._voice.opening())
        while not (self._voice.ready or self._over):
            if not self._read(self._pace.timeout):
                self._note("--", "its initial state does not come whole")
                return False
        return self._voice.ready

    @property
    def heard(self) -> Output:
        """What the side has said that nobody has asked for yet."""
        return Output(tuple(map(self._word, self._heard)), self.ended)

    def give(self, act: Act) -> None:
        """Write this act."""
        self._note("->", str(act))
        self._gave = moment()
        for piece in act.pieces(self._voice):
            self._link.send(piece)
        if act.ends:
            self._link.end()

    def watch(self, seconds: float) -> Seen:
        """What the side does in so many seconds in which it ought to do nothing."""
        while not (self._heard or self._over) and self._read(seconds):
            pass
        return self.see((NOTHING,))

    def see(self, accepted: Sequence[Output] = ()) -> Seen:
        """What the side does now.

        Returns as soon as that is one of `accepted`, or cannot become one any more; where one of them is
        to do nothing, or none is named, once it has been quiet.
        """
        seen: list[int] = []
        while True:
            seen += self._heard
            self._heard.clear()
            now = Output(tuple(map(self._word, seen)), self.ended)
            if self._over or settled(now, accepted):
                return Seen(now, garbled=self._garbled)
            quiet = self._pace.timeout if accepted and now not in accepted else self._pace.quiet
            if not self._read(quiet):
                self._note("--", f"nothing for {quiet:.3g} s")
                return Seen(now, late=True)

    @property
    def _over(self) -> bool:
        return self.ended or self._garbled is not None

    def _read(self, timeout: float) -> bool:
        """Take what comes; False: nothing did."""
        data = self._link.receive(timeout)
        if data is None:
            return False
        now = moment()
        if self._voice.ready:  # what comes before that is a guest's state, and takes as long as it is large
            self._pace.took(now - self._gave)
        if not data:
            self.ended = True
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

    def _why(self) -> str:
        words = self._voice.refusal or self._link.evidence()
        return f": {words}" if words else ""

    def _word(self, value: int) -> Message | int:
        return self._table.words.by_value.get(value, value)

    def _note(self, way: str, text: str) -> None:
        self.exchange.append(Line(moment() - self._began, way, text))


def settled(now: Output, accepted: Sequence[Output]) -> bool:
    """Whether to wait longer would change nothing: it is accepted, or cannot be any more."""
    if any(one != now and begins(one, now) for one in accepted):
        return False
    return bool(accepted) and (now not in accepted or bool(now.messages))


def begins(whole: Output, part: Output) -> bool:
    """Whether `part` may still become `whole`."""
    return not part.ended and whole.messages[: len(part.messages)] == part.messages
