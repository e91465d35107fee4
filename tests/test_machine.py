"""The machine of a side is a real `transitions` machine, and does what stock does with the same table."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from transitions import Machine

from colo_fsm.protocol import (
    PRIMARY,
    SECONDARY,
    ColoMachine,
    Mode,
    PrimarySession,
    Side,
    State,
    Variant,
    complete,
    definition,
    machine_for,
)

BOTH = [(side, variant) for side in Side for variant in Variant.all()]
both = pytest.mark.parametrize(("side", "variant"), BOTH, ids=lambda value: str(value))


@attrs.define(slots=True, eq=False)
class Model:
    """All that a model of ours needs."""

    state: State


class StockModel:
    """What stock registers, and adds a method for each trigger to."""

    state: State


@both
def test_every_state_and_trigger_leads_where_stock_leads(side: Side, variant: Variant) -> None:
    ours = machine_for(side, variant)
    stock = StockModel()
    machine = Machine(**definition(ours.table), model=stock)
    assert stock.state is State.INIT
    compared = 0
    for row in ours.table.rows:
        model = Model(row.source)
        machine.set_state(row.source)
        assert ours.events[row.trigger.name].trigger(model) is True
        assert getattr(stock, row.trigger.name)() is True
        assert model.state is stock.state is (row.dest or row.source), str(row)
        compared += 1
    assert compared == len(ours.states) * len(ours.events)


@both
def test_it_has_the_states_and_triggers_of_its_table(side: Side, variant: Variant) -> None:
    machine = machine_for(side, variant)
    table = machine.table
    assert (table.side, table.variant) == (side, variant)
    assert table.rows == complete({Side.PRIMARY: PRIMARY, Side.SECONDARY: SECONDARY}[side], variant).rows
    assert [state.value for state in machine.states.values()] == list(table.states)
    assert machine.initial == State.INIT.name
    for state in table.states:
        assert machine.get_triggers(state.name) == [t.name for t in table.triggers]
    into_init = {t.source for t in machine.get_transitions(dest=State.INIT)}
    assert into_init == set(), "nothing starts over"


def test_it_can_be_asked_like_any_machine_of_the_library() -> None:
    machine = machine_for(Side.PRIMARY)
    assert isinstance(machine, Machine)
    (found,) = machine.get_transitions("recv_vmstate_loaded", State.RECEIVED)
    assert (found.source, found.dest) == ("RECEIVED", "LOADED")
    assert machine.get_state(State.SIZED).value is State.SIZED


def test_it_moves_a_session() -> None:
    session = PrimarySession()
    assert session.machine.events["recv_checkpoint_ready"].trigger(session) is True
    assert session.state is State.READY


@both
def test_there_is_one_for_all_sessions(side: Side, variant: Variant) -> None:
    twin = Variant(variant.profile, variant.mode, variant.release_on)
    assert machine_for(side, variant) is machine_for(side, twin)


def test_each_side_and_variant_has_its_own() -> None:
    assert len({id(machine_for(side, variant)) for side, variant in BOTH}) == 16
    assert machine_for(Side.PRIMARY) is machine_for(Side.PRIMARY, Variant())
    assert machine_for(Side.PRIMARY) is not machine_for(Side.PRIMARY, Variant(mode=Mode.HYBRID))


def test_it_keeps_no_session_and_takes_no_new_row() -> None:
    machine = machine_for(Side.SECONDARY)
    assert machine.models == []
    with pytest.raises(RuntimeError, match="frozen"):
        machine.add_transition("won", State.INIT, State.ALONE)


def test_any_complete_table_makes_one() -> None:
    table = complete(SECONDARY, Variant())
    machine: Any = ColoMachine(table)
    assert machine is not machine_for(Side.SECONDARY)
    assert machine.table is table
