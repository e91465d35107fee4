"""What a learner asks: words of inputs, each of which is given to a side started afresh.

Nothing is asked twice, and nothing of a side that has ended. Two answers that contradict each other are
settled: a side that is late only once is asked again with more patience, another one is not deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat

import attrs

from colo_fsm.fsm import CompleteTable

from .asked import Answer, Asked, Broken, Exchange, Word
from .blackbox import Input, Output, opening, reaction
from .case import Given, Seen
from .link import Target
from .play import PATIENT
from .talk import Pace, Talk, begins

MOST_LATE = 3
"""How many answers may be late in one run: what is more often otherwise, is not deterministic."""


class NotDeterministic(Exception):
    """The same inputs were answered differently: `one` and `other` are the two exchanges."""

    def __init__(self, one: Exchange, other: Exchange) -> None:
        super().__init__("the side is not deterministic: the same inputs were answered differently")
        self.one, self.other = one, other


class Unlearned(Exception):
    """An answer of before was not true: whoever has built on it begins anew."""


class TooMuch(Exception):
    """The side was asked as often as it may be, and is not yet known."""


class Teacher:
    """Asks `target`. `say` is told, in a sentence, what changes the run; `most` is how often it may ask."""

    def __init__(self, target: Target, pace: Pace, most: int, say: Callable[[str], None]) -> None:
        self.asked = Asked()
        self.resets = self.inputs = 0
        """How many sides were started, and inputs given."""
        self._target, self._pace, self._most, self._say = target, pace, most, say
        self.late = 0
        """How many answers were asked for again, and had been late."""

    def ask(self, word: Word, predicted: Exchange | None = None) -> Exchange:
        """What follows on these inputs, to the side's end if that comes before.

        What is `predicted` is waited for longer than what nobody expects. Raises CannotTest,
        NotDeterministic, TooMuch, Unlearned.
        """
        while (known := self.asked.known(word)) is None:
            self._take(self._play(word, self._pace, self.asked.begun(word), predicted))
        return known

    def confirm(self, word: Word, times: int = 1) -> None:
        """Ask again what is known, first with patience: what much depends on. Raises what `ask` does."""
        for pace in (self._patient, *[self._pace] * (times - 1)):
            self._take(self._play(word, pace, predicted=self.asked.begun(word)))

    @property
    def _patient(self) -> Pace:
        return self._pace.patient(PATIENT)

    def _take(self, exchange: Exchange) -> None:
        known = self.asked.begun(exchange.word)
        doubtful = None if known is None else exchange.until(known)
        if known is None or doubtful is None:
            self.asked.learn(exchange)
        else:
            self._settle(doubtful, Exchange(known.first, known.steps[: len(doubtful.steps)]))

    def _settle(self, now: Exchange, before: Exchange) -> None:
        """Ask twice more, with patience: what these say is true, if the others can have been too early."""
        if self.late == MOST_LATE:
            raise NotDeterministic(before, now)
        self.late += 1
        patient = self._patient
        longer = before if _too_early(now, before) else now
        true, again = (self._play(now.word, patient, predicted=longer) for _ in range(2))
        if true != again:
            raise NotDeterministic(true, again)
        forgotten = before.until(true)
        for untrue in (forgotten, now.until(true)):
            if untrue is not None and not _too_early(untrue, true):
                raise NotDeterministic(untrue, true)
        self._pace = patient
        self._say(f"{_last(now)} was answered late: all waits are {PATIENT} times as long from now on")
        if forgotten is not None:
            self.asked.forget(forgotten)
            self.asked.learn(true)
            raise Unlearned

    def _play(
        self, word: Word, pace: Pace, known: Exchange | None = None, predicted: Exchange | None = None
    ) -> Exchange:
        """Give this word to a fresh side. What is known is waited for only until it is there."""
        if self.resets == self._most:
            raise TooMuch
        self.resets += 1
        sure, likely = _each(known), _each(predicted)
        with self._target.fresh() as (link, voice):
            talk = Talk(self._target.table, link, voice, pace)
            side = _Conversation(self._target.table, talk, strict=pace is not self._pace)
            answers = [side.begin(next(sure), next(likely))]
            for given in word:
                if answers[-1].ended:
                    break
                self.inputs += 1
                answers.append(side.go_on(given, next(sure), next(likely)))
            if (crash := link.crash(pace.quiet)) is not None:
                answers[-1] = Broken(f"a crash: {crash}")
            return Exchange(answers[0], tuple(zip(word, answers[1:], strict=False)))


def _each(exchange: Exchange | None) -> Iterator[Answer | None]:
    """Its answers, that of the beginning first; None for ever behind them."""
    answers = () if exchange is None else (exchange.first, *exchange.answers)
    return chain(answers, repeat(None))


class _Conversation:
    """A word on its way to a side. `strict`: what is predicted counts less than what the table says."""

    def __init__(self, table: CompleteTable, talk: Talk, strict: bool) -> None:
        self._table, self._talk, self._strict = table, talk, strict
        self._here = opening(table)
        self._as_declared = self._as_predicted = True

    def begin(self, known: Answer | None, predicted: Answer | None) -> Answer:
        """What the side says before any input."""
        self._talk.open()
        if (failure := self._talk.failure) is not None:
            return Broken(failure.garbled or "")
        return self._answer(known, predicted)

    def go_on(self, given: Input, known: Answer | None, predicted: Answer | None) -> Answer:
        """What it says to this one. A state goes with a message that is in its turn by the declared table."""
        out_of_turn = given.message is not None and given.message not in self._table.accepts[self._here.state]
        self._here = reaction(self._table, self._here.state, given)
        self._talk.give(Given(given, out_of_turn))
        return self._answer(known, predicted)

    def _answer(self, known: Answer | None, predicted: Answer | None) -> Answer:
        declared = self._here.output
        likely = (predicted if self._as_predicted else None, declared if self._as_declared else None)
        expected = known or next(filter(None, reversed(likely) if self._strict else likely), None)
        seen = self._talk.see((expected,) if isinstance(expected, Output) else ())
        if not (seen.late or seen.garbled or seen.output.ended or seen.output == known):
            seen = self._with_more(seen)
        answer = seen.output if seen.garbled is None else Broken(seen.garbled, early=seen.late)
        self._as_declared = self._as_declared and answer == declared
        self._as_predicted = self._as_predicted and answer == predicted
        return answer

    def _with_more(self, seen: Seen) -> Seen:
        """All that comes until the side is quiet: nobody knows yet how much that is."""
        more = self._talk.see()
        messages = (*seen.output.messages, *more.output.messages)
        return attrs.evolve(more, output=Output(messages, more.output.ended))


def _too_early(part: Exchange, whole: Exchange) -> bool:
    """Whether the last answer of an exchange may be one that was not waited for long enough."""
    there = whole.answers[len(part.steps) - 1] if part.steps else whole.first
    here = part.answers[-1] if part.steps else part.first
    if isinstance(here, Broken):
        return here.early
    return not here.ended and (isinstance(there, Broken) or begins(there, here))


def _last(exchange: Exchange) -> str:
    return f"'{exchange.word[-1]}'" if exchange.word else "the beginning"
