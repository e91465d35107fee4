"""What the explorer's tests share: systems with one line of a table changed, and each search done once."""

from __future__ import annotations

import fcntl
import os
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import attrs

from colo_fsm.check import (
    MEMBERS,
    Documented,
    MemberResult,
    MemberScenario,
    Result,
    Scenario,
    Verdict,
    documented,
    explore,
    explore_members,
)
from colo_fsm.colo import TABLES, State
from colo_fsm.fsm import CompleteTable, Do, Effect, Row, Side, Trigger, complete

T = TypeVar("T")

SHARED = "COLO_FSM_TESTS_SHARED"
"""The environment's name of a folder that lives as long as this run of the tests (conftest)."""


@cache
def explored(name: str) -> Result:
    """The search of a documented scenario."""
    scenario = documented(name).scenario
    return attrs.evolve(_once(name, lambda: explore(scenario)), scenario=scenario)


@cache
def searched(name: str) -> MemberResult:
    """The search of a documented scenario of members."""
    scenario = next(each.scenario for each in MEMBERS if each.name == name)
    return attrs.evolve(_once(name, lambda: explore_members(scenario)), scenario=scenario)


def _once(name: str, search: Callable[[], T]) -> T:
    """Done by whichever worker comes first; the others wait for it, and read what it has found."""
    with (Path(os.environ[SHARED]) / f"{name}.explored").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not file.tell():
            pickle.dump(search(), file)
            file.flush()
        file.seek(0)
        found: T = pickle.load(file)
        return found


def known(each: Documented[Any]) -> Verdict:
    """`judged` with each search done once."""
    return Verdict(
        each, searched(each.name) if isinstance(each.scenario, MemberScenario) else explored(each.name)
    )


def changed(
    scenario: Scenario, side: Side, where: Callable[[Row], bool], change: Callable[[Row], Row]
) -> Scenario:
    """The scenario with these rows of one side's table changed; there must be one."""
    table = complete(TABLES[side], scenario.variant)
    assert any(map(where, table.rows))
    rows = tuple(change(row) if where(row) else row for row in table.rows)
    return attrs.evolve(scenario, tables={side: _with(table, rows)})


def _with(table: CompleteTable, rows: tuple[Row, ...]) -> CompleteTable:
    return attrs.evolve(table, rows=rows)


def at(source: State, trigger: Trigger) -> Callable[[Row], bool]:
    """The row of this input."""
    return lambda row: row.source is source and row.trigger == trigger


def errors(row: Row) -> bool:
    """The error transition, wherever it stands."""
    return row.implied and row.dest is State.FAILOVER


def without(effect: Effect) -> Callable[[Row], Row]:
    return lambda row: attrs.evolve(row, effects=tuple(e for e in row.effects if e != effect))


def backwards(row: Row) -> Row:
    return attrs.evolve(row, effects=row.effects[::-1])


def to(dest: State | None, *effects: Do) -> Callable[[Row], Row]:
    """Lead elsewhere, and do this instead, if anything is given; None: stay, and do nothing."""
    if dest is None:
        return lambda row: attrs.evolve(row, dest=None, effects=())
    return lambda row: attrs.evolve(row, dest=dest, effects=effects or row.effects)


def doing(*effects: Do) -> Callable[[Row], Row]:
    return lambda row: attrs.evolve(row, effects=effects)


def also(effect: Do) -> Callable[[Row], Row]:
    return lambda row: attrs.evolve(row, effects=(*row.effects, effect))


def unwritten(row: Row) -> Row:
    """The row is not there, and its state ignores what it does not know."""
    return attrs.evolve(row, dest=None, effects=(), implied=True)


def written(row: Row) -> Row:
    """Somebody has written down what `complete()` would have added."""
    return attrs.evolve(row, implied=False)
