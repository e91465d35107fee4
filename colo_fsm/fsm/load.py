"""What a person names as MODULE:NAME, looked up from the current folder too."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from .table import Table
from .terms import Side


def table_named(spec: str, side: Side | None = None) -> Table:
    """The table that `module:name` is, of this side if one is given. Raises ValueError."""
    table = named(spec, "MODULE:TABLE", f"colo_fsm.colo:{(side or Side.PRIMARY).upper()}")
    if not isinstance(table, Table) or side not in (None, table.side):
        raise ValueError(f"'{spec}' is no Table{f' of the {side}' * bool(side)}")
    return table


def named(spec: str, form: str, example: str, make: Callable[[Any], Any] = lambda it: it) -> Any:
    """What `module:name` is, or what `make` makes of it. Raises ValueError, whatever it raises."""
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise ValueError(f"'{spec}': write {form}, say {example}")
    sys.path.insert(0, os.getcwd())
    try:
        return make(getattr(importlib.import_module(module_name), name))
    except Exception as error:
        raise ValueError(f"'{spec}': {type(error).__name__}: {error}") from error
