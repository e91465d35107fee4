"""What logs of real QEMUs say is checked against both machines.

Two logs of a replication are read in the order of their times, but never so that a message is received before
it was sent: QEMU logs a message after it has left, and two machines have two clocks. Without times that rule
alone decides. A side whose log has not begun yet, or has ended, may have done anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum

import attrs

from colo_fsm.colo import COLO
from colo_fsm.fsm import Side

from .log import Log, Part, TraceError
from .shadow import ANYWHERE, Deviation, Position, Shadow, Sight


@attrs.frozen
class Checked:
    """What is shown of a replication, by one log or two. `states`: where the sides stand at their end."""

    places: tuple[str, ...]
    """Where it begins in each."""
    lines: int
    deviation: Deviation | None
    states: dict[Side, frozenset[StrEnum]]

    def __str__(self) -> str:
        if self.deviation is not None:
            return f"deviation: {self.deviation}"
        where = ", ".join(f"the {side} in '{_either(states)}'" for side, states in self.states.items())
        return f"ok: {self.lines} lines; they end with {where}"


@attrs.frozen
class Report:
    """What the logs show of each replication, and what was not looked at."""

    replications: tuple[Checked, ...]
    unseen: tuple[str, ...]

    @property
    def deviation(self) -> Deviation | None:
        """The first replication's that has one."""
        return next((each.deviation for each in self.replications if each.deviation is not None), None)

    def lines(self) -> list[str]:
        """For people."""
        if len(self.replications) == 1:
            found = [str(self.replications[0])]
        else:
            found = [f"{' and '.join(each.places)}: {each}" for each in self.replications]
        return found + [f"not looked at: {text}" for text in self.unseen]


def _either(states: frozenset[StrEnum]) -> str:
    return " or ".join(sorted(states))


def check(logs: Sequence[Log]) -> Report:
    """Follow the logs of one side or of both. Raises TraceError if two are of the same side."""
    unseen = [text for log in logs for text in log.unseen]
    if len(logs) == 1:
        together = [[part] for part in logs[0].parts]
    else:
        may = _candidates(logs[0], logs[1])
        pairs = _pairs(may)
        paired = {part for pair in pairs for part in pair}
        together = [[*pair] for pair in pairs] + [
            [part] for log in logs for part in log.parts if part not in paired
        ]
        if any(one not in paired and other not in paired for one, other in may):
            unseen.append(
                "one log beside the other where it cannot be told what belongs together: "
                "give the one replication only, or logs with times (-msg timestamp=on)"
            )
    return Report(tuple(_Trial(parts).run() for parts in together), tuple(unseen))


_Pair = tuple[Part, Part]


def _candidates(first: Log, second: Log) -> list[_Pair]:
    """What may be the two sides of one replication. Raises TraceError if there is none."""
    may = [(one, other) for one in first.parts for other in second.parts if one.side is not other.side]
    if not may:
        raise TraceError(f"both logs are of a {first.parts[0].side}: give one of each side")
    return may


def _pairs(may: Sequence[_Pair]) -> list[_Pair]:
    """Those that belong together: nothing else can belong to either, or they overlap the most in time."""
    alike = Counter(part for pair in may for part in pair)
    pairs = [pair for pair in may if all(alike[part] == 1 for part in pair)]
    for one, other in sorted(may, key=lambda pair: -pair[0].overlap(pair[1])):
        taken = {part for pair in pairs for part in pair}
        if one.overlap(other) and one not in taken and other not in taken:
            pairs.append((one, other))
    return pairs


def _start(wanted: Callable[[Position], bool]) -> frozenset[Position]:
    return frozenset(p for p in ANYWHERE if wanted(p))


def _sights(logged: Collection[Side]) -> tuple[Sight, Sight]:
    primary, secondary = (Sight.ALL if side in logged else Sight.NOTHING for side in Side)
    return primary, secondary


class _Trial:
    """One check of a replication, by one log or two."""

    def __init__(self, logs: Sequence[Part]) -> None:
        self._logs = [attrs.evolve(log) for log in logs]
        whole = {log.side for log in logs if log.whole}
        self._pair = self._shadow(whole, whole)
        self._alone = {g.side: self._shadow(whole & {g.side}, {g.side}) for g in self._logs}
        """Each side by its own log, to tell which of two logs is wrong when they do not agree."""

    @staticmethod
    def _shadow(whole: Collection[Side], logged: Collection[Side]) -> Shadow:
        return Shadow(_start(lambda p: all(p.state(s) is COLO.initial for s in whole)), _sights(logged))

    def run(self) -> Checked:
        count = 0
        while heads := self._heads():
            log = next((g for g in heads if self._pair.allows(g.head)), None)
            if log is None:
                return self._report(count, self._deviation(heads))
            self._take(log)
            count += 1
        return self._report(count, None)

    def _heads(self) -> list[Part]:
        """The logs that have not ended, the one to be tried first in front."""
        heads = [g for g in self._logs if not g.ended]
        times = {g.side: g.time for g in heads}
        if len(heads) == 2 and None not in times.values():
            return sorted(heads, key=lambda g: times[g.side] or 0.0)
        return sorted(heads, key=lambda g: g.next > 0)

    def _take(self, log: Part) -> None:
        seen = log.head
        if not log.next and not log.whole:
            self._pair.look(log.side, Sight.ALL)
        self._pair.see(seen)
        self._alone[log.side].see(seen)
        log.next += 1
        if log.ended:
            self._pair.look(log.side, Sight.NOTHING)

    def _deviation(self, heads: Sequence[Part]) -> Deviation | None:
        for log in heads:
            if (deviation := self._alone[log.side].see(log.head)) is not None:
                return deviation
        return self._pair.see(heads[0].head)

    def _report(self, count: int, deviation: Deviation | None) -> Checked:
        states = {g.side: self._alone[g.side].states(g.side) for g in self._logs}
        return Checked(tuple(g.place for g in self._logs), count, deviation, states)
