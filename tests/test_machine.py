"""The machine of a side is a real `transitions` machine, and does what stock does with the same table."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import Any

import attrs
import pytest
from transitions import Machine
from transitions.extensions import GraphMachine

from colo_fsm.colo import PRIMARY, SECONDARY, Mode, PrimarySession, State, Variant, colo_machine
from colo_fsm.fsm import (
    CompleteTable,
    Fault,
    Message,
    SealedError,
    Side,
    SyncPoint,
    Table,
    TableError,
    TableMachine,
    Words,
    begin,
    complete,
    definition,
    fault,
    lost,
    otherwise,
    recv,
    row,
    won,
)


def fire(machine: TableMachine, name: str, model: Model) -> Any:
    """What an event of ours answers: the row, where stock has a bool."""
    return machine.events[name].trigger(model)


BOTH = [(side, variant) for side in Side for variant in Variant.all()]
both = pytest.mark.parametrize(("side", "variant"), BOTH, ids=lambda value: str(value))


@attrs.define(slots=True, eq=False)
class Model:
    """All that a model of ours needs."""

    state: StrEnum


class StockModel:
    """What stock registers, and adds a method for each trigger to."""

    state: StrEnum


@both
def test_every_state_and_trigger_leads_where_stock_leads(side: Side, variant: Variant) -> None:
    ours = colo_machine(side, variant)
    stock = StockModel()
    machine = Machine(**definition(ours.table), model=stock)
    assert stock.state is State.INIT
    compared = 0
    for line in ours.table.rows:
        model = Model(line.source)
        machine.set_state(line.source)
        assert fire(ours, line.trigger.name, model) is line
        assert getattr(stock, line.trigger.name)() is True
        assert model.state is stock.state is (line.dest or line.source), str(line)
        compared += 1
    assert compared == len(ours.states) * len(ours.events)


@both
def test_it_has_the_states_and_triggers_of_its_table(side: Side, variant: Variant) -> None:
    machine = colo_machine(side, variant)
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
    machine = colo_machine(Side.PRIMARY)
    assert isinstance(machine, Machine)
    (found,) = machine.get_transitions("recv_vmstate_loaded", State.RECEIVED)
    assert (found.source, found.dest) == ("RECEIVED", "LOADED")
    assert machine.get_state(State.SIZED).value is State.SIZED


def test_it_moves_a_session() -> None:
    session = PrimarySession()
    assert session.machine.events["recv_checkpoint_ready"].trigger(session)
    assert session.state is State.READY


@both
def test_there_is_one_for_all_sessions(side: Side, variant: Variant) -> None:
    twin = Variant(variant.profile, variant.mode, variant.release_on, variant.resume_on)
    assert colo_machine(side, variant) is colo_machine(side, twin)


def test_each_side_and_variant_has_its_own() -> None:
    assert len({id(colo_machine(side, variant)) for side, variant in BOTH}) == 2 * len(Variant.all())
    assert colo_machine(Side.PRIMARY) is colo_machine(Side.PRIMARY, Variant())
    assert colo_machine(Side.PRIMARY) is not colo_machine(Side.PRIMARY, Variant(mode=Mode.HYBRID))


def changes(machine: TableMachine) -> dict[str, Callable[[], object]]:
    """All that stock lets one do to a machine later, and that a look-up of a row would ignore."""
    state, event = machine.states["INIT"], machine.events["won"]
    return {
        "a transition": lambda: machine.add_transition("won", State.INIT, State.ALONE),
        "transitions": lambda: machine.add_transitions([["won", State.INIT, State.ALONE]]),
        "a transition of an event": lambda: event.add_transition(event.transitions["INIT"][0]),
        "a removed transition": lambda: machine.remove_transition("won", State.FAILOVER),
        "a state": lambda: machine.add_states("more"),
        "a model": lambda: machine.add_model(StockModel()),
        "a callback of an event": lambda: event.add_callback("before", print),
        "a callback of a state": lambda: state.add_callback("enter", print),
        "a callback by name": lambda: machine.on_enter_INIT(print),
        "a callback in the list": lambda: state.on_enter.append(print),
        "a callback of the machine": lambda: setattr(machine, "after_state_change", print),
        "a setting": lambda: setattr(machine, "send_event", True),
    }


@pytest.mark.parametrize("change", list(changes(colo_machine(Side.PRIMARY))))
def test_what_it_would_ignore_is_refused(change: str) -> None:
    table = complete(SECONDARY, Variant())
    machine = TableMachine(table)
    with pytest.raises((SealedError, AttributeError)):
        changes(machine)[change]()
    assert machine.models == []
    assert fire(machine, "won", Model(State.FAILOVER)) is table.by_input[State.FAILOVER, won]


@pytest.mark.parametrize("setting", ["queued", "send_event", "after_state_change", "conditions", "model"])
def test_what_stock_can_do_and_it_cannot_is_refused_when_it_is_built(setting: str) -> None:
    with pytest.raises(TypeError, match=setting):
        TableMachine(complete(SECONDARY, Variant()), **{setting: True})


def test_a_state_of_another_protocol_is_refused_when_it_is_fired() -> None:
    with pytest.raises(KeyError):
        colo_machine(Side.PRIMARY).events["won"].trigger(Model(Letters.B))


def test_it_can_be_drawn_by_the_library_itself() -> None:
    table = complete(PRIMARY, Variant())
    model = StockModel()
    machine = GraphMachine(model, graph_engine="mermaid", **definition(table))
    text = machine.get_graph().draw(None)
    assert "recv_checkpoint_ready" in text
    assert all(f'state "{state.name}"' in text for state in table.states)
    model.trigger("recv_checkpoint_ready")  # type: ignore[attr-defined]
    assert model.state is State.READY


# -- the same as stock, on tables that nobody wrote --------------------------------------------------


class Letters(StrEnum):
    A = "a"
    B = "b"
    C = "c"
    D = "d"
    E = "e"


class Word(Message):
    ZERO = 0
    ONE = 1
    TWO = 2


LETTERS = Words(
    "letters",
    (
        SyncPoint(Word.ZERO, Side.SECONDARY, Letters.B),
        SyncPoint(Word.ONE, Side.PRIMARY, Letters.C),
        SyncPoint(Word.TWO, Side.SECONDARY, Letters.D),
    ),
    initial=Letters.A,
    failover=Letters.E,
)


def random_table(rng: Random) -> CompleteTable | None:
    """A table with rows at random, as far as it is a sound one."""
    inputs = [recv(Word.ZERO), recv(Word.TWO), begin.checkpoint, begin.leave, won, lost, fault(Fault.EOF)]
    lines = [
        row(state, trigger, rng.choice([*Letters, None]))
        for state in Letters
        for trigger in rng.sample(inputs, rng.randrange(1, 5))
    ]
    lines += [row(state, otherwise, rng.choice([*Letters, None])) for state in Letters if rng.random() < 0.5]
    try:
        return complete(Table(Side.PRIMARY, LETTERS, tuple(lines)))
    except TableError:
        return None


@pytest.mark.parametrize("seeds", [1000, pytest.param(4000, marks=pytest.mark.soak)])
def test_random_tables_behave_as_stock(seeds: int) -> None:
    compared = moved = 0
    for seed in range(seeds):
        rng = Random(seed)
        table = random_table(rng)
        if table is None:
            continue
        stock, ours = StockModel(), Model(table.initial)
        Machine(stock, **definition(table))
        machine = TableMachine(table)
        for trigger in rng.choices(table.triggers, k=20):
            before = ours.state
            assert bool(machine.events[trigger.name].trigger(ours)) is getattr(stock, trigger.name)()
            assert ours.state is stock.state, (seed, str(trigger))
            compared += 1
            moved += ours.state is not before
    assert compared > 10 * seeds
    assert moved > 4 * seeds
