"""What lasts while a checkpoint is taken: which guest runs, which packets wait, what a side works at.

All of it follows from the effects of the rows that fire, one after the other, as `course.py` finds them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from enum import StrEnum
from math import inf

import attrs

from colo_fsm.fsm import CompleteTable, Do, Effect, Send

from .arrows import asked
from .course import Step


class Tone(StrEnum):
    """What a bar tells."""

    RUNS = "runs"
    STILL = "paused"
    HELD = "held"
    COMPARED = "compared"
    """Hybrid mode: a packet leaves as soon as the other guest has sent the same."""
    WORK = "work"


SEEN = {Do.suspend, Do.resume, Do.release, Do.release_all, Do.compare, Do.stop_comparing}
"""What the bars of guests and packets show: this is no work, unless somebody waits for its end."""


@attrs.frozen
class Bar:
    """Something that lasts from one time to another, or for ever (`end` is infinite)."""

    tone: Tone
    start: float
    end: float
    text: str

    def within(self, start: float, end: float) -> Iterator[Bar]:
        """The part between these times, if there is one."""
        if self.start < end and self.end > start:
            yield attrs.evolve(self, start=max(self.start, start), end=min(self.end, end))


@attrs.define
class Packets:
    """What a guest sends between two saves: how it waits from when on, and when it is let out."""

    tones: list[tuple[float, Tone]]
    released: float = inf

    @property
    def bars(self) -> Iterator[Bar]:
        return _bars(self.tones, self.released)


def guest(table: CompleteTable, steps: Sequence[Step]) -> Iterator[Bar]:
    """When this side's guest runs, and when it stands still."""
    tones = {Do.resume: Tone.RUNS, Do.suspend: Tone.STILL}
    changes = [(at, tones[e]) for at, effects in _asked(table, steps) for e in effects if e in tones]
    return _bars([(0, Tone.STILL), *changes], inf)


def packets(table: CompleteTable, steps: Sequence[Step]) -> list[Packets]:
    """What this guest sends, a part for each save: the row that releases, on either side, lets it out."""
    parts: list[Packets] = []
    saved: list[Packets] = []
    written: Packets | None = None
    runs, tone = False, Tone.HELD
    for at, effects in _asked(table, steps, peer=(Do.release,)):
        for effect in effects:
            match effect:
                case Do.resume | Do.suspend:
                    runs = effect is Do.resume
                case Do.compare | Do.stop_comparing:
                    tone = Tone.COMPARED if effect is Do.compare else Tone.HELD
                case Do.save if written:
                    saved.append(written)
                    written = None
                case Do.release:
                    for part in saved:
                        part.released = at
                    saved = []
        if written:
            written.tones.append((at, tone))
        elif runs:
            written = Packets([(at, tone)])
            parts.append(written)
    return parts


def work(table: CompleteTable, steps: Iterable[Step]) -> Iterator[Bar]:
    """What a side is at, each for the one step that it takes here."""
    for step in (step for step in steps if step.side is table.side):
        state = step.row.dest or step.row.source
        awaited = [e for e in step.row.effects if isinstance(e, Do) and table.awaits(state, e)]
        own = [e for e in step.row.effects if e in awaited or not (isinstance(e, Send) or e in SEEN)]
        if own:
            yield Bar(Tone.WORK, step.at, step.at + 1, asked(own))


def _asked(
    table: CompleteTable, steps: Iterable[Step], peer: Container[Effect] = ()
) -> Iterator[tuple[float, tuple[Effect, ...]]]:
    """When this side's rows ask for what, and those of its peer for any of `peer`."""
    yield 0, table.start
    for step in steps:
        own = step.side is table.side
        yield step.at, step.row.effects if own else tuple(e for e in step.row.effects if e in peer)


def _bars(changes: Iterable[tuple[float, Tone]], end: float) -> Iterator[Bar]:
    """A bar from each change to the next one; what stays the same is no change."""
    met: list[tuple[float, Tone]] = []
    for at, tone in changes:
        if not met or met[-1][1] is not tone:
            met.append((at, tone))
    ends = [*(at for at, _ in met[1:]), end]
    return (Bar(tone, at, until, tone) for (at, tone), until in zip(met, ends, strict=True) if at < until)
