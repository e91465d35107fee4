"""What everybody knows of a data set: one record at the arbiter, changed by compare-and-swap.

It names the member whose state counts, the *holder*, so that nothing newer is ever replaced by something
older:

- `new`: the holder has begun the data set. Nothing was acknowledged yet.
- `alone`: the holder runs alone and keeps the state in its own store. `stored`: that store holds all that was
  acknowledged; before, what the Secondary of the last pair has stored does, too.
- `paired`: the holder runs, and what it acknowledges is in the store of its Secondary, `mate`.
- `vacant`: nobody runs; the holder's store has all that was acknowledged.

A *generation* is one copy of the state and the rounds on top of it, in one store. Numbers rise for good, so a
store with a larger one is newer. One that was begun and is not in the record yet does not count: nothing is
acknowledged on top of it.

Everything here is a value or a pure function; `check.members` explores them, `seat.py` does them.
"""

from __future__ import annotations

import json
from enum import StrEnum

import attrs


class Phase(StrEnum):
    """How a data set stands; see above."""

    NEW = "new"
    ALONE = "alone"
    PAIRED = "paired"
    VACANT = "vacant"


@attrs.frozen
class Member:
    """Who has a copy: the name given to it, and its seat, the id of the very directory that it keeps it in.

    Two that were given one name by mistake, or one whose disk was replaced, are not the same.
    """

    name: str
    seat: str

    def __str__(self) -> str:
        return self.name


@attrs.frozen
class Record:
    """A data set, as the arbiter has it."""

    id: str
    phase: Phase
    holder: Member
    generation: int = 0
    """The newest that counts."""
    stored: bool = False
    mate: Member | None = None
    """The Secondary of the newest pair."""
    begun: int = 0
    """The newest generation that anybody has begun, whether it came to count or not."""
    guest: Member | None = None
    """Whose store holds the generation `begun`, once it is whole there."""
    token: int = 0

    def encode(self) -> str:
        """As text, for a register."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def decode(cls, text: str) -> Record:
        """Raises ValueError for what is none."""
        try:
            fields = json.loads(text)
            members = {key: _member(fields[key]) for key in ("holder", "mate", "guest")}
            return cls(**{**fields, **members, "phase": Phase(fields["phase"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"no record of a data set: {text[:80]!r}") from error


def _member(fields: dict[str, str] | None) -> Member | None:
    return None if fields is None else Member(**fields)


@attrs.frozen
class Point:
    """What a store holds: checkpoint `number` of a generation of the data set `id`."""

    id: str
    generation: int
    number: int

    def __str__(self) -> str:
        return f"data set {self.id[:8]}, generation {self.generation}, checkpoint {self.number}"


class Finding(StrEnum):
    """What a member that runs nothing finds out by the record and by its store, and so what it is to do."""

    BEGIN = "begin"
    """There is no data set, and nothing here: begin one."""
    OFFER = "offer"
    """It is begun, by us: offer it to the other."""
    FOLLOW = "follow"
    """Another one has it, or had it last: be its Secondary as soon as it comes."""
    SUCCEED = "succeed"
    """We were the Secondary, and the Primary does not come: go on from our store."""
    GO_ON = "go_on"
    """It is ours, and our store has it."""
    GIVE_BACK = "give_back"
    """What we ran is gone, and our store has not got it: the Secondary's has what counts."""
    FORGOTTEN = "forgotten"
    """The arbiter knows of no data set, and our store holds one."""
    FOREIGN = "foreign"
    """Our store holds another data set."""
    AHEAD = "ahead"
    """Our store is newer than all that the arbiter knows of."""
    MISSING = "missing"
    """It was ours, and our store has not got it."""


