"""A session: what it is told, what it answers, what it says was wrong, and who is told."""

from __future__ import annotations

import errno
import gc
import logging
import tracemalloc
from enum import StrEnum

import pytest
from pair import PATCH, SESSIONS, Driver, Pair, verdict, wire

from colo_fsm.colo import COLOMessage, PrimarySession, Profile, SecondarySession, State, Variant, colo_machine
from colo_fsm.fsm import (
    Do,
    FailoverRequested,
    FailoverStatus,
    Fault,
    GuestFailed,
    InvalidMessage,
    InvalidState,
    Kind,
    LinkLost,
    Message,
    NoReturnPath,
    OutOfOrder,
    Row,
    Send,
    SendFailed,
    Session,
    Side,
    TimedOut,
    Transition,
    Trigger,
    Truncated,
    UnexpectedMessage,
    UnknownMessage,
    begin,
    done,
    fault,
    lost,
    recv,
    won,
)

M, S, F = COLOMessage, State, Fault
BOTH = [(side, variant) for side in Side for variant in Variant.all()]
both = pytest.mark.parametrize(("side", "variant"), BOTH, ids=lambda value: str(value))
each_side = pytest.mark.parametrize("side", Side)

FAULTS: dict[Fault, tuple[type[Exception], str]] = {
    F.EOF: (LinkLost, "Can't receive COLO message: Input/output error"),
    F.TIMEOUT: (TimedOut, "Can't receive COLO message: Connection timed out"),
    F.INVALID: (InvalidState, "Invalid VM state: no footer"),
    F.SEND_FAILED: (SendFailed, "Can't send COLO message: Input/output error"),
    F.GUEST_FAILED: (GuestFailed, "guest failed: ValueError: no footer"),
    F.NO_RETURN_PATH: (NoReturnPath, "Open QEMUFile from_dst_file failed"),
    F.FAILOVER_REQUEST: (FailoverRequested, "Failover requested"),
}
CAUSE = ValueError("no footer")


class Foreign(Message):
    """Another protocol's messages; the value is one of ours."""

    HELLO = 1


def at(state: StrEnum, side: Side, variant: Variant = PATCH) -> Session:
    """A session that has come to this state without an error."""
    session = SESSIONS[side](variant)
    session.state = state
    return session


def fire(session: Session, trigger: Trigger) -> object:
    """Tell a session what has happened; a fault with its cause."""
    return session.fire(trigger, CAUSE if trigger.kind is Kind.FAULT else None)


# -- every state and trigger --------------------------------------------------------------------------


def expected_message(side: Side, variant: Variant, state: StrEnum) -> int:
    """The message named behind "expected", by hand."""
    if side is Side.PRIMARY:
        return {"init": 0, "ready": 2, "requested": 2, "received": 6, "loaded": 2}.get(state, 5)
    if state in (S.REQUESTED, S.REPLIED):
        return 3
    return 4 if state is S.SENDING and variant.profile is Profile.QEMU else 1


def expected_error(side: Side, variant: Variant, row: Row) -> tuple[type[Exception] | None, str]:
    """What is wrong when this row fires: nothing where the row is the protocol's, or nothing happens."""
    trigger, state = row.trigger, row.source
    if row.dest is None or (not row.implied and trigger.kind is not Kind.FAULT):
        return None, ""
    if trigger.kind is Kind.FAULT:
        return FAULTS[Fault(trigger.name.removeprefix("fault_"))]
    if trigger.message is None:
        return OutOfOrder, f"'{trigger}' is out of order for the {side} in '{state}'"
    if side is Side.SECONDARY and state in (S.READY, S.LOADED):
        return UnknownMessage, f"Got unknown COLO message: {int(trigger.message)}"
    expected = expected_message(side, variant, state)
    return UnexpectedMessage, f"Unexpected COLO message {int(trigger.message)}, expected {expected}"


@both
def test_every_state_and_trigger_has_its_verdict(side: Side, variant: Variant) -> None:
    for row in colo_machine(side, variant).table.rows:
        session = at(row.source, side, variant)
        assert fire(session, row.trigger) == row.effects, str(row)
        assert session.state is (row.dest or row.source), str(row)
        assert verdict(session) == expected_error(side, variant, row), str(row)
        if isinstance(session.error, UnexpectedMessage):
            error, expected = session.error, expected_message(side, variant, row.source)
            assert (error.side, error.state) == (side, row.source)
            assert (error.received, error.expected) == (row.trigger.message, expected)
        elif isinstance(session.error, OutOfOrder):
            told = (session.error.side, session.error.state, session.error.trigger)
            assert told == (side, row.source, row.trigger.name)


