"""`colo-fsm restore`: what a standby holds, as a new QEMU takes it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from colo_fsm.qemu import NotAVm, VmCheckpoint
from colo_fsm.qemu.hold.check import check_loads
from colo_fsm.replica.store import LOCAL_DISK

from .shown import shown
from .status import exit_codes
from .stored import is_vm, opened


@contextmanager
def stored(folder: Path) -> Iterator[VmCheckpoint]:
    """The VM in this store. Raises click.ClickException."""
    with opened(folder) as (_, newest):
        if not is_vm(newest):
            raise NotAVm(f"{folder} holds no virtual machine: colo-fsm export gives back what it holds")
        yield VmCheckpoint.of(newest)


@click.command(epilog=exit_codes())
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("-o", "--output", metavar="FILE", help="Write the migration stream here; - is standard output.")
@click.option(
    "--check",
    metavar="COMMAND",
    help="Load it into a throw-away QEMU started by this command line, stopped, and say whether it loads.",
)
def restore(folder: Path, output: str | None, check: str | None) -> None:
    """The checkpoint in DIR as a migration stream that QEMU takes with -incoming.

    \b
    Example:
      colo-fsm restore vm1 -o vm1.mig
      qemu-system-x86_64 <the same machine> -incoming 'exec:cat vm1.mig'
    \b
      colo-fsm restore vm1 --check 'qemu-system-x86_64 <the same machine>'
    """
    if output is None and check is None:
        raise click.UsageError("say where to write it, -o FILE, or how to --check it")
    with stored(folder) as vm:
        if check is not None:
            click.echo(f"checkpoint {vm.number} loads: {shown(check_loads(vm, check))}", err=True)
        if output == "-":
            _write(vm, sys.stdout.buffer)
        elif output is not None:
            with LOCAL_DISK.create(Path(output)) as file:
                _write(vm, file)


def _write(vm: VmCheckpoint, file: BinaryIO) -> None:
    if file.isatty():
        raise click.UsageError("a migration stream is nothing for a terminal: name a file or a pipe")
    for piece in vm.stream():
        file.write(piece)
    file.flush()
