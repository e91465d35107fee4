"""The words that the cases by hand are written in.

A `Story` is what is done to a side from its start on, and what the declared table answers to that. Each verb
tells it further; `case` makes a case of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum

import attrs

from colo_fsm.colo import COLOMessage
from colo_fsm.fsm import CompleteTable, Message
from colo_fsm.stream.format import U32

from ..blackbox import END, INVALID, NOTHING, Input, Output, Reaction, opening, reaction
from ..case import Accepted, Act, Begun, Case, Given, Initial, Raw, Rest, Step, Together
from ..generated import declared

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = COLOMessage

GIVES_UP = Output((), ended=True)
LEFT_OPEN = (
    "the patch and QEMU leave their loop and need not close the link: a side may fall silent, if it answers "
    "nothing more"
)
SOON = 0.5
"""Seconds in which a side says what it says unasked."""
LONG = 1.5
"""Seconds that are long for a side on the same machine."""

Messages = tuple[Message, ...]
Way = Callable[[Act], Act]
"""Another way to write an act: `ByteByByte`, say."""


@attrs.frozen
class Story:
    """What has been done so far; the declared machine stands in `state` then."""

    table: CompleteTable
    state: StrEnum
    steps: tuple[Step, ...] = ()
    first: Act | None = None
    """What is given in place of the initial state."""

    # -- what a peer may do -------------------------------------------------------------------

    def give(self, *messages: Message, by: Way | None = None) -> Story:
        """Each of these in its turn, answered before the next; `by`: written in this way."""
        story = self
        for message in messages:
            act, there = Given(Input(message)), story._on(Input(message))
            story = story._told(declared(act if by is None else by(act), there), there.state)
        return story

    def together(self, *messages: Message, end: bool = False) -> Story:
        """All of these in one piece, most of them before their turn; perhaps with the link's end."""
        inputs = (*map(Input, messages), *((END,) if end else ()))
        there = first = self._on(inputs[0])
        said = there.output.messages
        for given in inputs[1:]:
            there = reaction(self.table, there.state, given)
            said += there.output.messages
        all_of_it = attrs.evolve(first, output=Output(said, there.output.ended))
        return self._told(declared(_at_once(inputs), all_of_it), there.state)

    def in_two(self, message: Message, percent: int = 50) -> Story:
        """The message in its turn, in two parts; nothing is said between them."""
        there = self._on(Input(message))
        nothing = attrs.evolve(there, output=NOTHING)
        begun = self._told(declared(Begun(Given(Input(message)), percent), nothing), self.state)
        return begun._told(declared(Rest(), there), there.state)

    def quiet(self, seconds: float = 0.0) -> Story:
        """Nothing is given, and nothing is said: for so long, or as long as the side needs for an answer."""
        return self._told(Step(None, (Accepted(NOTHING),), seconds, self.steps[-1].row), self.state)

    def finish(self) -> Story:
        """The rest of an initial state that has been begun."""
        there = opening(self.table)
        return self._told(declared(Rest(), there), there.state)

    def rounds(self, number: int, first: Message, *others: Message) -> Story:
        """So many whole checkpoints; all but the first message of each in one piece, to lose no time."""
        story = self
        for _ in range(number):
            story = story.give(first).together(*others)
        return story

    # -- what it may not ----------------------------------------------------------------------

    def end(self) -> Story:
        """The link's end. No silence passes: it could as well be that of a side that has not noticed."""
        there = self._on(END)
        return self._told(declared(Given(END), there), there.state)

    def cut(self, message: Message, percent: int) -> Story:
        """So many percent of the message and its state, then the link's end; 0: all but its state."""
        begun = Begun(Given(Input(message)), percent) if percent else Given(Input(message), out_of_turn=True)
        return self.end_with(begun, self.table.words.mirror[message])

    def end_with(self, act: Act, inside: StrEnum) -> Story:
        """This, then the link's end, at which the side stands in `inside`."""
        there = reaction(self.table, inside, END)
        return self._told(declared(Together((act, Given(END))), there), there.state)

    def overreach(self, act: Act, there: Reaction, why: str) -> Story:
        """More is announced than ever comes: the side gives up at once or, leniently, with the link's end."""
        waits = attrs.evolve(declared(act, there), accepted=(Accepted(GIVES_UP), Accepted(NOTHING, why)))
        return self._told(waits, there.state)._told(declared(Given(END), there), there.state)

    def refuse(self, message: Message, then: Messages) -> Story:
        """A message that is out of turn here, and the state that belongs to it; see `give_up`."""
        given = Input(message)
        return self.give_up(Given(given), self._on(given), then)

    def invalid(self, value: int, then: Messages) -> Story:
        """A value that is no message; see `give_up`."""
        return self.give_up(Raw(U32.pack(value), f"invalid value {value:#x}"), self._on(INVALID), then)

    def give_up(self, act: Act, there: Reaction, then: Messages, *lenient: Accepted) -> Story:
        """The side gives up, or does what is lenient, or falls silent; then it answers nothing more.

        `then` is what a side would answer that has passed over the act, or taken it, or begun anew.
        """
        ends = Accepted(GIVES_UP), Accepted(NOTHING, LEFT_OPEN)
        told = declared(act, there)
        story = self._told(attrs.evolve(told, accepted=(*told.accepted, ends[1], *lenient)), there.state)
        return story._told(Step(_at_once(map(Input, then)), ends, row=told.row), there.state)

    # -- how it is told -----------------------------------------------------------------------

    def _on(self, given: Input) -> Reaction:
        return reaction(self.table, self.state, given)

    def _told(self, step: Step, state: StrEnum) -> Story:
        return attrs.evolve(self, steps=(*self.steps, step), state=state)


def _at_once(inputs: Iterable[Input]) -> Act:
    acts = tuple(map(Given, inputs))
    return acts[0] if len(acts) == 1 else Together(acts)


def backwards(message: Message) -> int:
    """The value of its bytes in the wrong order."""
    return int.from_bytes(message.to_bytes(4, "little"), "big")


def beginning(table: CompleteTable, *ahead: Message) -> Story:
    """A side has been started; `ahead` has come in one piece with its initial state."""
    there = opening(table)
    step = declared(None, there)
    if not ahead:
        return Story(table, there.state, (step,))
    first = Together((Initial(), *(Given(Input(message)) for message in ahead)))
    told = Story(table, there.state).together(*ahead)
    output = Output((*there.output.messages, *told.steps[0].accepted[0].output.messages), ended=False)
    return Story(table, told.state, (attrs.evolve(step, accepted=(Accepted(output),)),), first)


def unready(table: CompleteTable, first: Act) -> Story:
    """A side that has only this of its initial state, perhaps with the link's end: it says nothing."""
    there = reaction(table, table.initial, END)
    story = Story(table, table.initial, first=first)
    if first.ends:
        return story._told(declared(None, there), there.state)
    return story._told(declared(None, attrs.evolve(there, output=NOTHING)), table.initial)


def unreadable(table: CompleteTable, first: Act) -> Story:
    """A side that is given this for its initial state: it gives up, or falls silent."""
    there = reaction(table, table.initial, INVALID)
    accepted = Accepted(GIVES_UP), Accepted(NOTHING, LEFT_OPEN)
    told = attrs.evolve(declared(None, there), accepted=accepted)
    return Story(table, table.initial, first=first)._told(told, there.state)


def case(number: str, must: str, source: str, story: Story) -> Case:
    """`number`: the section, a dot, and the case's own."""
    return Case(f"colo/{story.table.side}/{number}", must, source, story.steps, story.first)