@both
@pytest.mark.parametrize("value", [7, 255, 2**32 - 1])
def test_an_invalid_message_is_a_fault_in_every_state(side: Side, variant: Variant, value: int) -> None:
    for state in colo_machine(side, variant).table.states:
        session = at(state, side, variant)
        row = session.table.by_input[state, fault_trigger(session, F.INVALID)]
        assert session.fire(*session.table.arrival(value)) == row.effects
        assert session.state is (row.dest or state)
        if row.dest is None:
            assert session.error is None
        else:
            assert verdict(session) == (InvalidMessage, "colo_receive_message: Invalid message")


def fault_trigger(session: Session, kind: Fault) -> Trigger:
    return next(t for t in session.table.triggers if t.name == f"fault_{kind}")


@each_side
def test_what_the_protocol_is_done_with_absorbs_everything(side: Side) -> None:
    for state in (S.STOPPED, S.ENDED):
        session = at(state, side)
        assert session.over
        for trigger in session.table.triggers:
            assert fire(session, trigger) == ()
        assert session.receive_data(wire(0, 1, 7)) == ()
        assert session.receive_data(b"") == ()
        assert (session.state, session.error) == (state, None)


@each_side
def test_only_a_mistake_of_the_driver_raises(side: Side) -> None:
    session = SESSIONS[side](Variant())
    with pytest.raises(ValueError, match="awaits 'done_release'"):
        session.fire(done(Do.release))
    with pytest.raises(ValueError, match="awaits 'recv_hello'"):
        session.fire(recv(Foreign.HELLO))


# -- error objects ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "cause", "text"),
    [
        (
            F.EOF,
            ConnectionResetError(errno.ECONNRESET, ""),
            "Can't receive COLO message: Connection reset by peer",
        ),
        (F.SEND_FAILED, BrokenPipeError(errno.EPIPE, ""), "Can't send COLO message: Broken pipe"),
    ],
)
def test_the_errno_is_the_links_own(kind: Fault, cause: OSError, text: str) -> None:
    session = at(S.READY, Side.PRIMARY)
    session.fire(fault(kind), cause)
    assert str(session.error) == text


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (F.EOF, Truncated()),
        (F.TIMEOUT, TimedOut(S.READY, 5.0)),
        (F.GUEST_FAILED, GuestFailed("save", CAUSE)),
        (F.INVALID, InvalidState(CAUSE)),
        (F.INVALID, InvalidMessage(9)),
    ],
)
def test_an_error_made_by_the_driver_is_kept(kind: Fault, error: Exception) -> None:
    session = at(S.READY, Side.PRIMARY)
    session.fire(fault(kind), error)
    assert session.error is error


def test_an_error_of_another_kind_is_the_cause() -> None:
    session = at(S.READY, Side.PRIMARY)
    cause = Truncated()
    session.fire(fault(F.FAILOVER_REQUEST), cause)
    assert isinstance(session.error, FailoverRequested)
    assert session.error.cause is cause


@each_side
@pytest.mark.parametrize(("data", "error"), [(b"", LinkLost), (b"\0", Truncated), (b"\0\0\0", Truncated)])
def test_the_end_of_the_link_inside_a_message_is_told_apart(
    side: Side, data: bytes, error: type[Exception]
) -> None:
    session = at(S.READY, side)
    if data:
        session.receive_data(data)
    assert session.receive_data(b"") == (Do.disconnect, Do.suspend, Do.claim)
    assert verdict(session) == (error, "Can't receive COLO message: Input/output error")


def test_the_error_is_the_newest_and_each_transition_has_its_own() -> None:
    seen: list[Transition] = []
    session = at(S.READY, Side.PRIMARY)
    session.on_transition(seen.append)
    session.fire(fault(F.EOF))
    session.fire(won)
    session.fire(fault(F.GUEST_FAILED), CAUSE)
    assert [type(t.error) for t in seen] == [LinkLost, type(None), GuestFailed]
    assert session.error is seen[-1].error


# -- failover -----------------------------------------------------------------------------------------


@both
def test_the_failover_status_is_derived_from_the_state(side: Side, variant: Variant) -> None:
    status = {"finishing": "relaunch", "failover": "active", "alone": "completed"}
    for state in colo_machine(side, variant).table.states:
        assert at(state, side, variant).failover_status == status.get(state, FailoverStatus.NONE)


@pytest.mark.parametrize("kind", Fault)
@each_side
def test_a_fault_before_ready_stops_the_side_and_claims_nothing(side: Side, kind: Fault) -> None:
    driver = Driver(SESSIONS[side](PATCH), claim=lambda _: pytest.fail("claimed"))
    driver.perform(driver.session.fire(fault(kind), CAUSE))
    assert driver.session.state is S.STOPPED
    assert driver.did == ["disconnect", "discard"]


