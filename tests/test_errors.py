"""What goes wrong is data, and reads as the patch words it."""

from __future__ import annotations

import copy
import errno
import pickle

import pytest

from colo_fsm.colo import COLO, COLOMessage, State
from colo_fsm.fsm import (
    FailoverRequested,
    Fault,
    GuestFailed,
    InvalidMessage,
    InvalidState,
    LinkLost,
    NoReturnPath,
    OutOfOrder,
    ProtocolError,
    SendFailed,
    Side,
    TimedOut,
    Truncated,
    TurnedAway,
    UnexpectedMessage,
    UnknownMessage,
)

M = COLOMessage
RESET = ConnectionResetError(errno.ECONNRESET, "whatever the platform says")
BROKEN = BrokenPipeError(errno.EPIPE, "x")

TEXTS: list[tuple[ProtocolError, Fault | None, str]] = [
    (InvalidMessage(7), Fault.INVALID, "colo_receive_message: Invalid message"),
    (InvalidMessage(7, sending=True), Fault.INVALID, "colo_send_message: Invalid message"),
    (TurnedAway(words="busy"), Fault.EOF, "The Secondary refuses: busy"),
    (InvalidState(ValueError("no footer")), Fault.INVALID, "Invalid VM state: no footer"),
    (
        UnexpectedMessage(Side.PRIMARY, State.REQUESTED, M.VMSTATE_LOADED, M.CHECKPOINT_REPLY),
        None,
        "Unexpected COLO message 6, expected 2",
    ),
    (
        UnknownMessage(Side.SECONDARY, State.READY, M.VMSTATE_SEND, M.CHECKPOINT_REQUEST),
        None,
        "Got unknown COLO message: 3",
    ),
    (
        OutOfOrder(Side.SECONDARY, State.SIZED, "begin_leave"),
        None,
        "'begin_leave' is out of order for the secondary in 'sized'",
    ),
    (LinkLost(), Fault.EOF, "Can't receive COLO message: Input/output error"),
    (LinkLost(EOFError()), Fault.EOF, "Can't receive COLO message: Input/output error"),
    (LinkLost(OSError("no number")), Fault.EOF, "Can't receive COLO message: Input/output error"),
    (LinkLost(RESET), Fault.EOF, "Can't receive COLO message: Connection reset by peer"),
    (Truncated(), Fault.EOF, "Can't receive COLO message: Input/output error"),
    (TimedOut(State.REQUESTED, 5.0), Fault.TIMEOUT, "Can't receive COLO message: Connection timed out"),
    (SendFailed(), Fault.SEND_FAILED, "Can't send COLO message: Input/output error"),
    (SendFailed(BROKEN), Fault.SEND_FAILED, "Can't send COLO message: Broken pipe"),
    (NoReturnPath(), Fault.NO_RETURN_PATH, "Open QEMUFile from_dst_file failed"),
    (GuestFailed("save", ValueError("full")), Fault.GUEST_FAILED, "save failed: ValueError: full"),
    (FailoverRequested(), Fault.FAILOVER_REQUEST, "Failover requested"),
]


@pytest.mark.parametrize(("error", "kind", "text"), TEXTS, ids=lambda value: type(value).__name__)
def test_the_text_is_the_patchs(error: ProtocolError, kind: Fault | None, text: str) -> None:
    assert str(copy.copy(error).worded(COLO.texts)) == text
    assert error.kind is kind


@pytest.mark.parametrize(
    ("error", "text"), [(e, text) for e, _, text in TEXTS], ids=lambda v: type(v).__name__
)
def test_another_protocols_errors_do_not_read_as_colos(error: ProtocolError, text: str) -> None:
    assert str(error)
    assert "colo" not in str(error).lower()


def test_every_error_is_covered_and_every_fault_has_one() -> None:
    assert {type(error) for error, _, _ in TEXTS} == set(subclasses(ProtocolError))
    assert {kind for _, kind, _ in TEXTS if kind} == set(Fault)


def subclasses(cls: type[ProtocolError]) -> list[type[ProtocolError]]:
    direct = cls.__subclasses__()
    return [*direct, *(deeper for c in direct for deeper in subclasses(c))]


def test_the_tree_lets_a_caller_catch_the_broader_class() -> None:
    assert issubclass(UnknownMessage, UnexpectedMessage)
    assert issubclass(Truncated, LinkLost)


@pytest.mark.parametrize("error", [error for error, _, _ in TEXTS], ids=lambda e: type(e).__name__)
def test_an_error_is_an_ordinary_exception(error: ProtocolError) -> None:
    assert error in {error}, "logging and ExceptionGroup put exceptions into sets"
    error = copy.copy(error).worded(COLO.texts)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)


def test_a_message_error_carries_what_happened_as_data() -> None:
    error = UnexpectedMessage(Side.PRIMARY, State.SIZED, M.VMSTATE_LOADED, M.VMSTATE_RECEIVED)
    assert (error.side, error.state) == (Side.PRIMARY, State.SIZED)
    assert (error.received, error.expected) == (M.VMSTATE_LOADED, M.VMSTATE_RECEIVED)
