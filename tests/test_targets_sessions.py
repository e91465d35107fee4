"""The target `self`: sessions with the least driver that they need."""

from __future__ import annotations

import pytest
from protocols import goodbye, remus

from colo_fsm.colo import COLO, TABLES, Profile, Variant
from colo_fsm.colo import COLOMessage as M
from colo_fsm.conform.case import Verdict
from colo_fsm.conform.generated import generated
from colo_fsm.conform.play import play_all
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.targets.sessions import SessionLink, Sessions
from colo_fsm.conform.voice import OwnState
from colo_fsm.fsm import CompleteTable, Session, Side, TableMachine, complete, encode_size
from colo_fsm.stream import DEVICE_LIMIT

STATE = OwnState()
INITIAL, LIVE, DEVICE = (
    b"".join(map(bytes, STATE.initial())),
    b"".join(map(bytes, STATE.live(1))),
    STATE.vmstate(1),
)
ROUND = (
    COLO.encode(M.CHECKPOINT_REQUEST)
    + COLO.encode(M.VMSTATE_SEND)
    + LIVE
    + COLO.encode(M.VMSTATE_SIZE)
    + encode_size(len(DEVICE))
    + DEVICE
)
READY, REPLY, STORED = (
    b"".join(map(COLO.encode, messages))
    for messages in (
        (M.CHECKPOINT_READY,),
        (M.CHECKPOINT_REPLY,),
        (M.VMSTATE_RECEIVED, M.VMSTATE_LOADED),
    )
)


def link(side: Side) -> SessionLink:
    return SessionLink(Session(TableMachine(complete(TABLES[side], Variant()))), STATE)


def said(link: SessionLink) -> bytes:
    """All that it has said since it was asked last."""
    found = b""
    while data := link.receive(0.0):
        found += data
    return found


@pytest.mark.parametrize("size", [1, 5, 4096, 1 << 20])
def test_a_secondary_answers_however_its_bytes_come(size: int) -> None:
    here = link(Side.SECONDARY)
    whole = INITIAL + ROUND * 2
    for at in range(0, len(whole), size):
        here.send([whole[at : at + size]])
    assert said(here) == READY + (REPLY + STORED) * 2
    assert here.receive(0.0) is None
    assert here.evidence() == ""


def test_a_primary_begins_with_its_state_and_asks_behind_ready() -> None:
    here = link(Side.PRIMARY)
    assert said(here) == INITIAL
    here.send([READY])
    assert said(here) == COLO.encode(M.CHECKPOINT_REQUEST)
    here.send([REPLY + STORED])
    assert said(here) == ROUND[4:] + COLO.encode(M.CHECKPOINT_REQUEST)


def test_it_says_nothing_later() -> None:
    """So a tester need not wait for it: time is nothing here."""
    here = link(Side.SECONDARY)
    here.send([INITIAL])
    assert said(here) == READY
    assert here.receive(1e9) is None


def test_a_side_that_has_given_up_has_ended_its_link_and_says_why() -> None:
    here = link(Side.SECONDARY)
    here.send([INITIAL, COLO.encode(M.VMSTATE_SEND)])
    assert here.receive(0.0) == READY
    assert here.receive(0.0) == b""
    assert here.evidence() == "Got unknown COLO message: 3"
    here.send([COLO.encode(M.CHECKPOINT_REQUEST)])
    here.end()
    assert here.receive(0.0) == b""


@pytest.mark.parametrize("came", [b"", INITIAL[:100], INITIAL, INITIAL + b"\0\0", INITIAL + ROUND[:-1]])
def test_the_end_of_its_link_is_noticed_wherever_it_is(came: bytes) -> None:
    here = link(Side.SECONDARY)
    here.send([came])
    here.end()
    assert said(here) in (b"", READY, READY + REPLY)
    assert here.receive(0.0) == b""
    assert "Can't receive COLO message" in here.evidence()


@pytest.mark.parametrize("size", [DEVICE_LIMIT + 1, 1 << 62])
def test_a_state_that_is_too_large_is_refused_before_it_comes(size: int) -> None:
    here = link(Side.SECONDARY)
    here.send([INITIAL + COLO.encode(M.CHECKPOINT_REQUEST) + COLO.encode(M.VMSTATE_SEND) + LIVE])
    assert said(here) == READY + REPLY
    here.send([COLO.encode(M.VMSTATE_SIZE) + encode_size(size)])
    assert here.receive(0.0) == b""
    assert here.evidence() == f"Invalid VM state: a device state of {size} bytes"


FOREIGN = [
    complete(getattr(protocol, side.name), Variant()) for protocol in (remus, goodbye) for side in Side
]
OWN = [complete(TABLES[side], variant) for side in Side for variant in Variant.all()]


@pytest.mark.parametrize("table", [*OWN, *FOREIGN], ids=lambda t: f"{t.words.name}-{t.side}-{t.variant}")
def test_sessions_of_any_table_pass_its_suites(table: CompleteTable) -> None:
    for suite in ("tour", "wp1"):
        for result in play_all(generated(table, suite), Sessions(TableMachine(table)), Pace(20)):
            assert result.verdict is Verdict.PASS, (result.case.id, result.deviation)


def test_sessions_of_one_table_can_be_held_against_another() -> None:
    """Here those of the profile `patch`, which know of no state, against the one that QEMU speaks."""
    qemu, patch = (complete(TABLES[Side.SECONDARY], Variant(profile)) for profile in reversed(Profile))
    target = Sessions(TableMachine(patch), qemu)
    assert target.table is qemu
    results = play_all(generated(qemu, "tour"), target, Pace(20))
    failed = {str(result.deviation) for result in results if result.verdict is Verdict.FAIL}
    assert failed == {"expected checkpoint-reply, got gives up"}
