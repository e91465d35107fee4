"""A member's own place: its directory, and what it says of itself at the arbiter's register."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs

from colo_fsm.arbiter import ArbiterUnreachable, Claim, GenerationClaimed, UnknownGeneration
from colo_fsm.arbiter.base import fresh_number
from colo_fsm.arbiter.register import Register
from colo_fsm.fsm import Side
from colo_fsm.replica.store.base import StoreError
from colo_fsm.replica.store.directory import DirectoryStore
from colo_fsm.replica.store.disk import LOCAL_DISK, Disk

from . import record as to
from .record import Finding, Member, Point, Record, find

Change = Callable[[Record], Record | None]

_STORE, _SEAT = "store", "member.json"
_ID_BYTES = 16


class Refused(Exception):
    """The record does not allow this any more: look again."""


class Seat:
    """The directory `path` of the member `name`, open and its own until `close`.

    `store` has its copy of the data set, `id` says of which one; `disk` is what the store is on. Raises
    StoreError, OSError.
    """

    def __init__(self, path: Path, name: str, *, fsync: bool = False, disk: Disk = LOCAL_DISK) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._fsync, self._disk = fsync, disk
        self.store = self._opened()
        try:
            found = _read(path / _SEAT)
            if found is not None and found["name"] != name:
                raise StoreError(
                    f"{path} is the member {found['name']}'s: start it with --name {found['name']}, "
                    "or name another directory"
                )
            self.me = Member(name, found["seat"] if found else secrets.token_hex(_ID_BYTES))
            self.id: str | None = found["set"] if found else None
            self.belongs_to(self.id)
        except BaseException:
            self.store.close()
            raise

    def _opened(self) -> DirectoryStore:
        return DirectoryStore(self.path / _STORE, fsync=self._fsync, disk=self._disk)

    def belongs_to(self, id: str | None) -> None:
        """What the store holds, or is about to hold, is a copy of this data set."""
        self.id = id
        text = json.dumps({"name": self.me.name, "seat": self.me.seat, "set": id})
        new = self.path / f"{_SEAT}.new"
        with LOCAL_DISK.create(new) as file:
            file.write(text.encode() + b"\n")
            file.flush()
            if self._fsync:
                LOCAL_DISK.sync(file.fileno())
        LOCAL_DISK.replace(new, self.path / _SEAT)
        if self._fsync:
            folder = LOCAL_DISK.open_directory(self.path)
            try:
                LOCAL_DISK.sync(folder)
            finally:
                LOCAL_DISK.close(folder)

    @property
    def point(self) -> Point | None:
        """What the store holds; None: nothing yet."""
        newest = self.store.newest
        return None if newest is None else Point(self.id or "", newest.generation, newest.number)

    def reopen(self) -> None:
        """After a fault of the disk's: a store that has closed itself is opened again."""
        self.store.close()
        self.store = self._opened()

    def clear(self) -> None:
        """Throw away what the store holds. Raises StoreError, OSError."""
        self.store.close()
        shutil.rmtree(self.path / _STORE)
        self.store = self._opened()
        self.belongs_to(None)

    def close(self) -> None:
        """Let go of the directory."""
        self.store.close()


@attrs.frozen
class Owner:
    """Whose directory this is, and of which data set its store holds a copy; None: nothing yet."""

    name: str
    data_set: str | None


def owner(path: Path) -> tuple[Path, Owner | None]:
    """Where the store is that somebody who names `path` means, and the member that it is of, if it is one's.

    Locks nothing and makes nothing. Raises StoreError.
    """
    try:
        found = _read(path / _SEAT)
    except StoreError:
        raise StoreError(
            f"{path / _SEAT} is damaged: name {path / _STORE}, which is a store by itself"
        ) from None
    return (path, None) if found is None else (path / _STORE, Owner(found["name"], found["set"]))


def _read(path: Path) -> dict[str, str] | None:
    try:
        found = json.loads(path.read_text())
        return {key: found[key] for key in ("name", "seat", "set")}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path} is damaged ({error}): name another directory, or remove this one") from None


