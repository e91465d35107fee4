"""What two members can do next, and what can happen to them, by one set of rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from colo_fsm.membership import record as production
from colo_fsm.membership.record import Finding, Phase, Point

from .rules import Bounds, Rules
from .world import ID, MEMBERS, NOTHING, Is, Seen, Step, Stored, World, begun_by


class Members:
    """The steps of one set of rules."""

    def __init__(self, rules: Rules, bounds: Bounds) -> None:
        self.rules = rules
        self.bounds = bounds

    def steps(self, world: World) -> Iterator[Step]:
        """All that can happen next."""
        for index in (0, 1):
            for name, after in self._of(world, index):
                yield Step(name, MEMBERS[index], _ranked(after))

    def _of(self, world: World, index: int) -> Iterator[tuple[str, World]]:
        seen = world.members[index]
        yield from self._fails(world, index, seen)
        yield from _ROLES[seen.role](self, world, index, seen)

    # -- what goes wrong ------------------------------------------------------------------------

    def _fails(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        if world.failures == self.bounds.failures:
            return
        struck = world._replace(failures=world.failures + 1)
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
        if seen.copies:
            yield "loses its link", _with(struck, index, self._not_copied(seen))
        if seen.role is Is.STILL:
            for name, after in self._protects(struck, index, seen):
                yield f"{name}, and is not told", _with(after, index, self._not_copied(seen))

    @staticmethod
    def _not_copied(seen: Seen) -> Seen:
        return seen._replace(copies=0, role=Is.STORING if seen.role is Is.STILL else seen.role)

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
        taken = self.rules.taken(record, me)
        if taken is not None and record.holder != me:
            yield "takes it over", world._replace(record=taken)
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
        number = begun_by(other)
        if not number or finding is not Finding.FOLLOW:
            return
        after = self.rules.copied(record, MEMBERS[index], number)
        if after is not None:
            content = other.stored.writes if other.copies and other.stored else other.memory
            copying = seen._replace(role=Is.COPYING, generation=number, memory=content)
            yield "takes the copy", _with(world._replace(record=after), index, copying)

    def _storing(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        number = _next_generation(world, index)
        stored = Stored(number, 0, seen.memory) if self.rules.keeps else seen.stored
        keeping = seen._replace(role=Is.KEEPING, generation=number, stored=stored)
        yield "stores its state", _with(world, index, keeping)

    def _keeping(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        assert world.record is not None
        after = self.rules.kept(world.record, MEMBERS[index], seen.generation, 0)
        role = Is.LOOKING if after is None else Is.ALONE
        alone = seen._replace(role=role, covered=NOTHING)
        yield "has the record say so", _with(world._replace(record=after or world.record), index, alone)

    def _alone(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        yield from self._runs(world, index, seen)
        if seen.memory != seen.covered:
            stored = Stored(seen.generation, 1, seen.memory) if self.rules.keeps else seen.stored
            yield "stores its state", _with(world, index, seen._replace(stored=stored, covered=seen.memory))
        yield from self._copies(world, index, seen)

    def _copies(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        """Its store goes to a new Secondary while it serves, and the rest while it stands still."""
        other, kept = world.members[1 - index], seen.stored
        assert world.record is not None
        if not seen.copies:
            yield from self._offers(world, index, seen)
        elif other.role is Is.SECONDARY and other.generation == seen.copies and kept is not None:
            has = other._replace(stored=Stored(seen.copies, 1, kept.writes), memory=kept.writes)
            yield "has the rest copied", _with(world, 1 - index, has)
            if seen.role is Is.ALONE:
                yield "stands still", _with(world, index, seen._replace(role=Is.STILL, covered=NOTHING))
        elif other.role is not Is.LOOKING and _copying(other) != seen.copies:
            yield "hears the link end", _with(world, index, self._not_copied(seen))

    def _still(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        yield from self._copies(world, index, seen)
        yield from self._protects(world, index, seen)

    def _protects(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        has, kept = world.members[1 - index].stored, seen.stored
        assert world.record is not None
        if has is None or kept is None or has.generation != seen.copies:
            return
        if kept.writes <= has.writes or not self.rules.waits:
            after = self.rules.joined(world.record, MEMBERS[index], seen.copies)
            role = Is.CLAIMING if after is None else Is.PRIMARY
            paired = seen._replace(role=role, generation=seen.copies, copies=0)
            yield "is protected", _with(world._replace(record=after or world.record), index, paired)

    def _offering(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        yield from self._offers(world, index, seen)
        if world.record is not None and world.record.holder != MEMBERS[index]:
            yield "looks again", _with(world, index, seen._replace(role=Is.LOOKING))

    def _offers(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        if world.members[1 - index].role is not Is.LOOKING or world.record is None:
            return
        number = _next_generation(world, index)
        after = self.rules.opened(world.record, MEMBERS[index], number)
        if after is None:
            yield "is refused", _with(world, index, seen._replace(role=Is.LOOKING))
        else:
            opened = seen._replace(role=Is.OPENED, generation=number)
            if seen.role is Is.ALONE:
                opened = seen._replace(copies=number)
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
            yield (
                "takes a checkpoint, which is stored",
                _with(after, index, seen._replace(covered=seen.memory)),
            )
        assert world.record is not None
        handed = self.rules.handed(world.record, MEMBERS[index])
        if handed is not None and seen.covered <= world.acknowledged:
            looking = seen._replace(role=Is.LOOKING, covered=NOTHING)
            yield "hands over", _with(world._replace(record=handed), index, looking)

    def _runs(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        if world.written < self.bounds.writes:
            told = seen._replace(memory=seen.memory | {world.written})
            after = world._replace(written=world.written + 1)
            yield f"is told write {after.written}", _with(after, index, told)
        if not seen.covered <= world.acknowledged:
            yield "acknowledges", world._replace(acknowledged=world.acknowledged | seen.covered)

    def _copying(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        stored = Stored(seen.generation, 0, seen.memory)
        yield "has the copy", _with(world, index, seen._replace(role=Is.SECONDARY, stored=stored))
        other = world.members[1 - index]
        if begun_by(other) != seen.generation:
            yield "hears the link end", _with(world, index, seen._replace(role=Is.LOOKING))

    def _secondary(self, world: World, index: int, seen: Seen) -> Iterator[tuple[str, World]]:
        other = world.members[1 - index]
        paired = other.role is Is.PRIMARY and other.generation == seen.generation
        if not paired and begun_by(other) != seen.generation:
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


def _copying(seen: Seen) -> int:
    """The generation that this member gets a copy of; 0: none."""
    return seen.generation if seen.role in (Is.COPYING, Is.SECONDARY) else 0


def _ranked(world: World) -> World:
    """The same with the smallest numbers for its generations: only their order matters."""
    record, members = world.record, world.members
    numbers = {0, *(seen.generation for seen in members), *(seen.copies for seen in members)}
    numbers |= {seen.stored.generation for seen in members if seen.stored is not None}
    numbers |= {record.generation, record.begun} if record else set()
    if max(numbers) < len(numbers):
        return world
    rank = {number: place for place, number in enumerate(sorted(numbers))}
    if record is not None:
        generation, begun = rank[record.generation], rank[record.begun]
        record = attrs.evolve(record, generation=generation, begun=begun)
    first, second = (
        seen._replace(
            generation=rank[seen.generation],
            copies=rank[seen.copies],
            stored=seen.stored and seen.stored._replace(generation=rank[seen.stored.generation]),
        )
        for seen in members
    )
    return world._replace(record=record, members=(first, second))


def _point(stored: Stored | None) -> Point | None:
    return None if stored is None else Point(ID, stored.generation, stored.number)


def _next_generation(world: World, index: int) -> int:
    """Above all that this member knows of: the record, and its own store. No clock makes it larger here."""
    record, stored = world.record, world.members[index].stored
    known = [record.generation, record.begun] if record else []
    return 1 + max([0, *known, *([stored.generation] if stored else [])])
