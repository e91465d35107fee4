"""The arbiter and the register for members on several machines: keys in an etcd cluster.

`cluster.py` says how it is asked. Under the prefix:

    newest/generation      the newest generation opened
    newest/token           the newest token granted
    generation/N           when generation N was opened, for people
    claim/N                the side that has claimed it, a blank, and the token
    register/NAME          the value of a record
    version/NAME           its version, which stays when the record is removed

As in `SqliteArbiter`, numbers rise over all that is there, whatever the clock does; where the cluster was
lost they go on from the time, so that nothing of before is valid in a new one. Never restore an older
snapshot while a generation runs: it would have forgotten the claim. Connections are plain HTTP, without a
password: let only those reach the cluster who may decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs

from colo_fsm.fsm import Side

from .base import (
    ArbiterUnreachable,
    Claim,
    GenerationClaimed,
    UnknownGeneration,
    a_time,
    fresh_number,
    wall_clock,
)
from .cluster import Cluster, Found
from .database import now
from .register import Entry, a_name, checked


@attrs.frozen
class EtcdArbiter:
    """Claims in the etcd cluster `where`: `h1:2379,h2,h3/prefix`, the text behind `etcd://`.

    The members are asked in turn, for about `timeout` seconds in all; while no majority of them is there,
    nobody is answered. A pair under one prefix, or several: generations do not meet. `clock`, in
    microseconds, only helps numbers to stay new; see `fresh_number`.

    Raises:
        ValueError: that names no cluster, or etcd3gw is missing (the extra `etcd`).
    """

    local_only: ClassVar[bool] = False

    where: str
    timeout: float = attrs.field(default=5.0, validator=[a_time, attrs.validators.gt(0)])
    clock: Callable[[], int] = attrs.field(default=wall_clock, repr=False)
    _cluster: Cluster = attrs.field(init=False, repr=False, eq=False)

    @_cluster.default
    def _find(self) -> Cluster:
        return Cluster(self.where, self.timeout)

    def __str__(self) -> str:
        return str(self._cluster)

    def open(self) -> int:
        newest = "newest/generation"
        with self._cluster.asked() as question:
            while True:  # until the question's time is over
                (found,) = question.read(newest)
                generation = fresh_number(self._number(found), self.clock)
                puts = {newest: str(generation), f"generation/{generation}": now()}
                if question.write({newest: found}, puts):
                    return generation

    def check(self, generation: int) -> None:
        with self._cluster.asked() as question:
            known, claimed = question.read(f"generation/{generation}", f"claim/{generation}")
        claim = self._claim(generation, known, claimed)
        if claim is not None:
            raise GenerationClaimed(generation, claim.winner)

    def claim(self, generation: int, side: Side) -> Claim:
        keys = (f"generation/{generation}", f"claim/{generation}", "newest/token")
        with self._cluster.asked() as question:
            while True:  # until the question's time is over
                known, claimed, newest = found = question.read(*keys)
                if (claim := self._claim(generation, known, claimed)) is not None:
                    return claim
                token = fresh_number(self._number(newest), self.clock)
                puts = {keys[1]: f"{side.value} {token}", keys[2]: str(token)}
                if question.write(dict(zip(keys, found, strict=True)), puts):
                    return Claim(side, token)

    def _claim(self, generation: int, known: Found, claimed: Found) -> Claim | None:
        """The claim on an open generation, None if nobody has claimed it."""
        if claimed.value is not None:
            try:
                winner, token = claimed.value.split()
                return Claim(Side(winner), int(token))
            except ValueError:
                raise ArbiterUnreachable(str(self), f"claim/{generation} is damaged") from None
        if known.value is None:
            raise UnknownGeneration(str(self), generation)
        return None

    def _number(self, found: Found) -> int:
        return _number(str(self), found)


@attrs.frozen
class EtcdRegister:
    """The record `name` in the etcd cluster `where`, as `EtcdArbiter` has it.

    Raises:
        ValueError: that names no cluster, no data set is called so, or etcd3gw is missing (the extra `etcd`).
    """

    local_only: ClassVar[bool] = False

    where: str
    name: str = attrs.field(validator=a_name)
    timeout: float = attrs.field(default=5.0, validator=[a_time, attrs.validators.gt(0)])
    clock: Callable[[], int] = attrs.field(default=wall_clock, repr=False)
    _cluster: Cluster = attrs.field(init=False, repr=False, eq=False)

    @_cluster.default
    def _find(self) -> Cluster:
        return Cluster(self.where, self.timeout)

    def __str__(self) -> str:
        return str(self._cluster)

    @property
    def _keys(self) -> tuple[str, str]:
        return f"register/{self.name}", f"version/{self.name}"

    def read(self) -> Entry | None:
        with self._cluster.asked() as question:
            return self._entry(*question.read(*self._keys))

    def swap(self, version: int | None, value: str) -> bool:
        value = checked(value)
        with self._cluster.asked() as question:
            found = question.read(*self._keys)
            entry = self._entry(*found)
            if (None if entry is None else entry.version) != version:
                return False
            newest = fresh_number(_number(str(self), found[1]), self.clock)
            read = dict(zip(self._keys, found, strict=True))
            return question.write(read, dict(zip(self._keys, (value, str(newest)), strict=True)))

    def _entry(self, record: Found, version: Found) -> Entry | None:
        if record.value is None:
            return None
        if version.value is None:
            raise ArbiterUnreachable(str(self), f"version/{self.name} was removed, but not the record")
        return Entry(record.value, _number(str(self), version))


def _number(url: str, found: Found) -> int:
    """The number that a key holds, 0 where there is none."""
    if found.value is None:
        return 0
    try:
        return int(found.value)
    except ValueError:
        raise ArbiterUnreachable(url, f"a number is damaged: {found.value[:40]!r}") from None
