"""The choices of a pair, and the events that it tells."""

from __future__ import annotations

from typing import get_args

import attrs
import pytest

from colo_fsm.colo import PRIMARY, SECONDARY, ReleaseOn, State, Variant
from colo_fsm.fsm import Transition, complete
from colo_fsm.replica import (
    CheckpointTaken,
    ClaimAnswered,
    ClaimUnanswered,
    Event,
    Options,
    Serving,
    deadlines,
)

IDLE = {State.INIT, State.READY, State.LOADED}


def test_every_state_that_awaits_a_message_inside_a_round_has_a_deadline() -> None:
    for table in (PRIMARY, SECONDARY):
        awaiting = {state for state, messages in complete(table, Variant()).accepts.items() if messages}
        assert awaiting - IDLE <= set(Options().deadlines)
    assert not IDLE & set(Options().deadlines)


def test_deadlines_are_all_the_same() -> None:
    assert set(deadlines(0.5).values()) == {0.5}


def test_the_safe_choice_unless_asked_otherwise() -> None:
    assert Options().release_on is ReleaseOn.LOADED


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": -0.1},
        {"claim_retry": 0},
        {"connect_timeout": -1},
        {"state_limit": 0},
        {"deadlines": {State.SIZED: -1.0}},
        {"deadlines": {State.SIZED: 0.0}},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Options(**wrong)  # type: ignore[arg-type]


def test_they_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Options().interval = 1  # type: ignore[misc]


def test_the_union_has_every_event() -> None:
    """A `match` over these with `assert_never` is complete for mypy."""
    assert set(get_args(Event)) == {Serving, Transition, CheckpointTaken, ClaimAnswered, ClaimUnanswered}
