"""The Primary's table in other libraries of state machines, each as it is fastest by its own documentation.

Each function gives, for the triggers of one checkpoint round, what fires them, and how to ask for the state.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import transitions
from automat import TypeMachineBuilder
from sismic.interpreter import Interpreter
from sismic.model import BasicState, CompoundState, Statechart, Transition
from statemachine import State as MachineState
from statemachine import StateMachine

from colo_fsm.fsm import CompleteTable, definition

Round = tuple[Sequence[Callable[[], object]], Callable[[], object]]


def _moves(table: CompleteTable) -> Iterable[tuple[str, str, str]]:
    """Trigger, source and end of each row."""
    return ((row.trigger.name, str(row.source), str(row.dest or row.source)) for row in table.rows)


def stock(table: CompleteTable, names: Sequence[str]) -> Round:
    """`transitions`, without a callback, the model's own methods."""
    ready = next(state for state in table.states if state == "ready")
    machine = transitions.Machine(**definition(table) | {"initial": ready})
    return [getattr(machine, name) for name in names], lambda: str(machine.state)


def automat(table: CompleteTable, names: Sequence[str]) -> Round:
    """`TypeMachineBuilder`; a machine begins in the first state, so that is the one a round begins in."""

    def events(namespace: dict[str, Any]) -> None:
        for name in {trigger for trigger, _, _ in _moves(table)}:

            def event(self: Any) -> None: ...

            event.__name__ = event.__qualname__ = name
            namespace[name] = event

    inputs: Any = types.new_class("Inputs", (Protocol,), {}, events)
    builder: Any = TypeMachineBuilder(inputs, type("Core", (), {}))
    order = sorted(map(str, table.states), key=lambda state: state != "ready")
    states = {state: builder.state(state) for state in order}
    for trigger, source, dest in _moves(table):
        states[source].upon(getattr(inputs, trigger)).to(states[dest]).returns(None)
    machine = builder.build()(object())
    return [getattr(machine, name) for name in names], lambda: machine.__automat_transitioner__._state.name


def statemachine(table: CompleteTable, names: Sequence[str]) -> Round:
    """python-statemachine, `send`."""
    leaving = {source for _, source, _ in _moves(table)}
    states: dict[str, Any] = {
        name: MachineState(name, value=name, initial=name == str(table.initial), final=name not in leaving)
        for name in map(str, table.states)
    }
    events: dict[str, Any] = {}
    for trigger, source, dest in _moves(table):
        move = states[source].to(states[dest])
        events[trigger] = events[trigger] | move if trigger in events else move
    metaclass: Any = type(StateMachine)
    kind = metaclass("Table", (StateMachine,), {**states, **events})
    machine = kind(start_value="ready")
    return [lambda name=name: machine.send(name) for name in names], lambda: str(machine.current_state_value)


def sismic(table: CompleteTable, names: Sequence[str]) -> Round:
    """A flat statechart, an event queued and executed."""
    chart = Statechart("table")
    chart.add_state(CompoundState("all", initial="ready"), None)
    for state in map(str, table.states):
        chart.add_state(BasicState(state), "all")
    for trigger, source, dest in _moves(table):
        chart.add_transition(Transition(source, dest, event=trigger))
    interpreter = Interpreter(chart)
    interpreter.execute()

    def fire(name: str) -> object:
        return interpreter.queue(name).execute_once()

    return [lambda name=name: fire(name) for name in names], lambda: interpreter.configuration[-1]


LIBRARIES: dict[str, Callable[[CompleteTable, Sequence[str]], Round]] = {
    "transitions": stock,
    "automat": automat,
    "python-statemachine": statemachine,
    "sismic": sismic,
}
