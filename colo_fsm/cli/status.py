"""How a command ends: the exit status that its help promises, and errors in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click

from colo_fsm.arbiter import ArbiterError
from colo_fsm.qemu import NotAVm
from colo_fsm.qemu.hold.check import CheckFailed
from colo_fsm.qemu.watch.capture import CaptureError
from colo_fsm.qemu.watch.log import TraceError
from colo_fsm.replica import AddressError, StoreError

from .output import INTERRUPTED
from .shown import shown

_EXPECTED = (ArbiterError, CaptureError, CheckFailed, NotAVm, OSError, StoreError, TraceError)


UNTESTED = 125
"""The status of a test that says nothing of what it was to test, as `git bisect run` has it."""


def exit_codes(
    zero: str = "done",
    one: str = "it could not be, or standard output could not be written; the last line says why",
    interrupted: str = "^C",
    untested: str | None = None,
) -> str:
    """The end of a help page. `untested`: of a command that tests."""
    lines = {0: zero, 1: one, 2: "bad usage"}
    if untested is not None:
        lines[UNTESTED] = untested
    lines[INTERRUPTED] = interrupted
    return "\b\nExit status:" + "".join(f"\n  {status:<3}  {text}" for status, text in lines.items())


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """What may go wrong, without a traceback: status 1, or 2 for an address that is none."""
    try:
        yield
    except AddressError as error:
        raise click.UsageError(shown(error)) from None
    except _EXPECTED as error:
        raise click.ClickException(shown(error)) from None
