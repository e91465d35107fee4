"""Logs of real QEMUs, `-trace 'colo_*'`: what they say is checked against both machines.

A log may be of one side or of both (two files), whole or a part, with timestamps or without.
Two logs are read in the order of their times, but never so that a message is received before it was
sent: QEMU logs a message after it has left, and two machines have two clocks. Without times that rule
alone decides. A side whose log has not begun yet, or has ended, may have done anything.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import StrEnum
from pathlib import Path

import attrs

from colo_fsm.colo import COLO
from colo_fsm.fsm import Do, Side

from .shadow import ANYWHERE, Act, Deviation, Position, Seen, Shadow, Sight

_LINE = re.compile(
    r"(?:@(?P<time>\d+\.\d+):)?"
    r"(?:colo_(?P<act>send|receive)_message (?:Send|Receive) '(?P<message>[^']*)' message"
    r"|colo_vm_state_change Change '\w+' => '(?P<run>run|stop)'"
    r"|(?P<over>colo_failover_set_state))"
)
_MESSAGES = {m.text: m for m in COLO.sender}
_ACTS = {"send": Act.SENT, "receive": Act.RECEIVED}
_CHANGES = {"run": Do.resume, "stop": Do.suspend}


class TraceError(Exception):
    """A file is no log that can be checked. The text says what to do."""


Line = tuple[float | None, Seen]
"""When, in seconds, None if the log does not say; and what."""


@attrs.define
class Log:
    """The log of one side; `next` is the line that is looked at next."""

    side: Side
    lines: Sequence[Line]
    whole: bool
    """Whether it begins where its side does."""
    next: int = 0

    @property
    def ended(self) -> bool:
        return self.next == len(self.lines)

    @property
    def time(self) -> float | None:
        return self.lines[self.next][0]

    @property
    def head(self) -> Seen:
        return self.lines[self.next][1]


@attrs.frozen
class Report:
    """What the logs show. `states`: where the sides stand at their end, if that is known."""

    lines: int
    deviation: Deviation | None
    states: dict[Side, frozenset[StrEnum]]

    def __str__(self) -> str:
        if self.deviation is not None:
            return f"deviation: {self.deviation}"
        where = ", ".join(f"the {side} in '{_either(states)}'" for side, states in self.states.items())
        return f"ok: {self.lines} lines; they end with {where}"


def _either(states: frozenset[StrEnum]) -> str:
    return " or ".join(sorted(states))


def read_log(path: str | os.PathLike[str]) -> Log:
    """A log, with the side that it is of. Raises TraceError, OSError."""
    lines = list(_lines(Path(path)))
    sides = Counter(seen.side for _, seen in lines if seen.act is not Act.DID)
    if not sides:
        raise TraceError(f"{path} has no line of a COLO message: run QEMU with -trace 'colo_*' -D FILE")
    side = sides.most_common(1)[0][0]
    lines = [(time, attrs.evolve(seen, side=side)) for time, seen in lines]
    first = next(i for i, (_, seen) in enumerate(lines) if seen.act is not Act.DID)
    whole = _begins(lines[first][1])
    return Log(side, lines if whole else lines[first:], whole)


def _lines(path: Path) -> Iterator[Line]:
    """Up to a failover: what comes then is not the protocol's. The side is a line's own guess."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, 1):
            if (found := _LINE.search(text)) is None:
                continue
            if found["over"]:
                return
            time = None if found["time"] is None else float(found["time"])
            place = f"{path}:{number}"
            if found["run"]:
                yield time, Seen(Side.PRIMARY, Act.DID, _CHANGES[found["run"]], place)
                continue
            if (message := _MESSAGES.get(found["message"])) is None:
                raise TraceError(f"{place}: '{found['message']}' is no COLO message")
            act, sender = _ACTS[found["act"]], COLO.sender[message]
            yield time, Seen(sender if act is Act.SENT else sender.peer, act, message, place)


def _begins(first: Seen) -> bool:
    """Whether the first message can only be a side's very first."""
    later = _start(lambda p: p.state(first.side) is not COLO.initial)
    return not Shadow(later, _sights({first.side})).allows(first)


def _start(wanted: Callable[[Position], bool]) -> frozenset[Position]:
    return frozenset(p for p in ANYWHERE if wanted(p))


def _sights(logged: Collection[Side]) -> tuple[Sight, Sight]:
    primary, secondary = (Sight.ALL if side in logged else Sight.NOTHING for side in Side)
    return primary, secondary


def check(logs: Sequence[Log]) -> Report:
    """Follow the logs of one side or of both. Raises TraceError if two are of the same side."""
    if len({log.side for log in logs}) < len(logs):
        raise TraceError(f"both logs are of a {logs[0].side}: give one of each side")
    return _Trial(logs).run()


class _Trial:
    """One check of some logs."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = [attrs.evolve(log) for log in logs]
        whole = {log.side for log in logs if log.whole}
        self._pair = self._shadow(whole, whole)
        self._alone = {g.side: self._shadow(whole & {g.side}, {g.side}) for g in self._logs}
        """Each side by its own log, to tell which of two logs is wrong when they do not agree."""

    @staticmethod
    def _shadow(whole: Collection[Side], logged: Collection[Side]) -> Shadow:
        return Shadow(_start(lambda p: all(p.state(s) is COLO.initial for s in whole)), _sights(logged))

    def run(self) -> Report:
        count = 0
        while heads := self._heads():
            log = next((g for g in heads if self._pair.allows(g.head)), None)
            if log is None:
                return self._report(count, self._deviation(heads))
            self._take(log)
            count += 1
        return self._report(count, None)

    def _heads(self) -> list[Log]:
        """The logs that have not ended, the one to be tried first in front."""
        heads = [g for g in self._logs if not g.ended]
        times = {g.side: g.time for g in heads}
        if len(heads) == 2 and None not in times.values():
            return sorted(heads, key=lambda g: times[g.side] or 0.0)
        return sorted(heads, key=lambda g: g.next > 0)

    def _take(self, log: Log) -> None:
        seen = log.head
        if not log.next and not log.whole:
            self._pair.look(log.side, Sight.ALL)
        self._pair.see(seen)
        self._alone[log.side].see(seen)
        log.next += 1
        if log.ended:
            self._pair.look(log.side, Sight.NOTHING)

    def _deviation(self, heads: Sequence[Log]) -> Deviation | None:
        for log in heads:
            if (deviation := self._alone[log.side].see(log.head)) is not None:
                return deviation
        return self._pair.see(heads[0].head)

    def _report(self, count: int, deviation: Deviation | None) -> Report:
        return Report(count, deviation, {g.side: self._alone[g.side].states(g.side) for g in self._logs})
