"""A VM whose answers wait at the gate of a standby, and what it is restored as."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from answering_guest import COUNT, answering_guest
from qemu import Qemu
from standby_process import COMMAND, StandbyProcess

from colo_fsm.replica import DirectoryStore

MEMORY = 16
WATCHED = "w"
"""Where its QMP for `watch-primary` is, in its folder."""


def gate(folder: Path, n: int = 0) -> str:
    """The standby's option for card `n`."""
    return f"{folder}/out{n}.sock,{folder}/in{n}.sock"


def gates(folder: Path, cards: int = 1) -> list[str]:
    """The standby's options."""
    return [word for n in range(cards) for word in ("--gate", gate(folder, n))]


def gate_filter(folder: Path, n: int = 0) -> tuple[str, ...]:
    """QEMU's options, as docs/gate.md has them."""
    out, into = gate(folder, n).split(",")
    return (
        "-chardev", f"socket,id=out{n},path={out}", "-chardev", f"socket,id=in{n},path={into}",
        "-object", f"filter-redirector,id=gate{n},netdev=n{n},queue=rx,outdev=out{n},indev=in{n}",
    )  # fmt: skip


@contextlib.contextmanager
def answering_vm(
    folder: Path, *network: str, filters: Sequence[str] = (), cards: int = 1, inherits: Sequence[int] = ()
) -> Iterator[Qemu]:
    """It runs, and is not replicated yet; `network` are its netdevs, and `inherits` descriptors of theirs."""
    watched = ("-qmp", f"unix:{folder}/{WATCHED},server=on,wait=off")
    extra = (*answering_guest(folder, cards), *network, *filters, *watched)
    with Qemu(folder, "primary", memory=MEMORY, extra=extra, inherits=inherits) as qemu:
        yield qemu


@contextlib.contextmanager
def restored_vm(
    standby: StandbyProcess, folder: Path, *network: str, cards: int = 1, inherits: Sequence[int] = ()
) -> Iterator[Qemu]:
    """What a standby that has taken over holds, running in another QEMU."""
    restore = "exec:" + " ".join([*COMMAND, "restore", str(standby.store), "-o", "-"])
    extra = (*answering_guest(folder, cards), *network)
    with Qemu(folder, "restored", memory=MEMORY, incoming=restore, extra=extra, inherits=inherits) as qemu:
        qemu.wait_loaded()
        yield qemu


def counted(store: Path) -> int:
    """How many answers the newest checkpoint of a store covers."""
    with DirectoryStore(store) as kept:
        assert kept.newest is not None
        memory = kept.newest.blocks["pc.ram"][COUNT : COUNT + 4]
        (number,) = struct.unpack("<I", memory)
        return int(number)
