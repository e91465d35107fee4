"""Whether the steps of two graphs are the same, or alike: the same but for effects that change nothing.

*The same* is meant by value: the same steps, in the same order, to the same worlds.

*Alike* is a branching bisimulation. It relates a side of one graph to a side of the other that differs only
in its `todo`: in effects that are never reached (what stands behind `claim`, whose answer ends the row), or
that have nothing to do (a stopped guest is suspended). All else of the two worlds is equal, and each step of
one has its match in the other: fired by the same input, sending, changing and breaking the same. One of the
two may first take a *silent* step, which happens by itself and changes nothing but `todo`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from ..model.properties import OVER
from ..model.steps import Kind, Step
from ..model.world import Channel, End, Facts, Local, MaybeDead, Output, Put, Take, World

Pair = tuple[Local, Local]
"""A side of the mutant, and the side of the sound graph that stands for it; never the same."""
Pairs = frozenset[Pair]


def counts(step: Step, own: MaybeDead, world: World) -> bool:
    """Whether anything comes of this step. If not, the search takes it for none."""
    return step.own != own or bool(step.broken) or not _leaves_alone(step, world.facts)


def _leaves_alone(step: Step, facts: Facts) -> bool:
    return (step.put, step.take, step.facts, step.sent) == (Put(), Take.NOTHING, facts, ())


def took(take: Take, way_in: Channel) -> Take:
    """What a step does to the way in: to hang up twice is to hang up once."""
    gone = {Take.HANG_UP: Channel((), End.GONE), Take.VANISH: Channel((), End.SILENT)}
    return Take.NOTHING if gone.get(take) == way_in else take


def same(mine: Iterable[Step], others: Iterable[Step]) -> bool:
    """Whether these are the same steps."""
    return [(step.own, label(step)) for step in mine] == [(step.own, label(step)) for step in others]


def label(step: Step) -> Hashable:
    """All of a step but its words and what becomes of its side: what fires, changes, is sent, breaks."""
    fired = tuple((reaction.source, reaction.trigger) for reaction in step.fired)
    return (
        step.kind, step.strike, fired, step.put, step.take, step.facts, step.sent, step.broken, step.round,
    )  # fmt: skip


def visible(own: MaybeDead) -> Hashable:
    """A side without what it has still to do.

    Where it is over and its guest is suspended, packets that are held look like packets that are dropped:
    neither are out, and no more come. Whether it may end like that is a property, and compared as such.
    """
    if own is None:
        return None
    held = own.state in OVER and not own.running and own.output is Output.HELD
    return own._replace(todo=(), half=False, output=Output.DROPPED if held else own.output)


def silent(step: Step, own: Local, facts: Facts) -> bool:
    """Whether this step happens by itself and changes nothing but what is to do."""
    by_itself = step.kind is Kind.MUST and not step.round and not step.broken
    return by_itself and visible(step.own) == visible(own) and _leaves_alone(step, facts)


def match(mine: list[Step], others: list[Step]) -> Pairs | None:
    """Match all of these steps one to one. The pairs that they lead to; None if they do not match."""
    return _match_each(mine, others) if len(mine) == len(others) else None


def _match_each(mine: list[Step], others: list[Step]) -> Pairs | None:
    """Match each of my steps with another one of the others."""
    free: dict[Hashable, list[MaybeDead]] = {}
    for step in others:
        free.setdefault((visible(step.own), label(step)), []).append(step.own)
    pairs = set()
    for step in mine:
        alike = free.get((visible(step.own), label(step)))
        if not alike:
            return None
        other = step.own if step.own in alike else alike[0]
        alike.remove(other)
        if step.own is not None and other is not None and step.own != other:
            pairs.add((step.own, other))
    return frozenset(pairs)


def match_weakly(pair: Pair, mine: list[Step], others: list[Step], facts: Facts) -> Pairs | None:
    """The same for the steps of a pair, where one of the two may first take a silent step.

    All else that it can do now the other must be able to do as well; what it then is must stand for it.
    """
    own, sound = pair
    if own.todo[:1] == sound.todo[:1] and (found := match(mine, others)) is not None:
        return found
    for step in others:
        if step.own is not None and silent(step, sound, facts):
            found = _match_each([each for each in others if each is not step], mine)
            if found is not None:
                return _pairs((own, step.own), *((one, other) for other, one in found))
    for step in mine:
        if step.own is not None and silent(step, own, facts):
            found = _match_each([each for each in mine if each is not step], others)
            if found is not None:
                return _pairs((step.own, sound), *found)
    return None


def _pairs(*pairs: Pair) -> Pairs:
    return frozenset((one, other) for one, other in pairs if one != other)
