"""Machines that answer each input with an output (Mealy machines): to make tests of, and to compare."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Generic, TypeVar

import attrs

S = TypeVar("S", bound=Hashable)
T = TypeVar("T", bound=Hashable)
In = TypeVar("In", bound=Hashable)
Out = TypeVar("Out", bound=Hashable)


@attrs.frozen(eq=False, slots=False)
class Mealy(Generic[S, In, Out]):
    """A deterministic machine: `steps[state, input]` is the next state and the output.

    In a state of `ended` nothing can be given any more, as on a link that is closed: it needs no steps. That
    a machine has ended is seen at once, like its output, and no two such states differ.

    `first` is the output before any input, None where there is none. Raises ValueError where a state that
    can be reached and has not ended lacks a step: a machine is complete.
    """

    initial: S
    inputs: tuple[In, ...]
    steps: Mapping[tuple[S, In], tuple[S, Out]]
    ended: frozenset[S] = frozenset()
    first: Out | None = None

    def __attrs_post_init__(self) -> None:
        if len(set(self.inputs)) < len(self.inputs):
            raise ValueError(f"an input stands twice: {', '.join(map(str, self.inputs))}")
        for state, given in ((state, given) for state in self.live for given in self.inputs):
            if (state, given) not in self.steps:
                raise ValueError(f"no step for '{given}' in '{state}': a machine has one for every input")

    @cached_property
    def access(self) -> Mapping[S, tuple[In, ...]]:
        """A shortest word of inputs to each state that can be reached, breadth first."""
        words: dict[S, tuple[In, ...]] = {self.initial: ()}
        ahead = deque(words)
        while ahead:
            state = ahead.popleft()
            for given in () if state in self.ended else self.inputs:
                if (step := self.steps.get((state, given))) is not None and step[0] not in words:
                    words[step[0]] = (*words[state], given)
                    ahead.append(step[0])
        return words

    @cached_property
    def states(self) -> tuple[S, ...]:
        """Those that can be reached, breadth first."""
        return tuple(self.access)

    @cached_property
    def live(self) -> tuple[S, ...]:
        """Those of `states` in which something can be given."""
        return tuple(state for state in self.states if state not in self.ended)

    def walk(self, state: S, inputs: Iterable[In]) -> Iterator[tuple[S, Out]]:
        """Each next state and output, from `state`; to the end where the machine ends before."""
        for given in inputs:
            if state in self.ended:
                return
            state, output = self.steps[state, given]
            yield state, output

    def run(self, inputs: Iterable[In]) -> tuple[Out, ...]:
        """The outputs, one for each input that could be given: fewer where the machine ends before."""
        return tuple(output for _, output in self.walk(self.initial, inputs))

    def after(self, inputs: Iterable[In]) -> S:
        """The state that these inputs lead to."""
        state = self.initial
        for reached, _ in self.walk(state, inputs):
            state = reached
        return state

    def seen(self, state: S, inputs: Iterable[In]) -> tuple[tuple[Out, bool], ...]:
        """All that can be seen of a walk: each output, and whether the machine has ended with it."""
        return tuple((output, reached in self.ended) for reached, output in self.walk(state, inputs))

    def minimal(self) -> Mealy[S, In, Out]:
        """The smallest machine that answers alike: of states that nothing tells apart, the first.

        By partition refinement (Moore 1956): each round parts the states whose steps lead to parted ones.
        """
        block = self._blocks()
        names: dict[int, S] = {}
        for state in self.states:
            names.setdefault(block[state], state)
        steps: dict[tuple[S, In], tuple[S, Out]] = {}
        for state in (name for name in names.values() if name not in self.ended):
            for given in self.inputs:
                dest, output = self.steps[state, given]
                steps[state, given] = names[block[dest]], output
        ended = self.ended.intersection(names.values())
        return Mealy(self.initial, self.inputs, steps, ended, self.first)

    def _blocks(self) -> Mapping[S, int]:
        """A number for each state, the same for those that nothing tells apart."""
        block = dict.fromkeys(self.states, 0)
        while True:
            numbers: dict[object, int] = {}
            finer = {s: numbers.setdefault(self._row(s, block), len(numbers)) for s in self.states}
            if len(numbers) == len(set(block.values())):
                return finer
            block = finer

    def _row(self, state: S, block: Mapping[S, int]) -> object:
        if state in self.ended:
            return None
        steps = (self.steps[state, given] for given in self.inputs)
        return tuple((output, block[dest]) for dest, output in steps)


def difference(a: Mealy[S, In, Out], b: Mealy[T, In, Out]) -> tuple[In, ...] | None:
    """A shortest word of inputs on which two machines are seen to differ; None: they answer alike.

    They differ in an output, or one has ended and the other has not. () means: before any input. Raises
    ValueError when they do not take the same inputs.
    """
    if set(a.inputs) != set(b.inputs):
        raise ValueError("the two machines do not take the same inputs")
    if a.first != b.first:
        return ()
    return telling_apart(a, a.initial, b, b.initial)


def telling_apart(a: Mealy[S, In, Out], x: S, b: Mealy[T, In, Out], y: T) -> tuple[In, ...] | None:
    """The same for `a` from its state `x` on, and `b` from `y` on."""
    if (x in a.ended) != (y in b.ended):
        return ()
    words: dict[tuple[S, T], tuple[In, ...]] = {(x, y): ()}
    ahead = deque(words)
    while ahead:
        x, y = ahead.popleft()
        for given in () if x in a.ended else a.inputs:
            word = (*words[x, y], given)
            if a.seen(x, (given,)) != b.seen(y, (given,)):
                return word
            pair = a.steps[x, given][0], b.steps[y, given][0]
            if pair not in words:
                words[pair] = word
                ahead.append(pair)
    return None
