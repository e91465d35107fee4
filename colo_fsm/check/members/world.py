"""One moment of two members, and what a step is."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from colo_fsm.membership.record import Member, Record

ID = "set"
"""The data set's."""
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
    STILL = "still"
    """It was alone, and acknowledges nothing more: the Secondary gets the rest of its store."""
    OPENED = "opened"
    """It copies what it offers to a Secondary, as a generation that does not count yet."""
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
    copies: int = 0
    """Alone or still: the generation as which its store is copied to a Secondary; 0: none."""


class World(NamedTuple):
    """One moment."""

    record: Record | None = None
    members: tuple[Seen, Seen] = (Seen(), Seen())
    acknowledged: Writes = NOTHING
    written: int = 0
    failures: int = 0
    disks: int = 0
    """How many were lost."""


class Step(NamedTuple):
    """What happened, to whom, and the moment after."""

    name: str
    who: Member
    world: World


def begun_by(seen: Seen) -> int:
    """The generation that this member copies to a Secondary, and that does not count yet; 0: none."""
    return seen.generation if seen.role is Is.OPENED else seen.copies


def active(world: World, index: int) -> bool:
    """Whether this member can acknowledge what it is told now."""
    seen, other = world.members[index], world.members[1 - index]
    paired = other.role is Is.SECONDARY and other.generation == seen.generation
    return seen.role is Is.ALONE or (seen.role is Is.PRIMARY and paired)


def protected(world: World) -> bool:
    """Whether a Primary runs whose Secondary has its state."""
    return any(active(world, i) and world.members[i].role is Is.PRIMARY for i in (0, 1))