@both
def test_whoever_wins_runs_and_the_other_stops(side: Side, variant: Variant) -> None:
    pair = Pair(variant)
    pair.start()
    pair.checkpoint()
    hurt, other = (pair.primary, pair.secondary) if side is Side.PRIMARY else (pair.secondary, pair.primary)
    pair.perform(hurt, hurt.session.fire(fault(F.FAILOVER_REQUEST)))
    assert (hurt.session.state, other.session.state) == (S.ALONE, S.STOPPED)
    assert hurt.did[-2:] == ["resume", "release_all"]
    assert (other.did[-3:], verdict(other.session)[0]) == (["suspend", "claim", "discard"], LinkLost)


def secondary_that_stores(variant: Variant) -> SecondarySession:
    session = SecondarySession(variant)
    session.start()
    session.fire(done(Do.receive_initial))
    session.receive_data(wire(M.CHECKPOINT_REQUEST))
    session.fire(done(Do.suspend))
    sized = variant.profile is Profile.QEMU
    session.receive_data(wire(M.VMSTATE_SEND))
    if sized:
        session.receive_data(wire(M.VMSTATE_SIZE))
    return session


def secondary_that_loads(variant: Variant) -> SecondarySession:
    session = secondary_that_stores(variant)
    assert session.fire(done(Do.store)) == (Send(M.VMSTATE_RECEIVED), Do.load)
    return session


@pytest.mark.parametrize("kind", sorted(set(Fault) - {F.GUEST_FAILED}))
@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_a_fault_while_loading_finishes_the_load_and_sends_nothing(variant: Variant, kind: Fault) -> None:
    session = secondary_that_loads(variant)
    assert session.fire(fault(kind), CAUSE) == (Do.load,)
    assert (session.state, session.failover_status) == (S.FINISHING, FailoverStatus.RELAUNCH)
    for trigger in session.table.triggers:  # nothing but the load's end is listened to
        if trigger.name not in ("done_load", "fault_guest_failed"):
            assert fire(session, trigger) == ()
    assert session.fire(done(Do.load)) == (Do.disconnect, Do.claim)
    assert session.state is S.FAILOVER
    assert verdict(session) == FAULTS[kind]
    assert session.fire(won) == (Do.resume, Do.release_all)


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_a_fault_while_storing_loads_before_it_claims(variant: Variant) -> None:
    """The store may hold a checkpoint by then that nobody has loaded: whoever claims must be able to run."""
    session = secondary_that_stores(variant)
    assert session.fire(fault(F.FAILOVER_REQUEST)) == (Do.load,)
    assert session.fire(done(Do.store)) == ()
    assert session.fire(done(Do.load)) == (Do.disconnect, Do.claim)


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
def test_a_checkpoint_that_cannot_be_loaded_is_not_claimed_for(variant: Variant) -> None:
    session = secondary_that_stores(variant)
    session.fire(fault(F.FAILOVER_REQUEST))
    assert session.fire(fault(F.GUEST_FAILED), CAUSE) == (Do.disconnect, Do.suspend, Do.discard)
    assert session.state is S.STOPPED


@pytest.mark.parametrize("first", [F.FAILOVER_REQUEST, F.GUEST_FAILED])
def test_a_load_that_fails_is_tried_once_more_and_then_leaves_nothing_to_run(first: Fault) -> None:
    session = secondary_that_loads(PATCH)
    assert session.fire(fault(first)) == (Do.load,)
    assert session.fire(fault(F.GUEST_FAILED), CAUSE) == (Do.disconnect, Do.suspend, Do.discard)
    assert (session.state, session.fire(won)) == (S.STOPPED, ())


# -- leaving ------------------------------------------------------------------------------------------


@each_side
@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_a_side_leaves_in_order_between_two_rounds_and_the_other_claims(side: Side, rounds: int) -> None:
    pair = Pair()
    pair.start()
    for _ in range(rounds):
        pair.checkpoint()
    gone, other = (pair.primary, pair.secondary) if side is Side.PRIMARY else (pair.secondary, pair.primary)
    pair.perform(gone, gone.session.fire(begin.leave))
    assert (gone.session.state, gone.session.error) == (S.ENDED, None)
    assert gone.did[-3:] == ["disconnect", "suspend", "discard"]
    assert (other.session.state, pair.winner) == (S.ALONE, other.session.side)


