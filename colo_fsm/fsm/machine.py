"""The `transitions` machine of a table: stock, but that an event looks its row up in one dictionary.

A table is total and has no callbacks, conditions or queue, so there is nothing else to do. What stock
could add later would be ignored by that look-up: so it is refused. One machine serves all sessions,
from any thread; `machine.events[name].trigger(session)` is all that ever changes a session's state.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NoReturn, Protocol

from transitions import Event, Machine
from transitions import State as MachineState

from .complete import CompleteTable, complete
from .table import Row, Table, Variant


class SealedError(RuntimeError):
    """A machine was asked to change: declare it in its table instead."""


def definition(table: CompleteTable) -> dict[str, Any]:
    """The keyword arguments that make any `transitions` machine of this table.

    `transitions.Machine(**definition(table))` is the reference that ours is compared with;
    `GraphMachine(**definition(table))` draws it; give either a model of your own.
    """
    return {
        "states": list(table.states),
        "initial": table.initial,
        "transitions": [{"trigger": r.trigger.name, "source": r.source, "dest": r.dest} for r in table.rows],
        "auto_transitions": False,
    }


class HasState(Protocol):
    """All that a model needs: a `state` of its table. It is not registered anywhere."""

    state: Any


def _sealed(self: object, *_: object, **__: object) -> NoReturn:
    raise SealedError(f"{type(self).__name__} is sealed: it is what its table says, and has no callbacks")


class _State(MachineState):
    add_callback = _sealed


class _Event(Event):
    add_callback = _sealed
    rows: dict[object, Row]

    def trigger(self, model: HasState) -> Row:  # type: ignore[override]
        """Move `model`, and return the row that fired (true, as stock's answer is)."""
        row = self.rows[model.state]
        if row.dest is not None:
            model.state = row.dest
        return row


class TableMachine(Machine):
    """A `transitions` machine made of a complete table, and the `table` it was made of."""

    event_cls = _Event
    state_cls = _State
    table: CompleteTable

    def __init__(self, table: CompleteTable) -> None:
        super().__init__(model=None, **definition(table))
        for state in self.states.values():
            vars(state).update(on_enter=(), on_exit=())  # so that append() fails, and is not ignored
        for trigger in table.triggers:
            event = self.events[trigger.name]
            rows = {state: table.by_input[state, trigger] for state in table.states}
            vars(event).update(rows=rows, add_transition=_sealed.__get__(event))
        for change in ("add_model", "add_states", "add_transition", "remove_model", "remove_transition"):
            vars(self)[change] = _sealed.__get__(self)
        self.table = table

    def __setattr__(self, name: str, value: object) -> None:
        if "table" in vars(self):
            _sealed(self)
        super().__setattr__(name, value)


@cache
def machine_for(table: Table, variant: Variant = ()) -> TableMachine:
    """The machine of this table and variant, the same one each time. Raises TableError."""
    return TableMachine(complete(table, variant))
