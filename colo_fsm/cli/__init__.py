"""The command line, extra `cli`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of `colo-fsm`."""
    try:
        from .app import cli
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit("colo-fsm: the command line is an extra: pip install 'colo-fsm[cli]'")
    cli()