@both
def test_leaving_inside_a_round_is_out_of_order(side: Side, variant: Variant) -> None:
    in_order = {S.INIT, S.READY, S.LOADED, S.FAILOVER, S.ALONE}
    for state in colo_machine(side, variant).table.states:
        session = at(state, side, variant)
        assert session.may(begin.leave) is (state in in_order)
        session.fire(begin.leave)
        error = OutOfOrder if state in set(S) - in_order - {S.FINISHING, S.STOPPED, S.ENDED} else type(None)
        assert type(session.error) is error, state


# -- what is read, and when ---------------------------------------------------------------------------

AWAITS = {
    Side.PRIMARY: {S.INIT, S.REQUESTED, S.RECEIVED},
    Side.SECONDARY: {S.READY, S.REPLIED, S.LOADED},
}


def awaits(side: Side, variant: Variant) -> set[StrEnum]:
    """The states in which a message of the peer is due, by hand."""
    qemu = variant.profile is Profile.QEMU
    if side is Side.PRIMARY:
        return AWAITS[side] | {S.SIZED if qemu else S.SENDING}
    return AWAITS[side] | ({S.SENDING} if qemu else set())


@both
def test_what_is_awaited_and_what_is_read(side: Side, variant: Variant) -> None:
    idle = {S.READY, S.LOADED} if side is Side.PRIMARY else set()
    for state in colo_machine(side, variant).table.states:
        session = at(state, side, variant)
        assert session.awaits_message is (state in awaits(side, variant)), state
        assert session.wants_data is (state in awaits(side, variant) | idle), state


@both
@pytest.mark.parametrize("message", M)
def test_a_stranger_who_floods_gets_one_read(side: Side, variant: Variant, message: COLOMessage) -> None:
    for state in colo_machine(side, variant).table.states:
        driver = Driver(at(state, side, variant))
        reads = 0
        while driver.session.wants_data and reads < 10:
            driver.read(wire(message) * 1000)
            reads += 1
        assert reads <= 1, state
        assert len(driver.session.unread()) <= 4000


def test_bytes_behind_a_message_are_the_drivers_to_take_and_to_give_back() -> None:
    session = at(S.REPLIED, Side.SECONDARY, Variant())
    assert session.receive_data(wire(M.VMSTATE_SEND) + b"live state" + wire(M.VMSTATE_SIZE)) == (
        Do.receive_live,
    )
    taken = session.unread()
    assert taken == b"live state" + wire(M.VMSTATE_SIZE)
    session.give_back(taken[len(b"live state") :])
    assert session.next_effects() == (Do.receive_state, Do.store)
    assert session.unread() == b""


def test_giving_nothing_back_is_not_the_end_of_the_link() -> None:
    session = at(S.SENDING, Side.SECONDARY, Variant())
    session.give_back(session.unread())
    assert session.next_effects() == ()
    assert (session.state, session.wants_data) == (S.SENDING, True)


def test_nothing_read_is_nothing_to_take() -> None:
    session = PrimarySession()
    assert (session.unread(), session.next_effects()) == (b"", ())


# -- observers ----------------------------------------------------------------------------------------


def test_observers_are_told_of_every_transition_in_order() -> None:
    seen: list[Transition] = []
    session, other = PrimarySession(PATCH), PrimarySession(PATCH)
    session.on_transition(seen.append)
    other.receive_data(wire(0))
    session.receive_data(wire(0))
    session.fire(*session.table.arrival(M.VMSTATE_LOADED))
    session.fire(*session.table.arrival(M.VMSTATE_LOADED))  # absorbed: nothing moved
    session.fire(lost)
    assert [(t.side, t.source, t.trigger, t.dest) for t in seen] == [
        (Side.PRIMARY, S.INIT, "recv_checkpoint_ready", S.READY),
        (Side.PRIMARY, S.READY, "recv_vmstate_loaded", S.FAILOVER),
        (Side.PRIMARY, S.FAILOVER, "lost", S.STOPPED),
    ]
    assert [t.error for t in seen] == [None, session.error, None]


def test_an_observer_may_ask_for_one_state() -> None:
    seen: list[Transition] = []
    session = PrimarySession(PATCH)
    session.on_transition(seen.append, S.FAILOVER)
    session.receive_data(wire(0))
    session.fire(fault(F.TIMEOUT))
    assert [t.dest for t in seen] == [S.FAILOVER]


def test_an_observer_cannot_veto() -> None:
    session = PrimarySession(PATCH)
    session.on_transition(lambda _: False)
    assert session.receive_data(wire(0)) == (Do.resume,)
    assert session.state is S.READY


def boom(_: Transition) -> None:
    raise CAUSE


