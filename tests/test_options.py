"""The choices of a pair, and the events that it tells."""

from __future__ import annotations

import math
from typing import get_args

import attrs
import pytest

from colo_fsm.colo import ReleaseOn
from colo_fsm.fsm import Transition
from colo_fsm.replica import (
    CheckpointTaken,
    ClaimAnswered,
    ClaimUnanswered,
    Dropped,
    Event,
    MemberMoved,
    NotServing,
    Options,
    Refused,
    Serving,
)

TIMES = ("interval", "min_interval", "deadline", "hook_deadline", "claim_retry", "connect_timeout")


def test_the_safe_choice_unless_asked_otherwise() -> None:
    assert Options().release_on is ReleaseOn.LOADED


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": -0.1},
        {"claim_retry": 0},
        {"connect_timeout": -1},
        {"state_limit": 0},
        {"deadline": -1.0},
        {"deadline": 0.0},
        {"hook_deadline": 0.0},
        *({name: value} for name in TIMES for value in (math.nan, math.inf, -math.inf, 1e5)),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Options(**wrong)  # type: ignore[arg-type]


def test_the_shorter_interval_is_the_least() -> None:
    with pytest.raises(ValueError, match="min_interval must be at most interval, 1 s, not 2 s"):
        Options(interval=1.0, min_interval=2.0)


def test_they_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Options().interval = 1  # type: ignore[misc]


def test_the_union_has_every_event() -> None:
    """A `match` over these with `assert_never` is complete for mypy."""
    assert set(get_args(Event)) == {
        Serving, Transition, CheckpointTaken, ClaimAnswered, ClaimUnanswered, Dropped, NotServing, Refused,
        MemberMoved,
    }  # fmt: skip


def test_a_gate_is_a_standbys() -> None:
    with pytest.raises(ValueError, match="release_on gate is for a standby's gate"):
        Options(release_on=ReleaseOn.GATE)