class Standing:
    """Where a member stands by the register: what it finds there, and what it may write.

    All of it asks afresh, and blocks. Raises ArbiterUnreachable.
    """

    local_only: bool

    def __init__(self, register: Register, seat: Seat) -> None:
        self.register = register
        self.seat = seat
        self.local_only = register.local_only
        self._side: Side | None = None

    @property
    def me(self) -> Member:
        """Who we are."""
        return self.seat.me

    # -- looking --------------------------------------------------------------------------------

    def read(self) -> Record | None:
        """What the register has."""
        return self._read()[1]

    def _read(self) -> tuple[int | None, Record | None]:
        """With the version to change it by."""
        entry = self.register.read()
        if entry is None:
            return None, None
        try:
            return entry.version, Record.decode(entry.value)
        except ValueError as error:
            raise ArbiterUnreachable(str(self.register), str(error)) from None

    def look(self) -> tuple[Finding, Record | None]:
        """What this member is to do, and by which record."""
        found = self.read()
        return find(found, self.me, self.seat.point), found

    # -- changing -------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Begin a data set; False: another one has been faster."""
        return self.register.swap(None, to.begun(secrets.token_hex(_ID_BYTES), self.me).encode())

    def change(self, change: Change) -> Record:
        """Make this change, whoever else makes one meanwhile. Raises Refused where it is not allowed."""
        while True:
            version, before = self._read()
            after = None if before is None else change(before)
            if after is None:
                raise Refused(f"the arbiter says otherwise by now: {before and before.phase}")
            if before == after or self.register.swap(version, after.encode()):
                return after

    def insist(self, have: Point) -> None:
        """Go on from what our store has, whatever the record says. Raises Refused if it has changed."""
        version, found = self._read()
        if not self.register.swap(version, to.insisted(found, self.me, have).encode()):
            raise Refused("the record has changed meanwhile")

    def begin_to_keep(self) -> int:
        """The number of a generation that our own store is about to hold. Raises Refused where it must not.

        Before the store has it: afterwards that would be ahead of all that the record knows of.
        """
        found = self.read()
        number = self.next_generation(found)
        if found is None or to.kept(found, self.me, number, found.token) is None:
            raise Refused(f"the arbiter says otherwise by now: {found and found.phase}")
        if found.id != self.seat.id:
            self.seat.belongs_to(found.id)
        return number

    def next_generation(self, found: Record | None) -> int:
        """A number for a generation of our own, above all that the record and our store have."""
        point = self.seat.point
        numbers = [found.generation, found.begun] if found else []
        return fresh_number(max([0, *numbers, *([point.generation] if point else [])]))

    def keep(self, generation: int) -> Record:
        """Our store has it all, as this generation: go on alone."""
        return self.change(lambda r: to.kept(r, self.me, generation, fresh_number(r.token)))

    def succeed(self, generation: int) -> Record:
        """Go on from what our store has of this pair, whose Primary does not come."""
        return self.change(lambda r: to.claimed(r, self.me, generation, fresh_number(r.token)))

    def give_back(self) -> Record:
        """Leave it to the last Secondary's store."""
        return self.change(lambda r: to.given_back(r, self.me))

    def hand_over(self) -> Record:
        """Leave it to our Secondary, which has it all."""
        return self.change(lambda r: to.handed(r, self.me) or (r if r.mate == self.me else None))

    def take(self) -> Record:
        """Take a data set over that nobody has used yet."""
        return self.change(lambda r: to.taken(r, self.me))

    # -- what a pair asks its arbiter -------------------------------------------------------------

    def open(self) -> int:
        """See `Arbiter.open`."""
        return self.change(lambda r: to.opened(r, self.me, self.next_generation(r))).begun

    def check(self, generation: int) -> None:
        """See `Arbiter.check`. The Secondary's is the last look before anything is overwritten."""
        found = self.read()
        if found is None or found.begun != generation:
            raise UnknownGeneration(str(self.register), generation)
        if find(found, self.me, self.seat.point) is not Finding.FOLLOW:
            raise GenerationClaimed(generation, Side.SECONDARY)
        self.seat.belongs_to(found.id)
        self.change(lambda r: to.copied(r, self.me, generation))

    def protect(self, generation: int) -> None:
        """See `Protects`."""
        self.change(lambda r: _done_once(to.joined(r, self.me, generation), r, self.me, generation))

    def claim(self, generation: int, side: Side) -> Claim:
        """See `Arbiter.claim`."""
        try:
            found = self.change(lambda r: self._claimed(r, generation))
        except Refused as error:
            raise UnknownGeneration(str(self.register), generation) from error
        winner = side if found.holder == self.me else side.peer
        return Claim(winner, found.token)

    def _claimed(self, found: Record, generation: int) -> Record:
        """As it is where somebody has claimed already, or the pair never counted: its holder goes on."""
        return to.claimed(found, self.me, generation, fresh_number(found.token)) or found


def _done_once(after: Record | None, found: Record, me: Member, generation: int) -> Record | None:
    """A change whose answer was lost has been made already."""
    if after is None and (found.phase, found.holder, found.generation) == (to.Phase.PAIRED, me, generation):
        return found
    return after
