"""The checkpoint in somebody's directory, for the commands that show it and give it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colo_fsm.membership.seat import Owner, owner
from colo_fsm.replica import Checkpoint, DirectoryStore, StoreError
from colo_fsm.replica.store import StoreInUse

from .status import one_line_errors


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Owner | None, Checkpoint]]:
    """Whose it is, if it is a member's, and the newest checkpoint. Raises click.ClickException."""
    with opened_store(folder) as (whose, store):
        assert store.newest is not None
        yield whose, store.newest


@contextmanager
def opened_store(folder: Path, *, unchecked: bool = False) -> Iterator[tuple[Owner | None, DirectoryStore]]:
    """The same, with the store that holds it."""
    with one_line_errors():
        path, whose = owner(folder)
        if not (path.is_dir() and any(path.iterdir())):  # a store would move into an empty one
            raise StoreError(f"{folder} is not a directory that a standby, a Secondary or a member has kept")
        try:
            store = DirectoryStore(path, unchecked=unchecked)
        except StoreInUse:
            raise StoreError(
                f"{folder} is open in a process that runs: ask that at its control socket, or stop it first"
            ) from None
        with store:
            if store.newest is None:
                raise StoreError(f"{folder} holds no checkpoint yet")
            yield whose, store


def is_vm(checkpoint: Checkpoint) -> bool:
    """Whether it is one of a virtual machine's, which a standby keeps."""
    return "machine" in checkpoint.meta
