"""A complete table: a row for every state and every trigger, and what is read off it."""

from __future__ import annotations

from itertools import product

import pytest

from colo_fsm.colo import COLO, PRIMARY, SECONDARY, COLOMessage, Mode, State, Variant
from colo_fsm.fsm import (
    Do,
    Fault,
    Row,
    Side,
    Table,
    TableError,
    always,
    begin,
    complete,
    done,
    fault,
    lost,
    otherwise,
    recv,
    row,
    send,
    validate,
    won,
)

M, S, do = COLOMessage, State, Do
HYBRID = Variant(mode=Mode.HYBRID)

SMALL = Table(
    Side.PRIMARY,
    COLO,
    start=(do.send_initial,),
    error=(do.disconnect, do.stop_comparing(Mode.HYBRID), do.claim),
    lines=(
        row(S.INIT, begin.checkpoint, S.REQUESTED, do.save),
        row(S.REQUESTED, done(do.save), S.REPLIED),
        row(S.REPLIED, recv(M.VMSTATE_RECEIVED), S.REQUESTED, do.save),
        row(S.REQUESTED, fault(Fault.GUEST_FAILED), S.STOPPED, do.discard),
        row(S.REQUESTED, otherwise, S.ENDED, do.suspend),
        row(S.FAILOVER, won, None, do.resume),
        row((S.STOPPED, S.ENDED), otherwise, None),
    ),
)


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
@pytest.mark.parametrize("written", [PRIMARY, SECONDARY], ids=lambda t: str(t.side))
def test_it_is_total(written: Table, variant: Variant) -> None:
    table = complete(written, variant)
    assert [(r.source, r.trigger) for r in table.rows] == list(product(table.states, table.triggers))
    assert set(always(COLO)) < set(table.triggers)
    assert dict(table.by_input) == {(r.source, r.trigger): r for r in table.rows}
    assert {r.dest for r in table.rows} - {None} <= set(table.states)
    assert (table.side, table.variant) == (written.side, variant)


def test_what_is_not_written_goes_to_failover_or_where_the_state_says() -> None:
    table = complete(SMALL, Variant())
    error = (do.disconnect, do.claim)
    assert table.by_input[S.INIT, won] == Row(S.INIT, won, S.FAILOVER, error, implied=True)
    assert table.by_input[S.REPLIED, won] == Row(S.REPLIED, won, S.FAILOVER, error, implied=True)
    assert table.by_input[S.REQUESTED, won] == Row(S.REQUESTED, won, S.ENDED, (do.suspend,), implied=True)
    assert table.by_input[S.ENDED, won] == Row(S.ENDED, won, None, implied=True)


def test_what_is_written_stays_as_it_is() -> None:
    table = complete(SMALL, Variant())
    assert set(table.written) == {r for r in SMALL.rows(Variant()) if r.trigger is not otherwise}
    assert all(not r.implied for r in table.written)


def test_what_an_error_asks_for_depends_on_the_variant() -> None:
    row = complete(SMALL, HYBRID).by_input[S.INIT, lost]
    assert row.effects == (do.disconnect, do.stop_comparing, do.claim)


def test_what_is_read_off_it() -> None:
    table = complete(SMALL, Variant())
    assert table.states == (S.INIT, S.REQUESTED, S.REPLIED, S.FAILOVER, S.STOPPED, S.ENDED)
    assert table.start == (do.send_initial,)
    assert table.awaited == {"save"}
    assert table.triggers == (*always(COLO), done(do.save))
    assert table.final == {S.FAILOVER, S.STOPPED, S.ENDED}
    assert {s: set(m) for s, m in table.accepts.items() if m} == {S.REPLIED: {M.VMSTATE_RECEIVED}}
    ahead = dict.fromkeys((S.INIT, S.REQUESTED, S.REPLIED), M.VMSTATE_RECEIVED)
    assert table.expects == dict.fromkeys(table.states, None) | ahead


@pytest.mark.parametrize("variant", Variant.all(), ids=str)
@pytest.mark.parametrize("written", [PRIMARY, SECONDARY], ids=lambda t: str(t.side))
def test_nothing_leaves_the_final_states(written: Table, variant: Variant) -> None:
    assert complete(written, variant).final == {S.STOPPED, S.ENDED}


@pytest.mark.parametrize(
    ("written", "awaited"),
    [(PRIMARY, {"save", "send_live"}), (SECONDARY, {"receive_initial", "suspend", "store", "load"})],
    ids=["primary", "secondary"],
)
def test_which_effects_are_to_be_reported(written: Table, awaited: set[str]) -> None:
    assert complete(written, Variant()).awaited == awaited


def test_a_table_with_problems_is_refused_with_all_of_them() -> None:
    broken = Table(
        Side.PRIMARY,
        COLO,
        (
            row(S.INIT, won, S.READY, send(M.CHECKPOINT_READY)),
            row(S.INIT, won, S.READY),
            row(S.SIZED, done(do.save), S.FAILOVER),
        ),
    )
    problems = validate(broken, HYBRID)
    assert len(problems) == 6
    with pytest.raises(TableError) as caught:
        complete(broken, HYBRID)
    assert caught.value.problems == problems
    title, *listed = str(caught.value).splitlines()
    assert title == "the primary's table in qemu/hybrid/loaded is no machine:"
    assert listed == [f"  - {p}" for p in problems]
