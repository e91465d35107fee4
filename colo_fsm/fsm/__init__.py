"""A protocol of a pair as two tables, and what is made of them: machines and sessions.

Sans-IO: nothing here knows a socket, a clock, a thread or an `await`, and nothing knows COLO, whose
tables are in `colo_fsm.colo`. `words.py` and `table.py` are what to write one's own with
(docs/framework.md), `session.py` is what runs it.
"""

from .complete import CompleteTable, complete
from .errors import (
    FailoverRequested,
    GuestFailed,
    InvalidMessage,
    InvalidState,
    LinkLost,
    NoReturnPath,
    OutOfOrder,
    ProtocolError,
    SendFailed,
    Texts,
    TimedOut,
    Truncated,
    UnexpectedMessage,
    UnknownMessage,
)
from .machine import SealedError, TableMachine, definition, machine_for
from .session import Effects, Observer, Session, Transition
from .table import (
    Kind,
    Line,
    Row,
    Table,
    Trigger,
    Variant,
    always,
    begin,
    done,
    fault,
    lost,
    otherwise,
    recv,
    row,
    send,
    won,
)
from .terms import Do, Effect, FailoverStatus, Fault, Message, OnlyIf, Send, Side
from .validate import TableError, validate
from .wire import MESSAGE_SIZE, SIGN_OF_LIFE, SIZE_SIZE, Inbox, encode_size
from .words import SyncPoint, Words

__all__ = [
    "MESSAGE_SIZE",
    "SIGN_OF_LIFE",
    "SIZE_SIZE",
    "CompleteTable",
    "Do",
    "Effect",
    "Effects",
    "FailoverRequested",
    "FailoverStatus",
    "Fault",
    "GuestFailed",
    "Inbox",
    "InvalidMessage",
    "InvalidState",
    "Kind",
    "Line",
    "LinkLost",
    "Message",
    "NoReturnPath",
    "Observer",
    "OnlyIf",
    "OutOfOrder",
    "ProtocolError",
    "Row",
    "SealedError",
    "Send",
    "SendFailed",
    "Session",
    "Side",
    "SyncPoint",
    "Table",
    "TableError",
    "TableMachine",
    "Texts",
    "TimedOut",
    "Transition",
    "Trigger",
    "Truncated",
    "UnexpectedMessage",
    "UnknownMessage",
    "Variant",
    "Words",
    "always",
    "begin",
    "complete",
    "definition",
    "done",
    "encode_size",
    "fault",
    "lost",
    "machine_for",
    "otherwise",
    "recv",
    "row",
    "send",
    "validate",
    "won",
]
