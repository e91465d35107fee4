"""What an embedder names on the command line: MODULE:NAME, looked up from the current folder too."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import click


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
