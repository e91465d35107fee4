"""How COLO's errors read: the patch's words, prefix and errno suffix included."""

from __future__ import annotations

import errno
import os

from colo_fsm.fsm.errors import (
    InvalidMessage,
    LinkLost,
    NoReturnPath,
    SendFailed,
    Texts,
    TimedOut,
    UnexpectedMessage,
    UnknownMessage,
    strerror,
)


def _invalid(error: InvalidMessage) -> str:
    """colo_send_message(), colo_receive_message()"""
    return f"colo_{'send' if error.sending else 'receive'}_message: Invalid message"


def _unexpected(error: UnexpectedMessage) -> str:
    """colo_receive_check_message()"""
    text = f"Unexpected COLO message {error.received:d}"
    return text if error.expected is None else f"{text}, expected {error.expected:d}"


def _unknown(error: UnknownMessage) -> str:
    """colo_wait_handle_message()"""
    return f"Got unknown COLO message: {error.received:d}"


def _link_lost(error: LinkLost) -> str:
    return f"Can't receive COLO message: {strerror(error.cause)}"


def _send_failed(error: SendFailed) -> str:
    return f"Can't send COLO message: {strerror(error.cause)}"


def _timed_out(error: TimedOut) -> str:
    return f"Can't {'send' if error.sending else 'receive'} COLO message: {os.strerror(errno.ETIMEDOUT)}"


def _no_return_path(_: NoReturnPath) -> str:
    """colo_process_checkpoint()"""
    return "Open QEMUFile from_dst_file failed"


TEXTS: Texts = {
    InvalidMessage: _invalid,
    UnexpectedMessage: _unexpected,
    UnknownMessage: _unknown,
    LinkLost: _link_lost,
    SendFailed: _send_failed,
    TimedOut: _timed_out,
    NoReturnPath: _no_return_path,
}
"""By the class of the error; functions, not lambdas, so that an error can be pickled."""
