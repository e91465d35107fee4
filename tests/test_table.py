"""How a table is written: lines, sources, and what stands in it for some variants only."""

from __future__ import annotations

import pytest

from colo_fsm.colo import COLO, COLOMessage, Mode, Profile, ReleaseOn, State, Variant
from colo_fsm.fsm import (
    Do,
    Fault,
    Kind,
    Row,
    Send,
    Side,
    Table,
    always,
    begin,
    done,
    fault,
    lost,
    recv,
    row,
    send,
    won,
)

M, S = COLOMessage, State
HYBRID = Variant(mode=Mode.HYBRID)


def test_a_line_is_a_row_for_each_of_its_sources() -> None:
    line = row((S.READY, S.LOADED), begin.checkpoint, S.REQUESTED, send(M.CHECKPOINT_REQUEST), Do.save)
    effects = (Send(M.CHECKPOINT_REQUEST), Do.save)
    assert list(line.rows(Variant())) == [
        Row(S.READY, begin.checkpoint, S.REQUESTED, effects),
        Row(S.LOADED, begin.checkpoint, S.REQUESTED, effects),
    ]


@pytest.mark.parametrize("condition", [Profile.PATCH, Mode.HYBRID, ReleaseOn.LOADED])
def test_a_line_with_a_condition_stands_in_those_variants_only(
    condition: Profile | Mode | ReleaseOn,
) -> None:
    table = Table(Side.PRIMARY, COLO, (row(S.INIT, won, S.READY, when=condition),))
    assert {v for v in Variant.all() if table.rows(v)} == {v for v in Variant.all() if condition in v}


def test_an_effect_with_a_condition_keeps_its_place() -> None:
    line = row(S.INIT, won, S.READY, Do.release, Do.compare(Mode.HYBRID), Do.resume)
    assert [r.effects for r in line.rows(Variant())] == [(Do.release, Do.resume)]
    assert [r.effects for r in line.rows(HYBRID)] == [(Do.release, Do.compare, Do.resume)]


def test_what_begins_a_table_and_what_an_error_asks_for_may_have_conditions() -> None:
    only = Do.compare(Mode.HYBRID)
    table = Table(Side.PRIMARY, COLO, (), start=(only, Do.save), error=(Do.claim, only))
    assert table.begins_with(Variant()) == (Do.save,)
    assert table.begins_with(HYBRID) == (Do.compare, Do.save)
    assert table.on_error(Variant()) == (Do.claim,)
    assert table.on_error(HYBRID) == (Do.claim, Do.compare)


def test_rows_stay_in_the_order_they_were_written_in() -> None:
    table = Table(Side.PRIMARY, COLO, (row((S.LOADED, S.INIT), won, None), row(S.READY, lost, None)))
    assert [r.source for r in table.rows(Variant())] == [S.LOADED, S.INIT, S.READY]


def test_a_trigger_is_the_same_whenever_it_is_asked_for() -> None:
    assert recv(M.VMSTATE_SEND) == recv(M.VMSTATE_SEND)
    assert done(Do.load) is done(Do.load)
    assert fault(Fault.EOF) is fault(Fault.EOF)


def test_each_kind_of_trigger_has_its_name_and_its_message() -> None:
    assert [(t.kind, str(t), t.message) for t in (recv(M.VMSTATE_SEND), done(Do.load), fault(Fault.EOF))] == [
        (Kind.RECV, "recv_vmstate_send", M.VMSTATE_SEND),
        (Kind.DONE, "done_load", None),
        (Kind.FAULT, "fault_eof", None),
    ]


def test_every_machine_knows_all_that_can_come_from_outside() -> None:
    assert [str(t) for t in always(COLO)] == [
        *(f"recv_{m.name.lower()}" for m in M),
        "begin_checkpoint",
        "begin_leave",
        *(f"fault_{f}" for f in Fault),
        "won",
        "lost",
    ]


def test_who_sends_what_is_the_patchs_picture() -> None:
    assert {m.text for m, side in COLO.sender.items() if side is Side.SECONDARY} == {
        "checkpoint-ready",
        "checkpoint-reply",
        "vmstate-received",
        "vmstate-loaded",
    }
    assert set(COLO.sender) == set(M)


def test_a_row_reads_as_an_arrow() -> None:
    assert str(Row(S.INIT, won, S.READY)) == "init --won--> ready"
    assert str(Row(S.INIT, lost, None)) == "init --lost--> stays"
