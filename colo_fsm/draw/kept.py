"""The pictures that this repository carries: COLO's, of the variant that runs by default, and our rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from colo_fsm.colo import PRIMARY, SECONDARY, ReleaseOn, ResumeOn, Variant
from colo_fsm.fsm import complete
from colo_fsm.membership.machine import ROWS, S
from colo_fsm.qemu.free import machine as watch

from .picture import FORMATS, Picture, checkpoint, machine, pair, side
from .renderer import dot_hash, hash_of

KEPT = ("dot", "mermaid", "markdown", "svg")
"""What is kept of each, if there is such a format of it. A PNG carries no hash: it may be stale unseen."""


def pictures() -> Mapping[str, Picture]:
    """By name: COLO's in the patch's order; `checkpoint-saved` as our pairs take one, `checkpoint-gate` as a
    standby with a gate; rows of ours.
    """
    tables, ours, gate = (
        [complete(table, variant) for table in (PRIMARY, SECONDARY)]
        for variant in (Variant(), Variant(resume_on=ResumeOn.SAVED), Variant(release_on=ReleaseOn.GATE))
    )
    sides = {str(table.side): side(table) for table in tables}
    rounds = {
        f"checkpoint{of}": checkpoint(*pair) for of, pair in (("", tables), ("-saved", ours), ("-gate", gate))
    }
    member = machine("A member", ROWS, S.LOOKING, (S.ALONE, S.PRIMARY))
    watching = machine("A watch of a Primary", watch.ROWS, watch.S.WAITING, (watch.S.WATCHING, watch.S.ALONE))
    return sides | {"pair": pair(*tables), **rounds, "member": member, "watch-primary": watching}


def stale(folder: Path) -> list[Path]:
    """The files in this folder that `write_all()` would write: those that are missing or out of date."""
    return [path for path, picture, format in _files(folder) if not _is_fresh(path, picture, format)]


def write_all(folder: Path) -> list[Path]:
    """Write the pictures in the KEPT formats; returns the files written.

    A fresh file is left alone, so another version of Graphviz alone changes no SVG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [f for f in _files(folder) if not _is_fresh(*f)]
    for path, picture, format in written:
        path.write_bytes(picture.to(format))
    return [path for path, _, _ in written]


def _files(folder: Path) -> list[tuple[Path, Picture, str]]:
    return [
        (folder / f"{name}.{FORMATS[format]}", picture, format)
        for name, picture in pictures().items()
        for format in KEPT
        if format in picture.formats
    ]


def _is_fresh(path: Path, picture: Picture, format: str) -> bool:
    if not path.is_file():
        return False
    if format == "svg":
        return dot_hash(path.read_text("utf-8", errors="replace")) == hash_of(picture.dot)
    return path.read_bytes() == picture.to(format)
