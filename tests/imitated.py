"""Sides that are any machine of inputs and answers, right or wrong, without any state on the wire.

Time is made up: an answer that comes late is not there until it was waited for so long, and nobody sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat

from colo_fsm.conform.alike import Machine
from colo_fsm.conform.asked import Answer
from colo_fsm.conform.blackbox import END, INVALID, Input
from colo_fsm.conform.link import Link
from colo_fsm.conform.mealy import Mealy
from colo_fsm.conform.voice import Voice, invalid
from colo_fsm.fsm import CompleteTable, Message
from colo_fsm.stream import Buffer

SIZE = 4


class BareVoice(Voice):
    """Messages alone."""

    ready, refusal = True, None

    def __init__(self, table: CompleteTable) -> None:
        self._words = table.words
        self._inbox = b""

    def opening(self) -> Iterable[Buffer]:
        return ()

    def bare(self, message: Message) -> bytes:
        return self._words.encode(message)

    def message(self, message: Message) -> Iterable[Buffer]:
        return (self.bare(message),)

    @property
    def unread(self) -> int:
        return len(self._inbox)

    @property
    def invalid(self) -> bytes:
        return invalid(self._words)

    def feed(self, data: Buffer) -> Iterator[int]:
        self._inbox += data
        while len(self._inbox) >= SIZE:
            value, self._inbox = self._inbox[:SIZE], self._inbox[SIZE:]
            yield int.from_bytes(value, "big")


class _Link(Link):
    def __init__(self, side: Imitated, machine: Machine) -> None:
        self._side, self._machine = side, machine
        self._state = machine.initial
        self._out: list[tuple[float, bytes]] = []
        self.word: list[Input] = []
        self._say(machine.first)

    def _say(self, answer: Answer | None) -> None:
        late = next(self._side.late)
        for value in getattr(answer, "messages", ()):
            data = (
                self._side.table.words.encode(value) if isinstance(value, Message) else value.to_bytes(SIZE)
            )
            whole = SIZE if self._side.halves else 0
            self._out += [(0.0, data[: whole // 2]), (late, data[whole // 2 :])][not whole :]
            late = 0.0
        if answer is not None and answer.ended:
            self._out.append((late, b""))

    def send(self, data: Iterable[Buffer]) -> None:
        for buffer in data:
            message = self._side.table.words.by_value.get(int.from_bytes(bytes(buffer)))
            self._give(INVALID if message is None else Input(message))

    def end(self) -> None:
        self._give(END)

    def _give(self, given: Input) -> None:
        self.word.append(given)
        if self._state not in self._machine.ended:
            self._state, answer = self._machine.steps[self._state, given]
            self._say(answer)

    def receive(self, timeout: float) -> bytes | None:
        left, data = self._out[0] if self._out else (timeout + 1, b"")
        self._side.now += min(left, timeout)
        if left > timeout:
            self._out[:1] = [(left - timeout, data)] if self._out else []
            return None
        del self._out[0]
        return data

    def evidence(self) -> str:
        return ""

    def crash(self, quiet: float = 0.0) -> str | None:
        return "SIGSEGV" if self._state in self._side.crashes else None


class Imitated:
    """The machine, or the ones that a function makes, each side one. `words` is what each of them was given.

    `late`: by how many seconds each answer is late; with `halves`, its second half. `crashes`: the states in
    which a side has crashed. `clock()` is the time that has gone by.
    """

    name = "imitated"

    def __init__(
        self,
        table: CompleteTable,
        machine: Machine | Callable[[], Machine],
        late: Iterable[float] = repeat(0.0),
        crashes: Iterable[str] = (),
        halves: bool = False,
    ) -> None:
        self.table, self.late, self.crashes, self.halves = table, iter(late), frozenset(crashes), halves
        self.words: list[tuple[Input, ...]] = []
        self.now = 0.0
        self._machine = machine if callable(machine) else lambda: machine

    def clock(self) -> float:
        return self.now

    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        link = _Link(self, self._machine())
        yield link, BareVoice(self.table)
        self.words.append(tuple(link.word))


def changed(m: Machine, steps: Mapping[tuple[str, Input], tuple[str, Answer]]) -> Machine:
    """The machine with other steps."""
    return Mealy(m.initial, m.inputs, {**m.steps, **steps}, m.ended, m.first)
