"""What can go wrong, as data.

    ProtocolError
    +-- InvalidMessage       a value that is no message (also raised when one is to be sent)
    +-- InvalidState         the state behind a message is malformed
    +-- UnexpectedMessage    another message than the one awaited
    |   +-- UnknownMessage   ... between two rounds
    +-- OutOfOrder           a local step that does not belong here
    +-- LinkLost             end of file or an I/O error on receiving
    |   +-- Truncated        ... in the middle of something
    |   +-- TurnedAway       ... and the peer has said why
    +-- TimedOut             no byte of an awaited message, or of the room to send one, in time
    +-- SendFailed           an I/O error on sending
    +-- NoReturnPath         the way back to the Primary cannot be opened
    +-- GuestFailed          a hook of the embedder (guest, store, observer) raised
    +-- FailoverRequested    somebody asked for it

Only programming mistakes are raised by a session; what arrives becomes `session.error`. Each class
names in `kind` the fault it is fed as (None: the message itself is the trigger). The session that meets
an error words it as its protocol's `Words.texts` say, so that COLO's read as in the patch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Self

import attrs

from .terms import Fault, Message, Side


class ProtocolError(Exception):
    """The base of all of them."""

    kind: ClassVar[Fault | None] = None
    texts: Texts = {}
    """How the protocol words its errors; see `worded`."""

    def worded(self, texts: Texts) -> Self:
        """This error, which from now on reads as `texts` say."""
        self.texts = texts
        return self

    def __str__(self) -> str:
        for cls in type(self).__mro__:
            if (text := self.texts.get(cls) or _TEXTS.get(cls)) is not None:
                return text(self)
        return type(self).__name__


Texts = Mapping[type[ProtocolError], Callable[[Any], str]]
"""The text of an error by its class; a class that is not there reads as its base, or as here."""


@attrs.define(slots=False)
class InvalidMessage(ProtocolError):
    """`value` is no message of this protocol."""

    kind = Fault.INVALID
    value: int
    sending: bool = False


@attrs.define(slots=False)
class InvalidState(ProtocolError):
    """The stream behind a message is malformed; `cause` says where and how."""

    kind = Fault.INVALID
    cause: BaseException | None = None


@attrs.define(slots=False)
class UnexpectedMessage(ProtocolError):
    """Another message than the one awaited.

    `expected` is the next message that this side would accept, None if there is none.
    """

    side: Side
    state: StrEnum
    received: Message
    expected: Message | None


@attrs.define(slots=False)
class UnknownMessage(UnexpectedMessage):
    """A side that waits for the next round got anything but its beginning."""


@attrs.define(slots=False)
class OutOfOrder(ProtocolError):
    """The embedder or the driver took a step that does not belong to this state."""

    side: Side
    state: StrEnum
    trigger: str


@attrs.define(slots=False)
class LinkLost(ProtocolError):
    """The link ended or failed while a message was awaited."""

    kind = Fault.EOF
    cause: BaseException | None = None


@attrs.define(slots=False)
class Truncated(LinkLost):
    """The link ended inside a message or inside the state behind one."""


@attrs.define(slots=False)
class TurnedAway(LinkLost):
    """The Secondary has refused this Primary before it was ready; `words` are its own."""

    words: str = ""


@attrs.define(slots=False)
class TimedOut(ProtocolError):
    """Nothing moved on the link for `seconds` (None: the driver did not say) in `state`."""

    kind = Fault.TIMEOUT
    state: StrEnum
    seconds: float | None = None
    sending: bool = False


@attrs.define(slots=False)
class SendFailed(ProtocolError):
    """The link failed while a message was being sent."""

    kind = Fault.SEND_FAILED
    cause: BaseException | None = None


@attrs.define(slots=False)
class NoReturnPath(ProtocolError):
    """The Primary has no way to hear the Secondary."""

    kind = Fault.NO_RETURN_PATH
    cause: BaseException | None = None


@attrs.define(slots=False)
class GuestFailed(ProtocolError):
    """What the embedder supplied failed: `hook` names it, `cause` is what it raised."""

    kind = Fault.GUEST_FAILED
    hook: str
    cause: BaseException | None = None


@attrs.define(slots=False)
class FailoverRequested(ProtocolError):
    """An operator or a heartbeat manager asked for failover (QEMU: x-colo-lost-heartbeat)."""

    kind = Fault.FAILOVER_REQUEST
    cause: BaseException | None = None


def link_ended(error: BaseException | None) -> bool:
    """Whether this says no more than that the peer has closed the link, or is gone, between two messages."""
    if not isinstance(error, LinkLost | SendFailed) or isinstance(error, Truncated):
        return False
    return error.cause is None or isinstance(error.cause, ConnectionError)


def strerror(cause: BaseException | None) -> str:
    """The errno suffix: the cause's own, or what QEMU reports where the kernel gave none."""
    number = cause.errno if isinstance(cause, OSError) else None
    return os.strerror(number or errno.EIO)


def _unexpected(error: UnexpectedMessage) -> str:
    text = f"unexpected message '{error.received.text}' in '{error.state}'"
    return text if error.expected is None else f"{text}, expected '{error.expected.text}'"


def _guest_failed(error: GuestFailed) -> str:
    why = "" if error.cause is None else f": {type(error.cause).__name__}: {error.cause}"
    return f"{error.hook} failed{why}"


def _invalid_state(error: InvalidState) -> str:
    return "Invalid VM state" if error.cause is None else f"Invalid VM state: {error.cause}"


_TEXTS: Texts = {
    InvalidMessage: lambda e: f"{e.value} is no message that can be {'sent' if e.sending else 'received'}",
    InvalidState: _invalid_state,
    UnexpectedMessage: _unexpected,
    OutOfOrder: lambda e: f"'{e.trigger}' is out of order for the {e.side} in '{e.state}'",
    LinkLost: lambda e: f"Can't receive a message: {strerror(e.cause)}",
    TurnedAway: lambda e: f"The Secondary refuses: {e.words}",
    TimedOut: lambda e: (
        f"Can't {'send' if e.sending else 'receive'} a message: {os.strerror(errno.ETIMEDOUT)}"
    ),
    SendFailed: lambda e: f"Can't send a message: {strerror(e.cause)}",
    NoReturnPath: lambda e: f"the way back from the Secondary cannot be opened: {strerror(e.cause)}",
    GuestFailed: _guest_failed,
    FailoverRequested: lambda e: "Failover requested",
}
