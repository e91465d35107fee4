"""What the link and the arbiter do to the two sides. None of it happens because one waits.

Each step changes one direction of the link, or both in the same way, or the facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from colo_fsm.fsm import Side

from .scenario import DISTURBANCES, Scenario, Strike
from .wire import Wire
from .world import ROOM, Channel, End, Facts, Item, World

Change = Callable[[Channel, Wire], Iterator[tuple[str, Channel]]]
"""What may become of one direction: words, and the direction afterwards."""


class WorldStep(NamedTuple):
    """One step of the surroundings. `strike` None: it only follows from an earlier break."""

    text: str
    world: World
    strike: Strike | None


def steps(world: World, scenario: Scenario) -> Iterator[WorldStep]:
    """What the surroundings can do at this moment."""
    for strike, broken in breaks(scenario):
        cut = world._replace(forward=broken(world.forward), back=broken(world.back))
        if cut != world:
            yield WorldStep(
                "the link is cut" if strike is Strike.CLOSED else "the link goes silent", cut, strike
            )
    for facts in arbiter_losses(world.facts, scenario):
        yield WorldStep("the arbiter stops answering", world._replace(facts=facts), Strike.ARBITER)
    for side in Side:
        channel = world.forward if side is Side.SECONDARY else world.back
        for text, there in tail_lost(channel, scenario.law.wire):
            yield WorldStep(f"to the {side}: {text}", _towards(side, world, there), None)
        if world.budget:
            spent = world._replace(budget=world.budget - 1)
            for strike, text, there in disturbed(channel, scenario):
                yield WorldStep(f"to the {side}: {text}", _towards(side, spent, there), strike)


def _towards(side: Side, world: World, channel: Channel) -> World:
    """With this as the way to `side`."""
    return world._replace(forward=channel) if side is Side.SECONDARY else world._replace(back=channel)


def breaks(scenario: Scenario) -> Iterator[tuple[Strike, Callable[[Channel], Channel]]]:
    """How the link can break, both directions at once."""
    if Strike.CLOSED in scenario.faults:
        yield Strike.CLOSED, closed
    if Strike.SILENT in scenario.faults:
        yield Strike.SILENT, silenced


def closed(channel: Channel) -> Channel:
    return channel._replace(end=End.CLOSED) if channel.end is End.OPEN else channel


def silenced(channel: Channel) -> Channel:
    """The end of the link, too, is something that may never arrive."""
    return channel._replace(end=End.SILENT) if channel.end in (End.OPEN, End.CLOSED) else channel


def arbiter_losses(facts: Facts, scenario: Scenario) -> Iterator[Facts]:
    if Strike.ARBITER in scenario.faults and facts.arbiter_up:
        yield facts._replace(arbiter_up=False)


def tail_lost(channel: Channel, wire: Wire) -> Iterator[tuple[str, Channel]]:
    """Behind a break, what is on the way may be lost, from the end."""
    if channel.items and channel.end in (End.CLOSED, End.SILENT):
        yield f"{wire.names[channel.items[-1].value]} is lost", channel._replace(items=channel.items[:-1])


def disturbed(channel: Channel, scenario: Scenario) -> Iterator[tuple[Strike, str, Channel]]:
    """One disturbance of this direction."""
    for strike, change in _CHANGES.items():
        if strike in scenario.faults:
            for text, there in change(channel, scenario.law.wire):
                yield strike, text, there


def _with(channel: Channel, at: int, *items: Item, instead: int = 1) -> Channel:
    before, after = channel.items[:at], channel.items[at + instead :]
    return channel._replace(items=(*before, *items, *after))


def _corrupted(channel: Channel, wire: Wire) -> Iterator[tuple[str, Channel]]:
    for at, item in enumerate(channel.items):
        if item.value in wire.values:
            for value in wire.values:
                if value != item.value:
                    text = f"{wire.names[item.value]} becomes {wire.names[value]}"
                    yield text, _with(channel, at, item._replace(value=value))


def _damaged(channel: Channel, wire: Wire) -> Iterator[tuple[str, Channel]]:
    for at, item in enumerate(channel.items):
        if item.sound and wire.has_state(item.value):
            yield f"{wire.names[item.value]} is damaged", _with(channel, at, item._replace(sound=False))


def _reordered(channel: Channel, wire: Wire) -> Iterator[tuple[str, Channel]]:
    for at, (one, other) in enumerate(zip(channel.items, channel.items[1:], strict=False)):
        if one != other:
            text = f"{wire.names[other.value]} overtakes {wire.names[one.value]}"
            yield text, _with(channel, at, other, one, instead=2)


def _duplicated(channel: Channel, wire: Wire) -> Iterator[tuple[str, Channel]]:
    if len(channel.items) < ROOM:
        for at, item in enumerate(channel.items):
            yield f"{wire.names[item.value]} comes twice", _with(channel, at, item, item)


def _injected(channel: Channel, wire: Wire) -> Iterator[tuple[str, Channel]]:
    """At the end: further in front it would be one that was injected earlier."""
    if len(channel.items) < ROOM and channel.end is End.OPEN:
        for value in wire.values:
            yield f"{wire.names[value]} is forged", channel._replace(items=(*channel.items, Item(value)))


_CHANGES: dict[Strike, Change] = {
    Strike.CORRUPT: _corrupted,
    Strike.PAYLOAD: _damaged,
    Strike.REORDER: _reordered,
    Strike.DUPLICATE: _duplicated,
    Strike.INJECT: _injected,
}
assert _CHANGES.keys() == DISTURBANCES
