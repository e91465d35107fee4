"""`colo-fsm restore`: what a standby holds, as a new QEMU takes it."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click

from colo_fsm.qemu import NotAVm, VmCheckpoint
from colo_fsm.qemu.hold.check import check_loads
from colo_fsm.replica import DirectoryStore
from colo_fsm.replica.store import LOCAL_DISK

from .shown import shown
from .status import exit_codes
from .stored import is_vm, opened_store

PIPE = 1 << 20
"""Bytes in a pipe to QEMU, where the system lets it have as many."""


@contextmanager
def stored(folder: Path) -> Iterator[VmCheckpoint]:
    """The VM in this store. Raises click.ClickException."""
    with _stored(folder) as (_, vm):
        yield vm


@contextmanager
def _stored(folder: Path, unchecked: bool = False) -> Iterator[tuple[DirectoryStore, VmCheckpoint]]:
    with opened_store(folder, unchecked=unchecked) as (_, store):
        newest = store.newest
        assert newest is not None
        if not is_vm(newest):
            raise NotAVm(f"{folder} holds no virtual machine: colo-fsm export gives back what it holds")
        yield store, VmCheckpoint.of(newest)


@click.command(epilog=exit_codes())
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("-o", "--output", metavar="FILE", help="Write the migration stream here; - is standard output.")
@click.option(
    "--ram",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Give the RAM this name, for QEMU to map (memory-backend-file), and leave it out of the stream.",
)
@click.option(
    "--unchecked",
    is_flag=True,
    help="Do not read all of DIR first to check it: for a machine that has run on since it was written.",
)
@click.option(
    "--check",
    metavar="COMMAND",
    help="Load it into a throw-away QEMU started by this command line, stopped, and say whether it loads.",
)
def restore(folder: Path, output: str | None, ram: Path | None, unchecked: bool, check: str | None) -> None:
    """The checkpoint in DIR as a migration stream that QEMU takes with -incoming.

    \b
    Example:
      qemu-system-x86_64 <the same machine> -incoming 'exec:colo-fsm restore vm1 -o -'
    \b
      colo-fsm restore vm1 --check 'qemu-system-x86_64 <the same machine>'
    \b
    With its RAM mapped, not read (docs/standby.md has QEMU's options for that):
      colo-fsm restore vm1 --ram vm1.ram -o vm1.mig
    """
    if output is None and check is None:
        raise click.UsageError("say where to write it, -o FILE, or how to --check it")
    if ram is not None and output in (None, "-"):
        raise click.UsageError("--ram needs -o FILE: QEMU opens the RAM before it reads the stream")
    with _stored(folder, unchecked) as (store, vm):
        if check is not None:
            click.echo(f"checkpoint {vm.number} loads: {shown(check_loads(vm, check))}", err=True)
        mapped = None if ram is None else _give_ram(store, vm, ram)
        if output == "-":
            _write(vm, sys.stdout.buffer)
        elif output is not None:
            with LOCAL_DISK.create(Path(output)) as file:
                _write(vm, file, mapped)


def _give_ram(store: DirectoryStore, vm: VmCheckpoint, path: Path) -> str:
    """Another name for the image, whose first block is the machine's RAM; which block that is."""
    assert store.image is not None
    path.unlink(missing_ok=True)  # an older one: a VM that has it mapped keeps it
    try:
        os.link(store.image, path)
    except OSError as error:
        raise click.ClickException(
            f"{path} cannot be another name of {store.image}: {error.strerror}; put it on that file system"
        ) from None
    return next(iter(vm.blocks))


def _write(vm: VmCheckpoint, file: BinaryIO, mapped: str | None = None) -> None:
    if file.isatty():
        raise click.UsageError("a migration stream is nothing for a terminal: name a file or a pipe")
    with suppress(OSError):  # it is no pipe, or a larger one is not for us
        fcntl.fcntl(file, fcntl.F_SETPIPE_SZ, PIPE)
    for piece in vm.stream(mapped=mapped):
        file.write(piece)
    file.flush()
