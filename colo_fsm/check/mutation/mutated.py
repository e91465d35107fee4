"""What a mutant answers: the sound table's answers, but where the two may differ.

The questions are those that `Control` asks a session. Nearly all mutants answer one of them otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import copy
from enum import StrEnum

import attrs

from colo_fsm.fsm import CompleteTable, Effects, Session, TableMachine, Trigger, begin

from ..model.control import Control, Reaction
from .mutants import Mutant

Question = tuple[StrEnum, Trigger]


@attrs.frozen(eq=False)
class Difference:
    """Where a mutant's answers may differ: at these questions, and in these states at all of them.

    A session looks at the row that fires and, for whether to read and what is in order, at what its state
    accepts, expects and may begin: a state in which one of those differs counts as a whole.
    """

    questions: frozenset[Question]
    states: frozenset[StrEnum] = frozenset()
    start: bool = False

    @classmethod
    def of(cls, sound: CompleteTable, mutant: Mutant) -> Difference:
        """Where this mutant may answer otherwise."""
        if sound.triggers != mutant.table.triggers:
            return cls(frozenset(), frozenset(sound.states))
        states: set[StrEnum] = set()
        if not all(row.implied for row in mutant.was + mutant.now):  # else what is written is as it was
            states = {s for s in sound.states if _in_order(sound, s) != _in_order(mutant.table, s)}
        questions = frozenset((row.source, row.trigger) for row in mutant.was)
        return cls(questions, frozenset(states), sound.start != mutant.table.start)

    def has(self, state: StrEnum, trigger: Trigger) -> bool:
        return state in self.states or (state, trigger) in self.questions

    @property
    def touched(self) -> frozenset[StrEnum]:
        return self.states | {state for state, _ in self.questions}


def _in_order(table: CompleteTable, state: StrEnum) -> tuple[object, ...]:
    """What a session in this state looks at besides the row that fires."""
    orders = [table.by_input[state, order].implied for order in (begin.checkpoint, begin.leave)]
    return (bool(table.accepts[state]), table.expects[state], *orders)


class Asking(Control):
    """The sound table's answers; notes what it is asked while the probe is explored."""

    def __init__(self, sound: Control) -> None:
        self.side, self.table = sound.side, sound.table
        self._machine, self._known = sound._machine, sound._known
        self.asked: set[Trigger] = set()
        self.questions: dict[Question, dict[object, Callable[[Session], Effects | None]]] = {}
        self.noting = True

    def _ask(
        self, state: StrEnum, key: object, trigger: Trigger, feed: Callable[[Session], Effects | None]
    ) -> Reaction | None:
        if self.noting:
            self.asked.add(trigger)
            self.questions.setdefault((state, trigger), {})[key] = feed
        return super()._ask(state, key, trigger, feed)


class Mutated(Control):
    """A mutant's answers: asked of a session over the mutated table wherever they may differ."""

    def __init__(self, sound: Asking, table: CompleteTable, machine: TableMachine, where: Difference) -> None:
        self.side, self.table = sound.side, table
        self._machine, self._known = machine, {}
        self.sound, self.where = sound, where

    def _ask(
        self, state: StrEnum, key: object, trigger: Trigger, feed: Callable[[Session], Effects | None]
    ) -> Reaction | None:
        if self.where.has(state, trigger):
            return super()._ask(state, key, trigger, feed)
        return self.sound._ask(state, key, trigger, feed)

    def changed(self) -> dict[tuple[StrEnum, object], tuple[Trigger | None, object]]:
        """The answers that differ, of all that are asked over the sound table.

        With each its trigger; None where it is not an answer but what the state waits for.
        """
        sound, where = self.sound, self.where
        found: dict[tuple[StrEnum, object], tuple[Trigger | None, object]] = {}
        for (state, trigger), asked in sound.questions.items():
            if where.has(state, trigger) and trigger in self.table.triggers:
                for key, feed in asked.items():
                    answer = self._ask(state, key, trigger, feed)
                    if answer != sound._known[state, key]:
                        found[state, key] = (trigger, answer)
        for state in where.states:
            waits, reported = self.awaits_message(state), self.table.awaited
            if (waits, reported) != (sound.awaits_message(state), sound.table.awaited):
                found[state, None] = (None, (waits, reported))
        return found


class Machines:
    """Machines of mutated tables. One knows only where rows lead, so mutants that lead alike share one."""

    def __init__(self) -> None:
        self._made: dict[Hashable, TableMachine] = {}

    def of(self, table: CompleteTable) -> TableMachine:
        """A machine with this table."""
        key = (table.triggers, tuple(row.dest for row in table.rows))
        if key not in self._made:
            self._made[key] = TableMachine(table)
        machine = copy(self._made[key])
        vars(machine)["table"] = table  # it is frozen; but for the table it is the same machine
        return machine
