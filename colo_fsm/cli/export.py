"""`colo-fsm export`: what a guest's store holds, as a file of its own."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from colo_fsm.replica import Checkpoint, StoreError
from colo_fsm.replica.guest import DamagedState, state_in
from colo_fsm.replica.store import LOCAL_DISK
from colo_fsm.services.kept import UnusableDatabase, check, in_file, in_memory, is_database
from colo_fsm.stream.memory import Buffer

from .shown import shown
from .status import exit_codes, one_line_errors
from .stored import is_vm, opened

AS_IT_IS = "--block {block} gives back its memory as it is"


@click.command(epilog=exit_codes())
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Write it here, whole or not at all; - is standard output.",
)
@click.option("--block", metavar="NAME", help="This RAM block as it is, whatever is in it.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def export(folder: Path, output: str, block: str | None, force: bool) -> None:
    """Give back what a member, or a Secondary with --store, has kept in DIR.

    An SQLite guest's database becomes a database file, checked by SQLite's integrity_check; of any other
    guest FILE gets its state, or the memory of its only RAM block. DIR must not be open in a process.

    \b
    Example:
      colo-fsm export a -o a.db
    """
    with one_line_errors(), opened(folder) as (_, newest):
        if is_vm(newest):
            raise StoreError(
                f"{folder} holds a virtual machine: colo-fsm restore {folder} -o FILE gives it back"
            )
        what, data, is_one = _chosen(folder, newest, block)
        try:
            if output == "-":
                _to_stdout(data, is_one)
            else:
                _to_file(Path(output), data, is_one, force)
        except UnusableDatabase as error:
            raise StoreError(
                f"{folder}: {error}: {AS_IT_IS.format(block=next(iter(newest.blocks)))}"
            ) from None
        said = f"{what} of checkpoint {newest.number}, generation {newest.generation}: {len(data)} bytes"
        click.echo(shown(said), err=True)


def _chosen(folder: Path, newest: Checkpoint, block: str | None) -> tuple[str, Buffer, bool]:
    """What it is, its bytes, and whether they are a database. Raises StoreError, click.UsageError."""
    names = ", ".join(newest.blocks) or "none"
    if block is not None:
        if block not in newest.blocks:
            raise click.UsageError(f"there is no RAM block '{block}' (there are: {names})")
        return f"block {block}", newest.blocks[block], False
    try:
        state = state_in(newest)
    except DamagedState as error:
        raise StoreError(f"{folder}: {error}: {AS_IT_IS.format(block=names)}") from None
    if state is not None:
        is_one = is_database(state)
        return ("the database" if is_one else "the state"), state, is_one
    if len(newest.blocks) != 1:
        raise click.UsageError(f"say which RAM block with --block NAME (there are: {names})")
    ((name, view),) = newest.blocks.items()
    return f"block {name}", view, False


def _to_stdout(data: Buffer, is_one: bool) -> None:
    out = sys.stdout.buffer
    if out.isatty():
        raise click.UsageError("this is nothing for a terminal: name a file or a pipe")
    if is_one:
        with in_memory(bytes(data)) as connection:
            check(connection)
    out.write(data)
    out.flush()


def _to_file(path: Path, data: Buffer, is_one: bool, force: bool) -> None:
    """Beside it, and renamed once it is whole and checked. Raises OSError, UnusableDatabase."""
    path = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise StoreError(f"{path} is no file: name another one, or - for standard output")
        if not force:
            raise StoreError(f"{path} is there already: name another file, or say --force to replace it")
    with _beside(path) as new:
        with LOCAL_DISK.create(new) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if is_one:
            with in_file(new) as connection:
                check(connection)
        os.replace(new, path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name in the same directory, gone at the end if it still is."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield new
    finally:
        with suppress(FileNotFoundError):
            new.unlink()
