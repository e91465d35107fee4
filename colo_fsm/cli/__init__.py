"""The command line, extra `cli`."""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of `colo-fsm`."""
    interrupts = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interrupts:  # while modules load there is nothing to end in order, and nobody wants their traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from .output import open_streams

        open_streams()
        from .app import cli, load

        load(*sys.argv[1:2])
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit("colo-fsm: the command line is an extra: pip install 'colo-fsm[cli]'")
    if interrupts:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli()
