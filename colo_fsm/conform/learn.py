"""A side that is a black box, learned: the machine that it is, and whether that is the declared one.

The learner is L# of AALpy (F. Vaandrager et al., A New Approach for Active Automata Learning Based on
Apartness, 2022). It asks words, and proposes machines. Whether one is the side's is asked with our suites,
and not by AALpy's Wp oracle: at m = n that asks nothing about a machine of one state, and it knows no ends.
A proposal holds if the side answers like it to the Wp suite of the declared machine, so that nothing smaller
is taken for the side too soon, to its own suite, in some laps through all of it, and to the shortest word on
which the two machines differ.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import attrs

from . import suites
from .alike import GIVEN_UP, Machine, named, with_one_end
from .asked import Answer, Exchange, Word
from .blackbox import Input, blackbox
from .link import Target
from .mealy import Mealy, difference
from .talk import Pace
from .teacher import Teacher, TooMuch, Unlearned

OWN_EXTRA = 1
"""States more than a machine that is not the declared one: with a side that takes much, more cost much."""
LAPS = 3
"""How often a side is led through all that it goes on with, in one link."""
VOTES = 3
"""How often what a verdict stands on is asked again: a difference, or these laps."""
MOST_RESETS = 5000
"""How often a side is started before it counts as one that cannot be learned."""


class NoLearner(RuntimeError):
    """AALpy is not installed. The text says how to get it."""


@attrs.frozen
class Difference:
    """A shortest exchange whose last answer shows a difference: as the table has it, and as it was seen."""

    expected: Exchange
    seen: Exchange


@attrs.frozen
class Learned:
    """What was learned of a side. `machine` is None where not even a first one was proposed."""

    target: str
    declared: Machine
    machine: Machine | None
    """With the names of the declared states that its own stand for."""
    difference: Difference | None
    """None: the side answers like its table, if it has no more than `bound` states."""
    bound: int
    """How many states, in which something can be given, the side may have, if this is to be the side."""
    finished: bool
    """False: the side was asked as often as it may be, and `machine` is what was thought of it last."""
    resets: int
    inputs: int
    """How many sides were started, and inputs given to them."""
    seconds: float
    late: int
    """How many answers came so late that they were asked for again."""

    @property
    def equal(self) -> bool:
        """Whether the side answers like its table."""
        return self.difference is None and self.finished

    def __str__(self) -> str:
        """The verdict in a line."""
        if self.equal:
            return f"answers like its table, if it has no more than {counted(self.bound, 'state')}"
        if self.difference is not None:
            return "does not answer like its table"
        return "is not known: it has more states than can be learned"


def counted(number: int, what: str) -> str:
    """`1 state`, `2 states`."""
    return f"{number} {what}{'s' * (number != 1)}"


def learn(
    target: Target,
    pace: Pace,
    extra: int = 0,
    *,
    most: int = MOST_RESETS,
    say: Callable[[str], None] = lambda _: None,
) -> Learned:
    """Learn a side, and compare it with the table of `target`.

    Where they are equal, that holds for a side of up to `extra` states more than its table has; where they
    differ, the machine does so for one more than itself, at most. `most`: how often the side may be started.
    `say` is told, in a sentence, what happens on the way. Raises CannotTest, NotDeterministic, NoLearner;
    ValueError for a table whose side never waits for its peer.
    """
    began = pace.clock()
    run = _Run(target, pace, extra, most, say)
    finished = run.whole()
    machine = None if run.machine is None else named(run.declared, run.machine)
    more = extra if run.difference is None else min(extra, OWN_EXTRA)
    return Learned(
        target.name,
        run.declared,
        machine,
        run.difference,
        0 if machine is None else len(machine.live) + more,
        finished,
        run.teacher.resets,
        run.teacher.inputs,
        pace.clock() - began,
        run.teacher.late,
    )


class _Run:
    """One side on the way to be known."""

    def __init__(self, target: Target, pace: Pace, extra: int, most: int, say: Callable[[str], None]) -> None:
        self.declared = with_one_end(cast(Machine, blackbox(target.table).minimal()))
        self.teacher = Teacher(target, pace, most, say)
        self.machine: Machine | None = None
        self.difference: Difference | None = None
        self._extra, self._say = extra, say

    def whole(self) -> bool:
        """Learn until nothing contradicts the machine; False: the side was asked too often before that."""
        while True:
            try:
                lsharp(self.declared.inputs, self._answers, self._contradiction)
                assert self.machine is not None
                word = difference(self.declared, self.machine)
                self.teacher.confirm(suites.laps(self.machine, LAPS) if word is None else word, VOTES)
                self._differs(word)
                return True
            except Unlearned:
                continue
            except TooMuch:
                self._differs(self.teacher.asked.deviation(self.declared))
                return False

    def _answers(self, word: Word) -> tuple[Answer, ...]:
        return self.teacher.ask(word).answers

    def _contradiction(self, machine: Machine) -> Word | None:
        """A word that the side answers otherwise than this machine; None: the machine is taken for it."""
        self.machine = attrs.evolve(machine, first=self.teacher.ask(()).first)
        self._say(f"{counted(len(machine.live), 'state')} after {counted(self.teacher.resets, 'start')}")
        return next(filter(self._contradicts, self._tests(self.machine)), None)

    def _tests(self, machine: Machine) -> Iterator[Word]:
        yield from suites.wp(self.declared, self._extra)
        yield from suites.wp(machine, min(self._extra, OWN_EXTRA))
        yield suites.laps(machine, LAPS)
        yield difference(self.declared, machine) or ()

    def _contradicts(self, word: Word) -> bool:
        """Whether the machine is wrong on this word. Then it is asked again: all else follows from it."""
        assert self.machine is not None
        predicted = _exchange(self.machine, word)
        parted = self.teacher.ask(word, predicted).until(predicted)
        if parted is not None:
            self.teacher.confirm(parted.word)
        return parted is not None

    def _differs(self, word: Word | None) -> None:
        """Note the difference that is seen on this word, if there is one."""
        if word is None:
            return
        seen = self.teacher.asked.begun(word)
        assert seen is not None
        self.difference = Difference(_exchange(self.declared, word), seen)


def _exchange(machine: Machine, word: Word) -> Exchange:
    """What this machine answers to a word, as far as it can be given."""
    assert machine.first is not None
    return Exchange(machine.first, tuple(zip(word, machine.run(word), strict=False)))


def lsharp(
    inputs: tuple[Input, ...],
    answers: Callable[[Word], tuple[Answer, ...]],
    contradiction: Callable[[Machine], Word | None],
) -> Machine:
    """The machine that AALpy's L# learns. `answers` are fewer than the inputs where the side has ended.

    Raises NoLearner, and what these two raise. Without AALpy's own cache, which ends the process where two
    answers differ.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of its own escapes, where it is compiled just now
            from aalpy.learning_algs.deterministic.LSharp import run_Lsharp
    except ImportError as error:
        raise NoLearner("learning needs AALpy: pip install 'colo-fsm[learn]'") from error
    learned = run_Lsharp(
        list(inputs),
        _Side(answers),
        _Oracle(inputs, contradiction),
        "mealy",
        separation_rule="SepSeq",
        cache_and_non_det_check=False,
        print_level=0,
    )
    return _machine(learned, inputs)


