"""The life of a data set over its machines: who has the newest state, who runs, who joins.

`member()` makes one of the two. `record.py` has the rules, as pure functions that `check.members`
explores; `machine.py` what a member is; `life.py` does it.
"""

from __future__ import annotations

from pathlib import Path

from colo_fsm.arbiter.register import Register, open_register
from colo_fsm.replica import Address, AsyncGuest, Guest, Options
from colo_fsm.replica.events import MemberMoved

from .active import Active
from .ground import AloneCommit, MemberFailed, NotPossible, Plan
from .life import Member
from .seat import Seat, Standing

__all__ = ["Active", "AloneCommit", "Member", "MemberFailed", "MemberMoved", "NotPossible", "Plan", "member"]

DATA_SET = "main"


def member(
    guest: Guest | AsyncGuest,
    *,
    name: str,
    listen: str,
    peer: str,
    arbiter: Register | str,
    store: str | Path,
    data_set: str = DATA_SET,
    options: Options | None = None,
    fsync: bool = False,
    alone_commit: AloneCommit = AloneCommit.DISK,
    alone_interval: float | None = None,
    accept_loss: bool = False,
    replace_store: bool = False,
) -> Member:
    """One of the two members that hold a data set: `async with member(...) as m`.

    Start it on both machines, in any order, as often as you like; it finds out by the arbiter and by its
    directory whether it is to run the guest. `listen`: where the other one finds this one; `peer`: where this
    one finds the other. `arbiter`: `sqlite:PATH` (both on one machine) or `etcd://...`; `store`: a directory
    of this member's own. `alone_commit`: whether answers given while it runs alone wait for that store, which
    is written every `alone_interval` seconds then (None: as in a pair). If the guest has a coroutine
    `serve(active)`, it runs while the guest runs here.

    Raises ValueError for what cannot work, StoreError and OSError for a directory that cannot be used.
    """
    register = open_register(arbiter, data_set) if isinstance(arbiter, str) else arbiter
    here, there = Address.parse(listen), Address.parse(peer)
    if register.local_only and not (here.on_this_machine and there.on_this_machine):
        raise ValueError(f"{peer} is another machine, and an SQLite record serves one only: use etcd://")
    plan = Plan(
        here, there, options or Options(), alone_commit=AloneCommit(alone_commit),
        alone_interval=alone_interval, accept_loss=accept_loss, replace_store=replace_store,
    )  # fmt: skip
    plan.alone  # noqa: B018 - a time that cannot be is refused now, not after a failover
    seat = Seat(Path(store), name, fsync=fsync)
    return Member(guest, seat, Standing(register, seat), plan)
