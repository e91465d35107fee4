"""Members explored: every order of crash, restart, break, claim and rejoin, by the very functions that
members use.

Two members, the record, and what each store and each memory holds, as the set of writes in it. A pair is a
few steps here: its inside is proved elsewhere (`explore`). What a step may do is asked of
`colo_fsm.member.record`, so a slip there is found here.

Properties of every moment:

- `kept`: some store has all that was acknowledged, unless a disk was lost;
- `served`: a member that answers has all that was acknowledged;
- `one`: at most one member can acknowledge anything;

and `heals`: from every moment the two come to a protected pair again, if nothing more fails and no disk was
lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

import attrs

from colo_fsm.member import record as production
from colo_fsm.member.record import Finding, Member, Phase, Point, Record

ID = "set"
MEMBERS = (Member("a", "1"), Member("b", "2"))

Writes = frozenset[int]
NOTHING: Writes = frozenset()


class Is(StrEnum):
    """What a member is, a little finer than its machine: between two steps it may crash."""

    DOWN = "down"
    LOOKING = "looking"
    """Or listening: that changes nothing."""
    OFFERING = "offering"
    STORING = "storing"
    """Its guest is ready to go on alone; its store has not got it yet."""
    KEEPING = "keeping"
    """Its store has it; the record does not say so yet."""
    ALONE = "alone"
    OPENED = "opened"
    """It copies to a Secondary, as a generation that does not count yet."""
    PRIMARY = "primary"
    COPYING = "copying"
    SECONDARY = "secondary"
    CLAIMING = "claiming"
    """Its pair is over, and nobody has answered its claim."""


class Stored(NamedTuple):
    """What a store holds."""

    generation: int
    number: int
    writes: Writes


class Seen(NamedTuple):
    """One member, at one moment."""

    role: Is = Is.DOWN
    generation: int = 0
    """Of the pair that it is in, or was."""
    memory: Writes = NOTHING
    stored: Stored | None = None
    covered: Writes = NOTHING
    """What it may acknowledge now."""


class World(NamedTuple):
    """One moment."""

    record: Record | None = None
    members: tuple[Seen, Seen] = (Seen(), Seen())
    acknowledged: Writes = NOTHING
    written: int = 0
    faults: int = 0
    disks: int = 0
    """How many were lost."""


class Step(NamedTuple):
    """What happened, to whom, and the moment after."""

    name: str
    who: str
    world: World


@attrs.frozen
class Rules:
    """What members go by: the production's, or with a planted error. `plain`: COLO without a record."""

    find: Callable[[Record | None, Member, Point | None], Finding] = production.find
    opened: Callable[[Record, Member, int], Record | None] = production.opened
    copied: Callable[[Record, Member, int], Record | None] = production.copied
    joined: Callable[[Record, Member, int], Record | None] = production.joined
    claimed: Callable[[Record, Member, int, int], Record | None] = production.claimed
    kept: Callable[[Record, Member, int, int], Record | None] = production.kept
    handed: Callable[[Record, Member], Record | None] = production.handed
    given_back: Callable[[Record, Member], Record | None] = production.given_back
    keeps: bool = True
    """Whether a member alone stores what it acknowledges."""


@attrs.frozen
class Bounds:
    """How much happens: writes, faults (crashes and breaks together), and disks lost among them."""

    writes: int = 2
    faults: int = 2
    disks: int = 0


PRODUCTION, TWO_DEEP = Rules(), Bounds()


