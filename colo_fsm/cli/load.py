"""What an embedder names on the command line, with errors as click has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from colo_fsm.fsm import Side, Table, load


def table_named(spec: str, hint: str, side: Side | None = None) -> Table:
    """The table that `module:name` is, of this side if one is given. Raises click.BadParameter."""
    try:
        return load.table_named(spec, side)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=hint) from None


def named(
    spec: str, form: str, example: str, *, hint: str | None = None, make: Callable[[Any], Any] = lambda it: it
) -> Any:
    """What `module:name` is, or what `make` makes of it. Raises click.BadParameter, whatever it raises."""
    try:
        return load.named(spec, form, example, make)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=hint) from None
