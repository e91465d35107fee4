"""What a side has answered so far: each word of inputs that it was asked is known from then on."""

from __future__ import annotations

from collections import deque

import attrs

from .blackbox import Input, Output
from .mealy import Mealy, S


@attrs.frozen
class Broken:
    """An answer that nothing allows: it cannot be read, or the side has crashed. Nothing follows on it.

    `early`: it was not whole, and more may have come later.
    """

    text: str = attrs.field(eq=False)
    early: bool = attrs.field(default=False, eq=False)
    ended = True

    def __str__(self) -> str:
        return self.text


Answer = Output | Broken
Word = tuple[Input, ...]
"""Inputs, one after the other, from a fresh side on."""


@attrs.frozen
class Exchange:
    """What a side has said at first, and its answer to each input."""

    first: Answer
    steps: tuple[tuple[Input, Answer], ...] = ()

    @property
    def word(self) -> Word:
        """The inputs."""
        return tuple(given for given, _ in self.steps)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers to them."""
        return tuple(answer for _, answer in self.steps)

    def until(self, other: Exchange) -> Exchange | None:
        """This one as far as the step in which another one on the same inputs differs; None: none does."""
        if self.first != other.first:
            return Exchange(self.first)
        for number, (step, there) in enumerate(zip(self.steps, other.steps, strict=False), 1):
            if step != there:
                return Exchange(self.first, self.steps[:number])
        return None

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """What was given and what was answered, as a person reads it; nothing was given at the beginning."""
        return ("", str(self.first)), *((str(given), str(answer)) for given, answer in self.steps)


@attrs.define
class _Node:
    answer: Answer
    after: dict[Input, _Node] = attrs.field(factory=dict)


class Asked:
    """Every exchange so far, as a tree whose branches are inputs. No two of them contradict each other."""

    def __init__(self) -> None:
        self._root: _Node | None = None

    def known(self, word: Word) -> Exchange | None:
        """The exchange on this word, to the side's end if that comes before; None: not all of it is known."""
        exchange, whole = self._walked(word)
        return exchange if whole else None

    def begun(self, word: Word) -> Exchange | None:
        """As much of it as is known; None: not even what the side says at first."""
        return self._walked(word)[0]

    def _walked(self, word: Word) -> tuple[Exchange | None, bool]:
        if self._root is None:
            return None, False
        node, steps = self._root, list[tuple[Input, Answer]]()
        for given in word:
            if given not in node.after:  # nothing is ever asked behind an end
                return Exchange(self._root.answer, tuple(steps)), node.answer.ended
            node = node.after[given]
            steps.append((given, node.answer))
        return Exchange(self._root.answer, tuple(steps)), True

    def learn(self, exchange: Exchange) -> None:
        """Note an exchange, which contradicts none before it."""
        if self._root is None:
            self._root = _Node(exchange.first)
        node = self._root
        for given, answer in exchange.steps:
            node = node.after.setdefault(given, _Node(answer))

    def forget(self, exchange: Exchange) -> None:
        """The last answer of this one is not true, nor is anything behind it."""
        if self._root is None or not exchange.steps:
            self._root = None
            return
        node = self._root
        for given, _ in exchange.steps[:-1]:
            node = node.after[given]
        del node.after[exchange.steps[-1][0]]

    def deviation(self, m: Mealy[S, Input, Answer]) -> Word | None:
        """A shortest word that is known to be answered otherwise than by a machine; None: there is none."""
        if self._root is None:
            return None
        if self._root.answer != m.first:
            return ()
        ahead = deque([(self._root, m.initial, Word())])
        while ahead:
            node, state, word = ahead.popleft()
            for given, there in node.after.items():  # none where the machine has ended: it has said so
                dest, output = m.steps[state, given]
                if output != there.answer:
                    return (*word, given)
                ahead.append((there, dest, (*word, given)))
        return None