class Members:
    """The steps of one set of rules."""

    def __init__(self, rules: Rules = PRODUCTION, bounds: Bounds = TWO_DEEP) -> None:
        self.rules = rules
        self.bounds = bounds

    def steps(self, world: World) -> Iterator[Step]:
        """All that can happen next."""
        for index in (0, 1):
            for name, after in self._of(world, index):
                yield Step(name, MEMBERS[index].name, _ranked(after))

    def _of(self, world: World, index: int) -> Iterator[tuple[str, World]]:
        seen = world.members[index]
        yield from self._faults(world, index, seen)
        yield from _ROLES[seen.role](self, world, index, seen)

    # -- what goes wrong ------------------------------------------------------------------------

    def _faults(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        if world.faults == self.bounds.faults:
            return
        struck = world._replace(faults=world.faults + 1)
        if seen.role is not Is.DOWN:
            yield "crashes", _with(struck, index, Seen(stored=seen.stored))
            if world.disks < self.bounds.disks and seen.stored is not None:
                yield (
                    "crashes, and its disk is lost",
                    _with(struck._replace(disks=world.disks + 1), index, Seen()),
                )
        if seen.role in (Is.PRIMARY, Is.SECONDARY):
            yield "loses its link", _with(struck, index, seen._replace(role=Is.CLAIMING))
        if seen.role is Is.OPENED:
            yield "loses its link", _with(struck, index, self._not_joined(world, seen))

    def _not_joined(self, world: World, seen: Seen) -> Seen:
        assert world.record is not None
        new = world.record.phase is Phase.NEW
        return seen._replace(role=Is.LOOKING if new else Is.STORING, generation=0)

    # -- a step of each role --------------------------------------------------------------------

    def _down(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        yield "starts", _with(world, index, seen._replace(role=Is.LOOKING))

    def _looking(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        me, record, stored = MEMBERS[index], world.record, seen.stored
        finding = self.rules.find(record, me, _point(stored))
        if finding is Finding.BEGIN:
            yield "begins a data set", world._replace(record=production.begun(ID, me))
        assert record is not None or finding is Finding.BEGIN
        if record is None:
            return
        if record.phase is Phase.NEW and record.holder != me:
            yield "takes it over", world._replace(record=production.taken(record, me))
        if finding is Finding.OFFER:
            yield "offers it", _with(world, index, seen._replace(role=Is.OFFERING, memory=NOTHING))
        if finding is Finding.SUCCEED and stored is not None:
            after = self.rules.claimed(record, me, stored.generation, 0)
            if after is not None:
                runs = seen._replace(role=Is.STORING, memory=stored.writes)
                yield "goes on for its Primary", _with(world._replace(record=after), index, runs)
        if finding is Finding.GO_ON and stored is not None:
            yield "goes on", _with(world, index, seen._replace(role=Is.STORING, memory=stored.writes))
        if finding is Finding.GIVE_BACK:
            yield "gives it back", world._replace(record=self.rules.given_back(record, me) or record)
        yield from self._comes_in(world, index, seen, finding)

    def _comes_in(
        self, world: World, index: int, seen: Seen, finding: Finding
    ) -> Iterator[tuple[str, World]]:
        other, record = world.members[1 - index], world.record
        assert record is not None
        if other.role is not Is.OPENED or finding is not Finding.FOLLOW:
            return
        after = self.rules.copied(record, MEMBERS[index], other.generation)
        if after is not None:
            copying = seen._replace(role=Is.COPYING, generation=other.generation, memory=other.memory)
            yield "takes the copy", _with(world._replace(record=after), index, copying)

    def _storing(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        number = _next_generation(world)
        stored = Stored(number, 0, seen.memory) if self.rules.keeps else seen.stored
        keeping = seen._replace(role=Is.KEEPING, generation=number, stored=stored)
        yield "stores its state", _with(world, index, keeping)

    def _keeping(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        assert world.record is not None
        after = self.rules.kept(world.record, MEMBERS[index], seen.generation, 0)
        role = Is.LOOKING if after is None else Is.ALONE
        alone = seen._replace(role=role, covered=NOTHING)
        yield "runs alone", _with(world._replace(record=after or world.record), index, alone)

    def _alone(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        yield from self._runs(world, index, seen)
        if seen.memory != seen.covered:
            stored = Stored(seen.generation, 1, seen.memory) if self.rules.keeps else seen.stored
            yield "keeps it", _with(world, index, seen._replace(stored=stored, covered=seen.memory))
        yield from self._offers(world, index, seen)

    def _offering(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        yield from self._offers(world, index, seen)
        if world.record is not None and world.record.holder != MEMBERS[index]:
            yield "looks again", _with(world, index, seen._replace(role=Is.LOOKING))

    def _offers(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        if world.members[1 - index].role is not Is.LOOKING or world.record is None:
            return
        number = _next_generation(world)
        after = self.rules.opened(world.record, MEMBERS[index], number)
        if after is None:
            yield "is refused", _with(world, index, seen._replace(role=Is.LOOKING))
        else:
            opened = seen._replace(role=Is.OPENED, generation=number, covered=NOTHING)
            yield "begins to copy", _with(world._replace(record=after), index, opened)

    def _opened(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        assert world.record is not None
        other = world.members[1 - index]
        if other.stored is not None and other.stored.generation == seen.generation:
            after = self.rules.joined(world.record, MEMBERS[index], seen.generation)
            role = Is.CLAIMING if after is None else Is.PRIMARY
            yield (
                "is protected",
                _with(world._replace(record=after or world.record), index, seen._replace(role=role)),
            )
        listens = other.role is Is.LOOKING
        takes = other.role in (Is.COPYING, Is.SECONDARY) and other.generation == seen.generation
        if not (listens or takes):
            yield "hears the link end", _with(world, index, self._not_joined(world, seen))

    def _primary(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        yield from self._runs(world, index, seen)
        other = world.members[1 - index]
        if other.role is not Is.SECONDARY or other.generation != seen.generation:
            yield "hears the link end", _with(world, index, seen._replace(role=Is.CLAIMING))
        elif seen.memory != seen.covered:
            stored = Stored(seen.generation, 1, seen.memory)
            after = _with(world, 1 - index, other._replace(stored=stored, memory=seen.memory))
            yield "takes a checkpoint", _with(after, index, seen._replace(covered=seen.memory))
        assert world.record is not None
        handed = self.rules.handed(world.record, MEMBERS[index])
        if handed is not None and seen.covered <= world.acknowledged:
            looking = seen._replace(role=Is.LOOKING, covered=NOTHING)
            yield "hands over", _with(world._replace(record=handed), index, looking)

    def _runs(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        if world.written < self.bounds.writes:
            written = seen._replace(memory=seen.memory | {world.written})
            yield "is written to", _with(world._replace(written=world.written + 1), index, written)
        if not seen.covered <= world.acknowledged:
            yield "acknowledges", world._replace(acknowledged=world.acknowledged | seen.covered)

    def _copying(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        stored = Stored(seen.generation, 0, seen.memory)
        yield "has the copy", _with(world, index, seen._replace(role=Is.SECONDARY, stored=stored))
        other = world.members[1 - index]
        if other.role is not Is.OPENED or other.generation != seen.generation:
            yield "hears the link end", _with(world, index, seen._replace(role=Is.LOOKING))

    def _secondary(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        other = world.members[1 - index]
        if other.role not in (Is.OPENED, Is.PRIMARY) or other.generation != seen.generation:
            yield "hears the link end", _with(world, index, seen._replace(role=Is.CLAIMING))

    def _claiming(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        assert world.record is not None
        me = MEMBERS[index]
        after = self.rules.claimed(world.record, me, seen.generation, 0) or world.record
        won = after.holder == me
        if won and after.phase is Phase.NEW:
            won = False
        next = seen._replace(role=Is.STORING if won else Is.LOOKING, covered=NOTHING)
        yield "wins" if won else "loses", _with(world._replace(record=after), index, next)


_ROLES: dict[Is, Callable[[Members, World, int, Seen], Iterator[tuple[str, World]]]] = {
    role: getattr(Members, f"_{role}") for role in Is
}


def _with(world: World, index: int, seen: Seen) -> World:
    first, second = world.members
    return world._replace(members=(seen, second) if index == 0 else (first, seen))


def _ranked(world: World) -> World:
    """The same with the smallest numbers for its generations: only their order matters."""
    record, members = world.record, world.members
    numbers = {0, *(seen.generation for seen in members)}
    numbers |= {seen.stored.generation for seen in members if seen.stored is not None}
    numbers |= {record.generation, record.begun} if record else set()
    rank = {number: place for place, number in enumerate(sorted(numbers))}
    if record is not None:
        generation, begun = rank[record.generation], rank[record.begun]
        record = attrs.evolve(record, generation=generation, begun=begun)
    first, second = (
        seen._replace(
            generation=rank[seen.generation],
            stored=seen.stored and seen.stored._replace(generation=rank[seen.stored.generation]),
        )
        for seen in members
    )
    return world._replace(record=record, members=(first, second))


def _point(stored: Stored | None) -> Point | None:
    return None if stored is None else Point(ID, stored.generation, stored.number)


def _next_generation(world: World) -> int:
    record, stores = world.record, [seen.stored for seen in world.members]
    numbers = [s.generation for s in stores if s is not None]
    return 1 + max([0, *numbers, *([record.generation, record.begun] if record else [])])


# -- the properties, and the search --------------------------------------------------------------


class Property(StrEnum):
    """See above."""

    KEPT = "kept"
    SERVED = "served"
    ONE = "one"
    HEALS = "heals"


def active(world: World, index: int) -> bool:
    """Whether this member can acknowledge what it is told now."""
    seen, other = world.members[index], world.members[1 - index]
    paired = other.role is Is.SECONDARY and other.generation == seen.generation
    return seen.role is Is.ALONE or (seen.role is Is.PRIMARY and paired)


def broken(world: World) -> Iterator[Property]:
    """What does not hold at this moment."""
    stores = [seen.stored for seen in world.members if seen.stored is not None]
    anywhere = any(world.acknowledged <= store.writes for store in stores)
    if world.acknowledged and not world.disks and not anywhere:
        yield Property.KEPT
    running = [world.members[index] for index in (0, 1) if active(world, index)]
    if any(not world.acknowledged <= seen.memory for seen in running):
        yield Property.SERVED
    if len(running) > 1:
        yield Property.ONE


@attrs.frozen
class Explored:
    """What was found: a shortest way to each property that does not hold."""

    states: int
    transitions: int
    broken: dict[Property, tuple[Step, ...]]


def explore(
    rules: Rules = PRODUCTION,
    bounds: Bounds = TWO_DEEP,
    *,
    limit: int = 5_000_000,
    stop_at_first: bool = False,
) -> Explored:
    """Every moment, breadth first; with `stop_at_first`, until something is broken.

    Raises ValueError beyond `limit` of them: nothing is proved then.
    """
    members, start = Members(rules, bounds), World()
    came: dict[World, tuple[World, Step] | None] = {start: None}
    before: dict[World, list[World]] = {}
    found: dict[Property, tuple[Step, ...]] = {}
    todo, transitions = deque([start]), 0
    while todo and not (found and stop_at_first):
        world = todo.popleft()
        for step in members.steps(world):
            transitions += 1
            after = step.world
            if after.faults == world.faults:
                before.setdefault(after, []).append(world)
            if after in came:
                continue
            came[after] = world, step
            for which in broken(after):
                found.setdefault(which, _way(came, after))
            todo.append(after)
        if len(came) > limit:
            raise ValueError(f"more than {limit:,} moments: narrow the bounds")
    if not todo and (stuck := _stuck(came, before)):
        found.setdefault(Property.HEALS, _way(came, stuck))
    return Explored(len(came), transitions, found)


def _stuck(came: dict[World, tuple[World, Step] | None], before: dict[World, list[World]]) -> World | None:
    """The first moment from which no way without a fault leads to a protected pair."""
    heals = deque(w for w in came if any(active(w, i) and w.members[i].role is Is.PRIMARY for i in (0, 1)))
    can = set(heals)
    while heals:
        for earlier in before.get(heals.popleft(), ()):
            if earlier not in can:
                can.add(earlier)
                heals.append(earlier)
    return next((w for w in came if w not in can and not w.disks), None)


def _way(came: dict[World, tuple[World, Step] | None], world: World) -> tuple[Step, ...]:
    way: list[Step] = []
    while (last := came[world]) is not None:
        world, step = last
        way.append(step)
    return tuple(reversed(way))
