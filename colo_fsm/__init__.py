"""Checkpointing protocols as explicit state machines, and COLO's, with QEMU's wire.

Replicate a guest and survive its Primary: `primary`, `secondary` (asyncio) or `blocking`. Or take
the sans-IO sessions, `PrimarySession` and `SecondarySession`, and drive them yourself. Or declare a
protocol of your own, with `Words`, `Table` and `row` (docs/framework.md).
"""

from .arbiter import Arbiter, open_arbiter
from .colo import COLO, COLOMessage, PrimarySession, ReleaseOn, SecondarySession, State, Variant
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
from .replica import (
    AsyncGuest,
    Guest,
    NotCommitted,
    NotRunning,
    Options,
    StateGuest,
    blocking,
    link_pair,
    primary,
    secondary,
)

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
    "open_arbiter",
    "otherwise",
    "primary",
    "recv",
    "row",
    "secondary",
    "send",
    "won",
]
