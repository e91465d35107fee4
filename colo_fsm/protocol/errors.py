"""What can go wrong, as data. The texts are the patch's, prefix and errno suffix included.

    ColoError
    +-- InvalidMessage       a value of 7 or more (also raised when one is to be sent)
    +-- InvalidState         the state behind a message is malformed
    +-- UnexpectedMessage    another message than the one awaited
    |   +-- UnknownMessage   ... at an idle Secondary
    +-- OutOfOrder           a local step that does not belong here
    +-- LinkLost             end of file or an I/O error on receiving
    |   +-- Truncated        ... in the middle of something
    +-- TimedOut             no byte of an awaited message, or of the room to send one, in time
    +-- SendFailed           an I/O error on sending
    +-- NoReturnPath         the way back to the Primary cannot be opened
    +-- GuestFailed          a hook of the embedder (guest, store, observer) raised
    +-- FailoverRequested    somebody asked for it

Only programming mistakes are raised by a session; what arrives becomes `session.error`. Each class
names in `kind` the fault it is fed as (None: the message itself is the trigger).
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar

import attrs

from .vocabulary import COLOMessage, Fault, Side, State


def _strerror(cause: BaseException | None, default: int) -> str:
    """The errno suffix: the cause's own, or what QEMU reports where the kernel gave none."""
    number = cause.errno if isinstance(cause, OSError) else None
    return os.strerror(number or default)


class ColoError(Exception):
    """The base of all of them."""

    kind: ClassVar[Fault | None] = None


@attrs.define(slots=False)
class InvalidMessage(ColoError):
    """`value` is no COLO message (colo_send_message, colo_receive_message)."""

    kind = Fault.INVALID
    value: int
    sending: bool = False

    def __str__(self) -> str:
        return f"colo_{'send' if self.sending else 'receive'}_message: Invalid message"


@attrs.define(slots=False)
class InvalidState(ColoError):
    """The stream behind a message is malformed; `cause` says where and how."""

    kind = Fault.INVALID
    cause: BaseException | None = None

    def __str__(self) -> str:
        return "Invalid VM state" if self.cause is None else f"Invalid VM state: {self.cause}"


@attrs.define(slots=False)
class UnexpectedMessage(ColoError):
    """Another message than the one awaited (colo_receive_check_message).

    `expected` is the next message that this side would accept, None if there is none.
    """

    side: Side
    state: State
    received: COLOMessage
    expected: COLOMessage | None

    def __str__(self) -> str:
        text = f"Unexpected COLO message {self.received:d}"
        return text if self.expected is None else f"{text}, expected {self.expected:d}"


@attrs.define(slots=False)
class UnknownMessage(UnexpectedMessage):
    """An idle Secondary got anything but checkpoint-request (colo_wait_handle_message)."""

    def __str__(self) -> str:
        return f"Got unknown COLO message: {self.received:d}"


@attrs.define(slots=False)
class OutOfOrder(ColoError):
    """The embedder or the driver took a step that does not belong to this state."""

    side: Side
    state: State
    trigger: str

    def __str__(self) -> str:
        return f"'{self.trigger}' is out of order for the {self.side} in '{self.state}'"


@attrs.define(slots=False)
class LinkLost(ColoError):
    """The link ended or failed while a message was awaited (colo_receive_message)."""

    kind = Fault.EOF
    cause: BaseException | None = None

    def __str__(self) -> str:
        return f"Can't receive COLO message: {_strerror(self.cause, errno.EIO)}"


@attrs.define(slots=False)
class Truncated(LinkLost):
    """The link ended inside a message or inside the state behind one."""


@attrs.define(slots=False)
class TimedOut(ColoError):
    """Nothing moved on the link for `seconds` (None: the driver did not say) in `state`."""

    kind = Fault.TIMEOUT
    state: State
    seconds: float | None = None
    sending: bool = False

    def __str__(self) -> str:
        what = "send" if self.sending else "receive"
        return f"Can't {what} COLO message: {os.strerror(errno.ETIMEDOUT)}"


@attrs.define(slots=False)
class SendFailed(ColoError):
    """The link failed while a message was being sent (colo_send_message)."""

    kind = Fault.SEND_FAILED
    cause: BaseException | None = None

    def __str__(self) -> str:
        return f"Can't send COLO message: {_strerror(self.cause, errno.EIO)}"


@attrs.define(slots=False)
class NoReturnPath(ColoError):
    """The Primary has no way to hear the Secondary (colo_process_checkpoint)."""

    kind = Fault.NO_RETURN_PATH
    cause: BaseException | None = None

    def __str__(self) -> str:
        return "Open QEMUFile from_dst_file failed"


@attrs.define(slots=False)
class GuestFailed(ColoError):
    """What the embedder supplied failed: `hook` names it, `cause` is what it raised."""

    kind = Fault.GUEST_FAILED
    hook: str
    cause: BaseException | None = None

    def __str__(self) -> str:
        why = "" if self.cause is None else f": {type(self.cause).__name__}: {self.cause}"
        return f"{self.hook} failed{why}"


@attrs.define(slots=False)
class FailoverRequested(ColoError):
    """An operator or a heartbeat manager asked for failover (QEMU: x-colo-lost-heartbeat)."""

    kind = Fault.FAILOVER_REQUEST
    cause: BaseException | None = None

    def __str__(self) -> str:
        return "Failover requested"