def test_an_observer_that_raises_is_a_failed_guest() -> None:
    session = PrimarySession(PATCH)
    session.on_transition(boom, S.READY)
    assert session.receive_data(wire(0)) == (Do.disconnect, Do.suspend, Do.claim), "not of its own row"
    assert session.state is S.FAILOVER
    assert verdict(session) == (GuestFailed, "observer failed: ValueError: no footer")
    assert isinstance(session.error, GuestFailed)
    assert session.error.cause is CAUSE


def test_an_observer_that_raises_hides_nothing_from_the_others() -> None:
    seen: list[StrEnum] = []
    session = PrimarySession(PATCH)
    session.on_transition(boom, S.READY)
    session.on_transition(lambda t: seen.append(t.dest))
    session.receive_data(wire(0))
    assert seen == [S.READY, S.FAILOVER]


def test_an_observer_that_always_raises_comes_to_an_end(caplog: pytest.LogCaptureFixture) -> None:
    session = PrimarySession(PATCH)
    session.on_transition(boom)
    effects = [session.receive_data(wire(0)), session.fire(lost)]
    assert effects == [(Do.disconnect, Do.suspend, Do.claim), (Do.discard,)]
    assert session.state is S.STOPPED
    failed = [r for r in caplog.records if "observer failed" in r.getMessage()]
    assert len(failed) == 3, "each time it raised is said, also where it changes nothing any more"


# -- what is logged -----------------------------------------------------------------------------------


def test_the_steps_are_logged_as_qemu_traces_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="colo_fsm")
    driver = Driver(PrimarySession(PATCH), eager=True)
    driver.read(wire(0, 2))
    assert {r.levelname for r in caplog.records} == {"DEBUG"}
    assert [r.getMessage() for r in caplog.records] == [
        "Receive 'checkpoint-ready' message",
        "Change 'init' => 'ready'",
        "Change 'ready' => 'requested'",
        "Send 'checkpoint-request' message",
        "Receive 'checkpoint-reply' message",
        "Change 'requested' => 'replied'",
        "Change 'replied' => 'sending'",
        "Send 'vmstate-send' message",
    ]


@each_side
@pytest.mark.parametrize("values", [(3,), (7,), (0, 5)])
def test_each_error_is_logged_once(
    side: Side, values: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    driver = Driver(SESSIONS[side](PATCH), eager=True)
    driver.start()
    driver.read(wire(*values))
    for again in (wire(1, 2, 3), b""):
        driver.session.receive_data(again)
    errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert errors == [str(driver.session.error)]


@pytest.mark.parametrize(
    ("side", "values", "cause"),
    [
        (Side.SECONDARY, (), None),
        (Side.PRIMARY, (0,), None),
        (Side.PRIMARY, (0,), ConnectionResetError(errno.ECONNRESET, "")),
    ],
    ids=["secondary-waits", "primary-has-asked", "primary-has-asked-and-is-reset"],
)
def test_a_pair_that_ends_as_pairs_end_is_no_error_in_the_log(
    side: Side, values: tuple[int, ...], cause: OSError | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="colo_fsm")
    session = SESSIONS[side](PATCH)
    driver = Driver(session, eager=True)
    driver.start()
    if values:
        driver.read(wire(*values))
    if cause is None:
        session.receive_data(b"")
    else:
        session.fire(fault(Fault.EOF), cause)
    assert session.state is State.FAILOVER
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("INFO", "The link ended")]


@pytest.mark.parametrize(
    ("side", "values"), [(Side.PRIMARY, ()), (Side.PRIMARY, (0, 1)), (Side.SECONDARY, (1,))]
)
def test_an_end_before_the_pair_is_ready_or_inside_a_checkpoint_is_one(
    side: Side, values: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    driver = Driver(SESSIONS[side](PATCH), eager=True)
    driver.start()
    for data in (*([wire(*values)] if values else []), b""):
        driver.read(data)
    assert [r.levelname for r in caplog.records] == ["ERROR"]


# -- size ---------------------------------------------------------------------------------------------


@each_side
def test_a_session_is_small(side: Side) -> None:
    count = 10_000
    first = wire(0) if side is Side.PRIMARY else wire(1)
    SESSIONS[side](PATCH).receive_data(first)  # the shared machine, and whatever is made once
    for used in (False, True):
        sessions: list[Session | None] = [None] * count
        gc.collect()
        tracemalloc.start()
        try:
            for i in range(count):
                sessions[i] = session = SESSIONS[side](PATCH)
                if used:
                    session.receive_data(first)
                    session.unread()
            size = tracemalloc.get_traced_memory()[0] / count
        finally:
            tracemalloc.stop()
        assert 40 < size <= 300, f"{size:.0f} bytes a session"
