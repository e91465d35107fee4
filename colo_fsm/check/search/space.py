"""Worlds as integers. A world is packed into one, a field for each of its parts; parts are numbered as they
are first seen. What a side can do depends on what it sees (`steps.py`), so it is worked out once for each
view and kept as differences: then a step is an addition, and two look-ups for what it does to the link.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from colo_fsm.fsm import Side

from ..found import TooLarge
from ..model import surroundings
from ..model.control import Reaction
from ..model.properties import Property
from ..model.scenario import Scenario
from ..model.steps import Kind, Step, Steps
from ..model.surroundings import WorldStep
from ..model.world import Channel, World
from .loops import Loops

WIDTHS = (12, 12, 14, 14, 14, 4)
"""Bits for the Primary, the Secondary, the way forward, the way back, the facts, the budget."""

Value = TypeVar("Value")
AnyStep = Step | WorldStep


class Memo(dict[int, Value]):
    """What a function says of a field, worked out when it is first asked."""

    def __init__(self, work_out: Callable[[int], Value]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, field: int) -> Value:
        value = self[field] = self._work_out(field)
        return value


Changes = Memo[int]
"""What becomes of one direction of the link, as differences of its field."""

Move = tuple[int, Changes, Changes]
"""The difference of all but the link, and what is done to the way out and to the way in."""


class Moves(NamedTuple):
    """What a side can do, seen what it sees."""

    go: tuple[Move, ...]
    must: bool
    """Whether something happens if one waits."""
    wrong: tuple[tuple[Property, int], ...]
    """A property and the number of a step that breaks it."""


class Numbers:
    """The values of one part, numbered as they are first seen."""

    def __init__(self, shift: int, width: int) -> None:
        self.shift, self._most = shift, 1 << width
        self.mask = (self._most - 1) << shift
        self._fields: dict[Any, int] = {}
        self._values: list[Any] = []

    def pack(self, value: Any) -> int:
        """The value's field. Raises TooLarge."""
        field = self._fields.get(value)
        if field is None:
            if len(self._values) == self._most:
                raise TooLarge("more different parts than fit: narrow the scenario")
            field = self._fields[value] = len(self._values) << self.shift
            self._values.append(value)
        return field

    def unpack(self, packed: int) -> Any:
        return self._values[(packed & self.mask) >> self.shift]


def view(part: Numbers, look: Callable[[Channel], object]) -> Memo[int]:
    """What a side can tell of one direction, numbered, for the field of that direction."""
    views = Numbers(part.shift, WIDTHS[2])
    return Memo(lambda field: views.pack(look(part.unpack(field))))


