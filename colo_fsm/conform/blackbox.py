"""What a peer that only sees the wire can observe of a side: its table as a machine of inputs and outputs.

An input is one thing that comes over the link. Its output is all that the side then says by itself until it
waits for the link again: the effect that its state awaits completes, and a side that may begin a checkpoint
begins it, in the order of our drivers (`colo_fsm/replica/script.py`). When that happens is not part of it:
only the order counts, so a tester waits for the output before it gives the next input.

The arbiter is not on the wire: a claim is never answered here, and in failover a side is silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import attrs

from colo_fsm.fsm import (
    CompleteTable,
    Do,
    Effects,
    Fault,
    Message,
    Row,
    Send,
    Trigger,
    begin,
    done,
    fault,
    recv,
)

from .mealy import Mealy


@attrs.frozen(cache_hash=True)
class Input:
    """What can be given: a message of the protocol, of either direction; or `INVALID`, or `END`.

    A state that follows a message on the wire belongs to that message.
    """

    message: Message | None
    text: str = attrs.field()

    @text.default
    def _text(self) -> str:
        assert self.message is not None
        return self.message.text

    def __str__(self) -> str:
        return self.text


INVALID = Input(None, "invalid value")
"""A u32 that is no message of the protocol."""
END = Input(None, "end of the link")


@attrs.frozen(cache_hash=True)
class Output:
    """What a side answers: the messages that it sends, in order, and whether it has given the pair up.

    `ended`: it has closed the link, or looks at nothing more that comes over it. A tester may see the
    second one as silence only.
    """

    messages: tuple[Message | int, ...]
    """In place of one that is invalid, its value."""
    ended: bool

    def __str__(self) -> str:
        words = [*map(said, self.messages), *(["gives up"] if self.ended else [])]
        return ", ".join(words) or "nothing"


def said(value: Message | int) -> str:
    """A message, or what came in place of one, as a person reads it."""
    return value.text if isinstance(value, Message) else f"invalid value {value:#x}"


NOTHING = Output((), False)


@attrs.frozen
class Reaction:
    """An output, the table's rows that have led to it, in order, and where the side stands then."""

    output: Output
    rows: tuple[Row, ...]
    state: StrEnum


def blackbox(table: CompleteTable, *, closes: bool = True) -> Mealy[str, Input, Output]:
    """The machine that a peer sees, from a fresh link on. `first` is what the side says before any input.

    Its states are the table's, as far as a side rests in them with the link open, or ends there. Raises
    ValueError for a side that goes on for ever without waiting for its peer: there is no testing it.

    `closes=False` is for an implementation that leaves the link open when it has given up, as a QEMU does.
    Then that cannot be seen at once, only that it answers nothing more, whatever is given, until END.
    """
    inputs = (*(Input(point.message) for point in table.words.points), INVALID, END)
    first = opening(table)
    initial = _name(table, first)
    steps: dict[tuple[str, Input], tuple[str, Output]] = {}
    outputs = {initial: first.output}
    ahead = [first]
    while ahead:
        here = ahead.pop()
        for given in () if here.output.ended else inputs:
            there = reaction(table, here.state, given)
            name = _name(table, there)
            steps[here.state, given] = name, there.output
            if name not in outputs:
                outputs[name] = there.output
                ahead.append(there)
    ended = frozenset(name for name, output in outputs.items() if output.ended)
    seen = Mealy(initial, inputs, steps, ended, first.output)
    return seen if closes else _left_open(seen)


def _left_open(m: Mealy[str, Input, Output]) -> Mealy[str, Input, Output]:
    """The same of a side that gives up in silence: only END ends it."""
    silence = {(state, given): (state, NOTHING) for state in m.ended for given in m.inputs}
    steps = {key: (dest, Output(output.messages, False)) for key, (dest, output) in m.steps.items()} | silence
    closed = {
        (state, END): (f"{dest} (link closed)", Output(output.messages, True))
        for (state, given), (dest, output) in steps.items()
        if given == END
    }
    ended = frozenset(dest for dest, _ in closed.values())
    assert m.first is not None
    return Mealy(m.initial, m.inputs, steps | closed, ended, Output(m.first.messages, False))


def opening(table: CompleteTable) -> Reaction:
    """What a side does before any input."""
    return _settled(table, table.initial, table.start, ())


def reaction(table: CompleteTable, state: str, given: Input) -> Reaction:
    """What a side does that stands in `state`, a state of the table in which it waits for the link."""
    row = table.by_input[table.words.states(state), _trigger(given)]
    return _settled(table, row.dest or row.source, row.effects, (row,))


def _trigger(given: Input) -> Trigger:
    if given.message is not None:
        return recv(given.message)
    return fault(Fault.EOF if given == END else Fault.INVALID)


def _settled(table: CompleteTable, state: StrEnum, effects: Effects, rows: tuple[Row, ...]) -> Reaction:
    """All that follows from these effects until the side waits for the link, or has done with it."""
    sent: list[Message] = []
    connected = True
    while True:
        for effect in effects:
            if isinstance(effect, Send) and connected:
                sent.append(effect.message)
            connected = connected and effect is not Do.disconnect
        trigger = next(_by_itself(table, state, effects, connected), None)
        if trigger is None:
            ended = not (connected and table.accepts[state])
            return Reaction(Output(tuple(sent), ended), rows, state)
        row = table.by_input[state, trigger]
        if row in rows:
            raise ValueError(f"the {table.side} goes on for ever without waiting for its peer: {row}")
        rows += (row,)
        state, effects = row.dest or state, row.effects


def _by_itself(table: CompleteTable, state: StrEnum, effects: Effects, connected: bool) -> Iterator[Trigger]:
    """What happens next without the peer: the first awaited effect completes, or a checkpoint begins."""
    yield from (done(each) for each in effects if isinstance(each, Do) and table.awaits(state, each))
    if connected and table.may(state, begin.checkpoint):
        yield begin.checkpoint


def _name(table: CompleteTable, there: Reaction) -> str:
    """A state that listens is another one to a side that has closed the link: nothing can come any more."""
    deaf = there.output.ended and bool(table.accepts[there.state])
    return f"{there.state} (given up)" if deaf else there.state
