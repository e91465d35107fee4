"""What the explorer takes from a session is what the session does."""

from __future__ import annotations

import logging
from enum import StrEnum

import pytest
from pair import SESSIONS, wire

from colo_fsm.check.model.control import Control
from colo_fsm.colo import TABLES, State, Variant
from colo_fsm.colo import COLOMessage as M
from colo_fsm.fsm import Do, Fault, Session, Side, complete, fault

BOTH = [(side, variant) for side in Side for variant in Variant.all()]


def at(state: StrEnum, side: Side, variant: Variant) -> Session:
    session = SESSIONS[side](variant)
    session.state = state
    return session


def control(side: Side, variant: Variant) -> Control:
    return Control(side, complete(TABLES[side], variant))


@pytest.mark.parametrize(("side", "variant"), BOTH, ids=str)
def test_a_message_is_read_as_the_session_reads_it(side: Side, variant: Variant) -> None:
    asked = control(side, variant)
    for state in asked.table.states:
        for value in range(len(M) + 1):
            session = at(state, side, variant)
            before = session.wants_data
            effects = session.receive_data(wire(value)) if before else ()
            waits = not before or session.unread() != b""
            reaction = asked.read(state, value)
            assert (reaction is None) is waits
            if reaction is not None:
                assert (reaction.dest, reaction.effects) == (session.state, effects)


@pytest.mark.parametrize(("side", "variant"), BOTH, ids=str)
def test_a_fault_is_what_the_session_makes_of_it(side: Side, variant: Variant) -> None:
    asked = control(side, variant)
    for state in asked.table.states:
        for kind in Fault:
            session = at(state, side, variant)
            effects = session.fire(fault(kind))
            reaction = asked.fault(state, kind)
            assert (reaction.dest, reaction.effects) == (session.state, effects)


def test_a_message_that_came_early_waits() -> None:
    assert control(Side.PRIMARY, Variant()).read(State.LOADED, M.CHECKPOINT_REPLY) is None
    assert control(Side.PRIMARY, Variant()).read(State.LOADED, M.VMSTATE_LOADED) is not None


def test_the_end_of_the_link_is_seen_where_the_session_reads() -> None:
    asked = control(Side.PRIMARY, Variant())
    seen = {state for state in asked.table.states if asked.end_of_link(state) is not None}
    assert seen == {State.INIT, State.READY, State.REQUESTED, State.SIZED, State.RECEIVED, State.LOADED}


def test_what_is_not_in_order_is_not_done() -> None:
    asked = control(Side.SECONDARY, Variant())
    assert asked.begin_checkpoint(State.READY) is None
    assert asked.leave(State.RECEIVED) is None
    leaving = asked.leave(State.READY)
    assert leaving is not None
    assert leaving.effects == (Do.disconnect, Do.suspend, Do.discard)


def test_a_question_is_no_event(caplog: pytest.LogCaptureFixture) -> None:
    """The sessions that are asked log nothing; those that run still do."""
    with caplog.at_level(logging.DEBUG):
        control(Side.PRIMARY, Variant()).fault(State.READY, Fault.EOF)
        assert caplog.records == []
        at(State.READY, Side.PRIMARY, Variant()).fire(fault(Fault.EOF))
        assert len(caplog.records) == 2
