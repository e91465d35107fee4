"""A store in a directory: the last complete checkpoint outlives the process that received it.

The file `checkpoint` names the image, and holds the metadata and the pages of the last round: it is the
redo log too. A round is written to `checkpoint.new`, renamed (the one commit point), then written into
the image in place; a kill in the middle of that is made good at the next open, which writes the logged
pages again. The next round's log replaces it only when all of its pages are in the image. The first
checkpoint of a generation is a log without pages which names the new image. `directory_files` has the format.

Without `fsync` the page cache carries a checkpoint past the death of the process; `fsync=True` also past
a power failure: the image before its log is replaced, the log before the rename, the directory after.
The directory itself is locked with flock(2), so it belongs on a local file system.

Disk: one image and one round; during a commit the next round too, and a second image while one is begun.
An image takes room for its pages as they come, and none for zeros; a round takes it before it is logged.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from colo_fsm.stream.memory import Buffer

from .base import Checkpoint, ImageStore, Layout, Placed, StoreError, StoreInUse
from .directory_files import MARKER, ImageFile, LoggedRun, Record, write_at
from .disk import LOCAL_DISK, Disk


class DirectoryStore(ImageStore[ImageFile]):
    """A `Store` in the directory `path`, which is created if it is missing and may be empty.

    It opens with the last complete checkpoint, whatever killed its process; with `fsync`, also after a
    power failure. Opening reads the image once, to check it; a commit writes in proportion to its delta.
    StoreError: another store has it open, it is damaged, of another version, or something else is in it.
    `disk` is the file system under it. `unchecked` opens without reading the image: damage is not found.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fsync: bool = False,
        disk: Disk = LOCAL_DISK,
        unchecked: bool = False,
    ) -> None:
        super().__init__()
        self.path = Path(path).absolute()
        self._disk = disk
        self._fsync = fsync
        self._unsynced = False
        self._fd = self._lock()
        try:
            self._recognise()
            self._load(unchecked)
            self._sweep()
        except BaseException:
            self._let_go()
            raise

    def _lock(self) -> int:
        """The directory, opened and ours alone until its descriptor is closed."""
        try:
            self._disk.make_directory(self.path)
        except FileExistsError:
            raise StoreError(f"{self.path} is not a directory: name another path") from None
        fd = self._disk.open_directory(self.path)
        try:
            self._disk.lock(fd)
        except BlockingIOError:
            self._disk.close(fd)
            raise StoreInUse(
                f"{self.path} is in use by another store: close that one, or name another path"
            ) from None
        except BaseException:
            self._disk.close(fd)
            raise
        return fd

    def _recognise(self) -> None:
        """Nothing is written to a directory before this has found it empty or a store's."""
        marker = self.path / "colo-store"
        found = self._disk.read(marker)
        if found == MARKER:
            return
        if found:
            raise StoreError(
                f"{self.path}: {marker.name} says {found[:40]!r}, this is {MARKER!r}: use the colo_fsm"
                " that wrote it, or name another path"
            )
        if any(name != marker.name for name in self._disk.names(self.path)):
            raise StoreError(f"{self.path} holds something else than a store: name another path")
        self._write_file(marker, [MARKER])
        self._sync(self._fd)
        self._sync_parent()

    def _load(self, unchecked: bool) -> None:
        """Take up the last complete checkpoint, its round written to the image once more."""
        log = self._disk.read(self.path / "checkpoint")
        if log is None:
            return
        try:
            record = Record.decode(memoryview(log))
            header = record.header
            layout = Layout(dict(header["blocks"]))
            path = self.path / f"image-{header['image']}"
            if self._disk.size(path) != ImageFile.file_size(layout):
                raise ValueError(f"{path.name} is missing or has another size")
            image = ImageFile(self._disk, path, layout)
            checkpoint = Checkpoint(
                header["generation"], header["number"], image.views, record.device, header["meta"]
            )
            self._current = checkpoint, image
            image.load_sums()
            for run in record.runs:
                image.total += image.change(run)
                image.replace(run)
            image.settle()
            image.check(header["total"], unchecked)
        except ValueError as error:
            raise StoreError(
                f"{self.path} is damaged ({error}): remove it, and replicate from the start"
            ) from error

    def _sweep(self) -> None:
        """Remove what a kill left."""
        current = self._current[1].path.name if self._current else None
        for name in self._disk.names(self.path):
            ours = name == "checkpoint.new" or re.fullmatch(r"image-\d+", name)
            if ours and name != current:
                self._disk.unlink(self.path / name)

    @property
    def image(self) -> Path | None:
        """The file of the newest checkpoint's blocks, one behind the other; None without one."""
        return self._current[1].path if self._current else None

    def _create(self, layout: Layout) -> ImageFile:
        number = self._current[1].number + 1 if self._current else 1
        return ImageFile.create(self._disk, self.path / f"image-{number}", layout)

    def _publish(self, checkpoint: Checkpoint, image: ImageFile, runs: Sequence[Placed]) -> None:
        if self._unsynced:
            raise StoreError(f"{self.path}: a round did not reach the disk: close, and open it again")
        logged = list(map(LoggedRun.of, runs))
        image.take_room(logged)
        header: dict[str, Any] = {
            "image": image.number,
            "total": image.total + sum(map(image.change, logged)),
            "generation": checkpoint.generation,
            "number": checkpoint.number,
            "blocks": list(image.layout.blocks.items()),
            "meta": dict(checkpoint.meta),
        }
        self._sync_image(image)
        self._replace_log(Record(header, checkpoint.device, logged))
        try:
            self._sync(self._fd)
            for run in logged:
                image.replace(run)
            image.settle()
            image.total = header["total"]
        except BaseException:
            self._let_go()  # on disk the new checkpoint is complete, here the image may be torn
            raise

    def _sync_image(self, image: ImageFile) -> None:
        """Before the log of its last round goes, the image must hold that round."""
        try:
            self._sync(image.fd)
            self._sync(self._fd)
        except OSError:
            self._unsynced = True  # the kernel reports a lost page once: the next try would pass
            raise

    def _replace_log(self, record: Record) -> None:
        new = self.path / "checkpoint.new"
        try:
            self._write_file(new, record.encode())
            self._disk.replace(new, self.path / "checkpoint")
        except BaseException:
            with contextlib.suppress(OSError):
                self._disk.unlink(new)
            raise

    def _write_file(self, path: Path, parts: Sequence[Buffer]) -> None:
        with self._disk.create(path) as file:
            write_at(self._disk, file.fileno(), parts, 0)
            self._sync(file.fileno())

    def _sync(self, fd: int) -> None:
        if self._fsync:
            self._disk.sync(fd)

    def _sync_parent(self) -> None:
        fd = self._disk.open_directory(self.path.parent)
        try:
            self._sync(fd)
        finally:
            self._disk.close(fd)

    def _let_go(self) -> None:
        for image in (self.begun, self._current and self._current[1], self._kept and self._kept[1]):
            if image:
                image.close()
        with contextlib.suppress(OSError):
            self._disk.close(self._fd)
        super()._let_go()