class Space:
    """The worlds of one scenario, and what can be done in them."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.steps = Steps(scenario)
        self._parts = [Numbers(sum(WIDTHS[:n]), width) for n, width in enumerate(WIDTHS)]
        self.primary, self.secondary, self.forward, self.back, self.facts, self.budget = self._parts
        self.out_of = {way: view(way, lambda channel: channel.outgoing) for way in (self.forward, self.back)}
        self.into = {way: view(way, lambda channel: channel.incoming) for way in (self.forward, self.back)}
        for left in range(scenario.disturbances, -1, -1):
            self.spent = self.budget.pack(left)
        self._changes: dict[tuple[int, object], Changes] = {}
        self.on_the_way = [
            (self._of_way(self.forward, disturbed), self._of_way(self.back, disturbed))
            for disturbed in (False, True)
        ]
        self.breaks = [
            (self._change(self.forward, strike, broken), self._change(self.back, strike, broken))
            for strike, broken in surroundings.breaks(scenario)
        ]
        self.loops = Loops()
        self.fired: set[tuple[Side, Reaction]] = set()

    def pack(self, world: World) -> int:
        return sum(part.pack(value) for part, value in zip(self._parts, world, strict=True))

    def unpack(self, packed: int) -> World:
        return World(*(part.unpack(packed) for part in self._parts))

    # -- one by one: for trails, and for what is not asked often -----------------------------------

    def successors(self, packed: int) -> Iterator[tuple[Side | None, int, AnyStep, int]]:
        """Every step from here: whose it is (None: the surroundings'), its number, where it leads."""
        for side in Side:
            for number, step, there in self.of_side(packed, side):
                yield side, number, step, there
        for number, each in enumerate(surroundings.steps(self.unpack(packed), self.scenario)):
            yield None, number, each, self.pack(each.world)

    def of_side(self, packed: int, side: Side) -> Iterator[tuple[int, Step, int]]:
        """The steps of one side: number, step, where it leads."""
        for number, (step, move) in enumerate(self._found(packed, side)):
            yield number, step, packed + self._length(packed, side, move)

    def _found(self, packed: int, side: Side) -> Iterator[tuple[Step, Move]]:
        world = self.unpack(packed)
        out, inc = self._ways(side)
        own = world.primary if side is Side.PRIMARY else world.secondary
        found = self.steps.of_side(
            side, own, out.unpack(packed).outgoing, inc.unpack(packed).incoming, world.facts
        )
        return ((step, self._move(side, packed, step)) for step in found)

    def _length(self, packed: int, side: Side, move: Move) -> int:
        """How far this move leads from here."""
        rest, put, take = move
        out, inc = self._ways(side)
        return rest + put[packed & out.mask] + take[packed & inc.mask]

    def _ways(self, side: Side) -> tuple[Numbers, Numbers]:
        """The way out and the way in."""
        return (self.forward, self.back) if side is Side.PRIMARY else (self.back, self.forward)

    def _move(self, side: Side, packed: int, step: Step) -> Move:
        own = self.primary if side is Side.PRIMARY else self.secondary
        rest = (
            own.pack(step.own)
            - (packed & own.mask)
            + self.facts.pack(step.facts)
            - (packed & self.facts.mask)
        )
        out, inc = self._ways(side)
        put = self._change(out, step.put, lambda channel: step.put.on(channel, self.steps.wire))
        return rest, put, self._change(inc, step.take, step.take.on)

    def _change(self, part: Numbers, what: object, change: Callable[[Channel], Channel]) -> Changes:
        key = (part.shift, what)
        if key not in self._changes:
            self._changes[key] = Memo(lambda field: part.pack(change(part.unpack(field))) - field)
        return self._changes[key]

    # -- all at once: for the search ---------------------------------------------------------------

    def moves(self, packed: int, side: Side) -> Moves:
        """What a side can do here. What changes nothing is no move, but it may break something."""
        own = self.primary if side is Side.PRIMARY else self.secondary
        go, must, wrong = [], False, []
        for number, (step, move) in enumerate(self._found(packed, side)):
            self.fired.update((side, reaction) for reaction in step.fired)
            wrong += [(broken, number) for broken in step.broken]
            length = self._length(packed, side, move)
            if length:
                go.append(move)
                if step.kind is Kind.MUST:
                    must = True
                    self.loops.note(side, packed & own.mask, packed + length & own.mask, step)
        unique = {(rest, id(put), id(take)): (rest, put, take) for rest, put, take in go}
        return Moves(tuple(unique.values()), must, tuple(wrong))

    def _of_way(self, part: Numbers, disturbed: bool) -> Memo[tuple[int, ...]]:
        """What the surroundings can do to one direction alone."""

        wire = self.steps.wire

        def work_out(field: int) -> tuple[int, ...]:
            channel = part.unpack(field)
            found = [part.pack(there) - field for _, there in surroundings.tail_lost(channel, wire)]
            if disturbed:
                one = 1 << self.budget.shift
                ways = surroundings.disturbed(channel, self.scenario)
                found += [part.pack(there) - field + one for _, _, there in ways]
            return tuple(dict.fromkeys(found))

        return Memo(work_out)

    def arbiter_lost(self, field: int) -> tuple[int, ...]:
        """How the arbiter can be lost, as differences."""
        ways = surroundings.arbiter_losses(self.facts.unpack(field), self.scenario)
        return tuple(self.facts.pack(there) - field for there in ways)
