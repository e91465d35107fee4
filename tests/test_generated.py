"""Suites made of a table, as cases: their names, and the words of inputs with the declared answers."""

from __future__ import annotations

import pytest
from protocols import goodbye, remus

from colo_fsm.colo import TABLES, Variant
from colo_fsm.colo import COLOMessage as M
from colo_fsm.conform.blackbox import END, INVALID, Input, Output
from colo_fsm.conform.case import Given
from colo_fsm.conform.generated import MUST, SUITES, generated, script
from colo_fsm.fsm import CompleteTable, Side, complete

SECONDARY = complete(TABLES[Side.SECONDARY], Variant())
REQUEST, SEND = Input(M.CHECKPOINT_REQUEST), Input(M.VMSTATE_SEND)
GIVES_UP = Output((), ended=True)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize(
    ("table", "name"),
    [
        (SECONDARY, "colo/secondary"),
        (complete(remus.PRIMARY, Variant()), "remus/primary"),
        (complete(goodbye.SECONDARY, Variant()), "colo-with-a-goodbye/secondary"),
    ],
    ids=["colo", "remus", "goodbye"],
)
def test_ids_are_numbers_that_sort(suite: str, table: CompleteTable, name: str) -> None:
    cases = list(generated(table, suite))
    ids = [case.id for case in cases]
    assert ids == sorted(set(ids))
    digits = len(str(len(cases)))
    assert [ids[0], ids[-1]] == [f"{name}/{suite}/{n:0{digits}}" for n in (1, len(cases))]
    assert {case.must for case in cases} == {MUST[suite]}
    assert {case.source for case in cases} == {f"the {table.side}'s table"}
    assert all(case.strict and case.opening is None for case in cases)


def test_a_word_as_steps() -> None:
    first, second, third, last = script(SECONDARY, (REQUEST, SEND, END))
    assert first.act is None
    assert first.row == "init --done_receive_initial--> ready"
    assert second.act == Given(REQUEST)
    assert second.accepted[0].output == Output((M.CHECKPOINT_REPLY,), ended=False)
    assert second.row == "ready --recv_checkpoint_request--> requested"
    assert third.act == Given(SEND)
    assert last.act == Given(END)
    assert last.accepted[0].output == GIVES_UP
    assert last.row == "sending --fault_eof--> failover"


def test_a_message_out_of_turn_has_no_state_behind_it() -> None:
    """Whoever gives up there reads no more; and one that takes it is not helped on."""
    *_, wrong = script(SECONDARY, (SEND,))
    assert wrong.act == Given(SEND, out_of_turn=True)
    assert wrong.accepted[0].output == GIVES_UP
    *_, invalid = script(SECONDARY, (INVALID,))
    assert invalid.act == Given(INVALID)


def test_a_side_that_does_nothing_at_first_has_a_row_for_that() -> None:
    (first,) = script(complete(TABLES[Side.PRIMARY], Variant()), ())
    assert first.row == "init, where the side begins"
    assert first.accepted[0].output == Output((), ended=False)
