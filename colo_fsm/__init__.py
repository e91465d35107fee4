"""Checkpointing protocols as explicit state machines, and COLO's, with QEMU's wire.

Replicate a guest and survive its Primary: `primary`, `secondary` (asyncio) or `blocking`. Or take
the sans-IO sessions, `PrimarySession` and `SecondarySession`, and drive them yourself. Or declare a
protocol of your own, with `Words`, `Table` and `row` (docs/framework.md).
"""

from __future__ import annotations

import importlib
import typing

if typing.TYPE_CHECKING:
    from .arbiter import Arbiter, open_arbiter
    from .colo import COLO, COLOMessage, PrimarySession, ReleaseOn, ResumeOn, SecondarySession, State, Variant
    from .fsm import (
        Do,
        Fault,
        Message,
        ProtocolError,
        Session,
        Side,
        SyncPoint,
        Table,
        TableError,
        Words,
        begin,
        complete,
        definition,
        done,
        fault,
        lost,
        machine_for,
        otherwise,
        recv,
        row,
        send,
        won,
    )
    from .membership import member
    from .replica import (
        AsyncGuest,
        Guest,
        NotCommitted,
        NotRunning,
        Options,
        StateGuest,
        blocking,
        link_pair,
        quick,
    )
    from .replica.aio import primary, secondary

__version__ = "0.1.0"

__all__ = [
    "COLO",
    "Arbiter",
    "AsyncGuest",
    "COLOMessage",
    "Do",
    "Fault",
    "Guest",
    "Message",
    "NotCommitted",
    "NotRunning",
    "Options",
    "PrimarySession",
    "ProtocolError",
    "ReleaseOn",
    "ResumeOn",
    "SecondarySession",
    "Session",
    "Side",
    "State",
    "StateGuest",
    "SyncPoint",
    "Table",
    "TableError",
    "Variant",
    "Words",
    "begin",
    "blocking",
    "complete",
    "definition",
    "done",
    "fault",
    "link_pair",
    "lost",
    "machine_for",
    "member",
    "open_arbiter",
    "otherwise",
    "primary",
    "quick",
    "recv",
    "row",
    "secondary",
    "send",
    "won",
]


def __getattr__(name: str) -> typing.Any:
    """Load what is asked for, when it is: the command has its say on ^C before anything is loaded."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # colo first: it has the Variant of COLO, and fsm what any may be
    order = ("colo", "fsm", "arbiter", "replica", "membership")
    rooms = (importlib.import_module(f"{__name__}.{room}") for room in order)
    found = globals()[name] = next(getattr(room, name) for room in rooms if name in room.__all__)
    return found
