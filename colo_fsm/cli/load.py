"""What an embedder names on the command line: MODULE:NAME, looked up from the current folder too."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from colo_fsm.fsm import Side, Table


def table_named(spec: str, hint: str, side: Side | None = None) -> Table:
    """The table that `module:name` is, of this side if one is given. Raises click.BadParameter."""
    table = named(spec, "MODULE:TABLE", f"colo_fsm.colo:{(side or Side.PRIMARY).upper()}", hint=hint)
    if not isinstance(table, Table) or side not in (None, table.side):
        raise click.BadParameter(f"'{spec}' is no Table{f' of the {side}' * bool(side)}", param_hint=hint)
    return table


def named(
    spec: str, form: str, example: str, *, hint: str | None = None, make: Callable[[Any], Any] = lambda it: it
) -> Any:
    """What `module:name` is, or what `make` makes of it. Raises click.BadParameter, whatever it raises."""
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise click.BadParameter(f"'{spec}': write {form}, say {example}", param_hint=hint)
    sys.path.insert(0, os.getcwd())
    try:
        return make(getattr(importlib.import_module(module_name), name))
    except Exception as error:  # noqa: BLE001 - the embedder's module may raise anything
        raise click.BadParameter(f"'{spec}': {type(error).__name__}: {error}", param_hint=hint) from None
