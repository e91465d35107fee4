"""`colo-fsm restore` and `colo-fsm inspect`: what a standby holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console
from rich.table import Table

from colo_fsm.fsm import Side
from colo_fsm.qemu import NotAVm, VmCheckpoint
from colo_fsm.qemu.capture import Capture
from colo_fsm.qemu.channel import CHANNELS
from colo_fsm.qemu.check import CheckFailed, check_loads
from colo_fsm.qemu.inspect import Inspected, inspect_checkpoint, inspect_file
from colo_fsm.replica import DirectoryStore, StoreError
from colo_fsm.replica.disk import LOCAL_DISK
from colo_fsm.stream import StreamError

EXIT_CODES = "\b\nExit status:\n  0  done\n  1  it could not be; the last line says why\n  2  bad usage"


@contextmanager
def stored(folder: Path) -> Iterator[VmCheckpoint]:
    """The VM in this store. Raises click.ClickException."""
    try:
        if not (folder.is_dir() and any(folder.iterdir())):  # a store would move into an empty one
            raise click.ClickException(f"{folder} is not a directory that a standby has kept a VM in")
        with DirectoryStore(folder) as store:
            if store.newest is None:
                raise click.ClickException(f"{folder} holds no checkpoint yet")
            yield VmCheckpoint.of(store.newest)
    except (StoreError, NotAVm, OSError) as error:
        raise click.ClickException(str(error)) from None


@click.command(epilog=EXIT_CODES)
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
            try:
                click.echo(f"checkpoint {vm.number} loads: {check_loads(vm, check)}", err=True)
            except CheckFailed as error:
                raise click.ClickException(str(error)) from None
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


@click.command(epilog=EXIT_CODES)
@click.argument("source", metavar="DIR|FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def inspect(source: Path, as_json: bool) -> None:
    """What is in a standby's DIR, at the start of a recording of `colo-fsm tap`, or in a stream's FILE.

    \b
    Example:
      colo-fsm inspect vm1
    """
    try:
        if Capture.is_one(source):
            found = inspect_file(source / CHANNELS[Side.PRIMARY])
        elif source.is_dir():
            with stored(source) as vm:
                found = inspect_checkpoint(vm)
        else:
            found = inspect_file(source)
    except (StreamError, OSError) as error:
        raise click.ClickException(f"{source}: {error}") from None
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        _show(found)


def _show(found: Inspected) -> None:
    console = Console(highlight=False)
    for name, value in found.facts().items():
        console.print(f"{name}: {value}")
    for title, columns, rows in found.tables():
        table = Table(title=title, title_justify="left", box=None, header_style="bold")
        for column in columns:
            table.add_column(column, justify="left" if column == "name" else "right")
        for row in rows:
            table.add_row(*map(str, row))
        console.print(table)
