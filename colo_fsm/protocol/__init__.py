"""The protocol, and all of it: two tables, the machines made of them, and the sessions that use them.

Sans-IO: nothing here knows a socket, a clock, a thread or an `await`. Start reading at `primary.py`
and `secondary.py`; `vocabulary.py` has the words.
"""

from .complete import CompleteTable, complete
from .errors import (
    ColoError,
    FailoverRequested,
    GuestFailed,
    InvalidMessage,
    InvalidState,
    LinkLost,
    NoReturnPath,
    OutOfOrder,
    SendFailed,
    TimedOut,
    Truncated,
    UnexpectedMessage,
    UnknownMessage,
)
from .machine import ColoMachine, definition, machine_for
from .primary import PRIMARY
from .secondary import SECONDARY
from .session import PrimarySession, SecondarySession, Session, Transition
from .table import Row, Table, Trigger
from .validate import TableError, validate
from .vocabulary import (
    COLOMessage,
    Do,
    Effect,
    FailoverStatus,
    Fault,
    Mode,
    Profile,
    ReleaseOn,
    Send,
    Side,
    State,
    Variant,
)
from .wire import Inbox, encode_message, encode_size

__all__ = [
    "PRIMARY",
    "SECONDARY",
    "COLOMessage",
    "ColoError",
    "ColoMachine",
    "CompleteTable",
    "Do",
    "Effect",
    "FailoverRequested",
    "FailoverStatus",
    "Fault",
    "GuestFailed",
    "Inbox",
    "InvalidMessage",
    "InvalidState",
    "LinkLost",
    "Mode",
    "NoReturnPath",
    "OutOfOrder",
    "PrimarySession",
    "Profile",
    "ReleaseOn",
    "Row",
    "SecondarySession",
    "Send",
    "SendFailed",
    "Session",
    "Side",
    "State",
    "Table",
    "TableError",
    "TimedOut",
    "Transition",
    "Trigger",
    "Truncated",
    "UnexpectedMessage",
    "UnknownMessage",
    "Variant",
    "complete",
    "definition",
    "encode_message",
    "encode_size",
    "machine_for",
    "validate",
]
