"""`colo-fsm restore` and `colo-fsm inspect`: what a standby holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import attrs
import click
from rich.console import Console
from rich.table import Table

from colo_fsm.fsm import Side
from colo_fsm.qemu import VmCheckpoint
from colo_fsm.qemu.hold.check import check_loads
from colo_fsm.qemu.hold.inspect import Inspected, inspect_checkpoint, inspect_file
from colo_fsm.qemu.watch.capture import Capture
from colo_fsm.qemu.watch.channel import CHANNELS
from colo_fsm.replica import DirectoryStore, StoreError
from colo_fsm.replica.store import LOCAL_DISK
from colo_fsm.stream import StreamError

from .shown import as_text, shown
from .status import exit_codes, one_line_errors


@contextmanager
def stored(folder: Path) -> Iterator[VmCheckpoint]:
    """The VM in this store. Raises click.ClickException."""
    with one_line_errors():
        if not (folder.is_dir() and any(folder.iterdir())):  # a store would move into an empty one
            raise StoreError(f"{folder} is not a directory that a standby has kept a VM in")
        with DirectoryStore(folder) as store:
            if store.newest is None:
                raise StoreError(f"{folder} holds no checkpoint yet")
            yield VmCheckpoint.of(store.newest)


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


@click.command(epilog=exit_codes())
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
        raise click.ClickException(shown(f"{source}: {error}")) from None
    if as_json:
        click.echo(json.dumps(attrs.asdict(found)))
    else:
        _show(found)


def _show(found: Inspected) -> None:
    console = Console(highlight=False)
    for name, value in found.facts().items():
        console.print(as_text(f"{name}: {value}"))
    _table(
        console,
        "RAM blocks",
        found.blocks,
        name="name",
        size="bytes",
        zero_pages="zero pages",
        checksum="crc32",
    )
    _table(
        console, "Device sections", found.sections,
        name="name", instance="instance", version="version", size="bytes",
    )  # fmt: skip


def _table(console: Console, title: str, things: Sequence[object], **columns: str) -> None:
    """A row a thing; `columns` are attributes and what stands above them."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for name, head in columns.items():
        table.add_column(head, justify="left" if name == "name" else "right")
    for thing in things:
        table.add_row(*(as_text(getattr(thing, name)) for name in columns))
    console.print(table)