_OVER = "over"
"""What a side that has ended answers, for L#, which knows no ends: no other side answers so."""


class _Side:
    """What L# asks."""

    num_queries = num_steps = num_cached_queries = 0

    def __init__(self, answers: Callable[[Word], tuple[Answer, ...]]) -> None:
        self._answers = answers

    def query(self, word: Sequence[Input]) -> list[Answer | str]:
        answers = self._answers(tuple(word))
        return [*answers, *[_OVER] * (len(word) - len(answers))]


class _Oracle:
    """What L# shows its proposals to."""

    num_queries = num_steps = 0

    def __init__(self, inputs: tuple[Input, ...], contradiction: Callable[[Machine], Word | None]) -> None:
        self._inputs, self._contradiction = inputs, contradiction

    def find_cex(self, proposed: Any) -> list[Input] | None:
        word = self._contradiction(_machine(proposed, self._inputs))
        return None if word is None else list(word)


def _machine(proposed: Any, inputs: tuple[Input, ...]) -> Machine:
    """A machine of AALpy as ours. L# may take the end of a side for any state; an answer says what it is."""
    steps: dict[tuple[str, Input], tuple[str, Answer]] = {}
    for state in proposed.states:
        for given, dest in state.transitions.items():
            answer = state.output_fun[given]
            if answer != _OVER:
                steps[state.state_id, given] = GIVEN_UP if answer.ended else dest.state_id, answer
    ended_at_once = _OVER in proposed.initial_state.output_fun.values()
    initial = GIVEN_UP if ended_at_once else proposed.initial_state.state_id
    return Mealy(initial, inputs, steps, frozenset((GIVEN_UP,)))