def find(record: Record | None, me: Member, have: Point | None) -> Finding:
    """What this member is to do; `have` is what its store holds."""
    if record is None:
        return Finding.BEGIN if have is None else Finding.FORGOTTEN
    if have is not None and have.id != record.id:
        return Finding.FOREIGN
    mine, newest = record.holder == me, have.generation if have else -1
    if newest > record.begun and not mine:
        return Finding.AHEAD
    match record.phase:
        case Phase.NEW:
            return Finding.OFFER if mine else Finding.FOLLOW
        case Phase.PAIRED if mine:
            return Finding.GIVE_BACK
        case Phase.PAIRED:
            return Finding.SUCCEED if record.mate == me and newest >= record.generation else Finding.FOLLOW
        case _ if not mine:
            return Finding.FOLLOW
        case Phase.ALONE if not record.stored and newest <= record.generation:
            return Finding.GIVE_BACK
        case _:
            return Finding.GO_ON if newest >= record.generation else Finding.MISSING


# -- the changes, each from a record that allows it; None where it does not ------------------------


def begun(id: str, me: Member) -> Record:
    """A new data set of ours."""
    return Record(id, Phase.NEW, me)


def taken(record: Record, me: Member) -> Record | None:
    """One that was begun by another, who does not come: nothing was acknowledged, so anybody may have it."""
    return attrs.evolve(record, holder=me, guest=None) if record.phase is Phase.NEW else None


def insisted(record: Record | None, me: Member, have: Point) -> Record:
    """Somebody accepts that all is lost that this store has not got; newer stores are `ahead` from now on."""
    before = record or Record(have.id, Phase.ALONE, me)
    return attrs.evolve(
        before,
        id=have.id,
        phase=Phase.ALONE,
        holder=me,
        generation=have.generation,
        begun=max(before.begun, before.generation, have.generation),
        stored=True,
        guest=None,
    )


def opened(record: Record, me: Member, generation: int) -> Record | None:
    """The holder begins to copy to a new Secondary."""
    if record.holder != me or record.phase not in (Phase.NEW, Phase.ALONE) or generation <= record.begun:
        return None
    return attrs.evolve(record, begun=generation, guest=None)


def copied(record: Record, me: Member, generation: int) -> Record | None:
    """A Secondary is about to have the whole of a generation that the holder has begun."""
    if record.begun != generation or record.holder == me:
        return None
    return attrs.evolve(record, guest=me)


def joined(record: Record, me: Member, generation: int) -> Record | None:
    """The holder has heard that its Secondary is ready: from now on it acknowledges what that one has
    stored.
    """
    if record.holder != me or record.begun != generation or record.guest is None:
        return None
    return attrs.evolve(
        record, phase=Phase.PAIRED, generation=generation, mate=record.guest, guest=None, stored=False
    )


def claimed(record: Record, me: Member, generation: int, token: int) -> Record | None:
    """One side of a pair goes on alone; the Secondary, whose store has it all, may do so after a restart.

    So does the one to which it was handed over.
    """
    if record.phase is Phase.VACANT and record.holder == me and record.generation == generation:
        return attrs.evolve(record, phase=Phase.ALONE, token=token)
    if record.phase is not Phase.PAIRED or record.generation != generation:
        return None
    if me not in (record.holder, record.mate):
        return None
    mate = record.mate if me == record.holder else record.holder
    return attrs.evolve(
        record, phase=Phase.ALONE, holder=me, mate=mate, stored=me == record.mate, token=token
    )


def kept(record: Record, me: Member, generation: int, token: int) -> Record | None:
    """The holder's own store has all of it, as this generation. A new token where it begins to run."""
    if record.holder != me or record.phase not in (Phase.ALONE, Phase.VACANT):
        return None
    if generation < record.generation:
        return None
    return attrs.evolve(
        record,
        phase=Phase.ALONE,
        generation=generation,
        begun=max(record.begun, generation),
        guest=None,
        stored=True,
        token=max(token, record.token),
    )


def handed(record: Record, me: Member) -> Record | None:
    """The holder leaves it to its Secondary, in order: that one has all that was acknowledged."""
    if record.holder != me or record.phase is not Phase.PAIRED or record.mate is None:
        return None
    return attrs.evolve(record, phase=Phase.VACANT, holder=record.mate, mate=me, stored=True)


def given_back(record: Record, me: Member) -> Record | None:
    """The holder runs no more, and kept nothing since its Secondary stored: that one's store counts again."""
    if record.phase is Phase.ALONE and not record.stored:
        record = attrs.evolve(record, phase=Phase.PAIRED)
    return handed(record, me)
