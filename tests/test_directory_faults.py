"""A store in a directory, killed, out of room, or without power: the last checkpoint is there, whole."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import store_process
from store_process import (
    BLOCKS,
    advance,
    commit,
    delta,
    filled,
    initial,
    place,
    process,
    whole,
)

from colo_fsm.replica.store import StoreError
from colo_fsm.replica.store.directory import DirectoryStore
from colo_fsm.stream.memory import PAGE_SIZE, Delta

PAGE = b"\x5a" * PAGE_SIZE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


def reported(line: str) -> tuple[int, int]:
    generation, number = line.split()
    return int(generation), int(number)


def room(path: Path) -> int:
    """Bytes on the disk."""
    return sum(entry.stat().st_blocks * 512 for entry in path.iterdir())


class TestKilled:
    @pytest.mark.parametrize(
        "kills", [15, pytest.param(150, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
    )
    def test_at_a_random_moment(self, path: Path, kills: int) -> None:
        chance = random.Random(kills)
        last = (0, 0)
        for _ in range(kills):
            with process("rounds", path) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == "open\n"
                lines = [child.stdout.readline() for _ in range(chance.randint(0, 60))]
                child.kill()
                lines += child.stdout.readlines()
            if lines:
                last = max(last, *map(reported, lines))
            with DirectoryStore(path) as store:
                found = whole(store)
            assert found >= last
            last = found
        assert last > (1, 0)

    @pytest.mark.parametrize(
        "stride", [3, pytest.param(1, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
    )
    def test_at_every_line(self, path: Path, stride: int) -> None:
        """Also while it opens, and again while it recovers from that."""
        run = subprocess.run(
            [sys.executable, store_process.__file__, "crash", path, str(stride)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        for line in run.stdout.splitlines():
            kills, done = map(int, line.split())
            assert kills * stride > 300
            assert 0 < done < kills


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A full disk, as far as a process can have one of its own: larger files are refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestDiskFull:
    def test_no_room_for_a_round(self, path: Path) -> None:
        with DirectoryStore(path) as store:
            initial(store, 1)
            commit(store, 1, 1)
            with file_size_limit(3 * PAGE_SIZE), pytest.raises(OSError, match="File too large"):
                store.commit(delta(*((*place(index), PAGE) for index in range(5))), b"")
            assert whole(store) == (1, 1)
            assert not (path / "checkpoint.new").exists()
            commit(store, 1, 2)
        with DirectoryStore(path) as store:
            assert whole(store) == (1, 2)

    def test_no_room_for_an_image(self, path: Path) -> None:
        with DirectoryStore(path) as store:
            initial(store, 1)
            with file_size_limit(3 * PAGE_SIZE), pytest.raises(OSError, match="File too large"):
                store.begin(BLOCKS)
            assert whole(store) == (1, 0)
            assert len(list(path.glob("image-*"))) == 1
            commit(store, 1, 1)
            assert whole(store) == (1, 1)

    def test_disk_is_not_taken_before_pages_come(self, path: Path) -> None:
        """What somebody declares costs nothing."""
        with DirectoryStore(path) as store:
            store.begin({"low": 1 << 40})
            assert (path / "image-1").stat().st_blocks == 0

    def test_a_round_has_its_room_before_it_is_logged(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So that what is logged can also be written to the image. Without room nothing has changed."""
        with DirectoryStore(path) as store:
            store.begin(BLOCKS)
            store.complete(1, b"")
            pages = [(*place(index), PAGE) for index in range(3, 9)]
            with monkeypatch.context() as patch:
                fail_at(patch, "posix_fallocate", 0)
                with pytest.raises(OSError, match="No space"):
                    store.commit(delta(*pages), b"")
            assert store.newest is not None
            assert (store.newest.number, bytes(store.newest.blocks["low"]).strip(b"\0")) == (0, b"")
            replace = os.replace

            def check_room(*names: object) -> None:
                assert (path / "image-1").stat().st_blocks * 512 >= len(pages) * PAGE_SIZE
                replace(*names)  # type: ignore[arg-type]

            monkeypatch.setattr(os, "replace", check_room)
            store.commit(delta(*pages), b"")
            assert store.newest.number == 1

    def test_zeros_take_no_room(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither in a first copy, nor in a round or its log; and they give back what there was."""
        pages, most = 4096, 64 << 10
        with DirectoryStore(path) as store:
            sink = store.begin({"ram": pages * PAGE_SIZE})
            sink.put_zeros("ram", 0, pages)
            store.complete(1, b"")
            assert room(path) < most
            zeros = Delta()
            zeros.put_zeros("ram", 0, pages)
            store.commit(zeros, b"")
            assert room(path) < most
            store.commit(delta(*(("ram", at * PAGE_SIZE, PAGE) for at in range(pages))), b"")
            assert room(path) > pages * PAGE_SIZE
            store.commit(zeros, b"")
            assert room(path) < most
            with monkeypatch.context() as patch:  # so that room has to be taken once more
                fail_at(patch, "posix_fallocate", 0)
                with pytest.raises(OSError, match="No space"):
                    store.commit(delta(("ram", 0, PAGE)), b"")
        with DirectoryStore(path) as store:
            assert store.newest is not None
            assert store.newest.number == 3
            assert room(path) < most
            assert not any(store.newest.blocks["ram"])

    def test_what_is_dropped_is_free_at_once(self, path: Path) -> None:
        """It was still mapped, and with it on the disk, until the collector came."""
        with DirectoryStore(path) as store:
            sink = store.begin(BLOCKS)
            sink.put("low", 0, PAGE)
            store.abort()
            assert "image-1" not in Path("/proc/self/maps").read_text()

    def test_writes_that_are_cut_short_go_on(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pwrite = os.pwrite
        cut_short = lambda fd, buffers, offset: pwrite(fd, b"".join(buffers)[:1000], offset)  # noqa: E731
        monkeypatch.setattr(os, "pwritev", cut_short)
        filled(path)
        with DirectoryStore(path) as store:
            assert whole(store) == (1, 3)

    def test_a_page_that_could_not_be_put_is_not_completed(self, path: Path) -> None:
        with DirectoryStore(path) as store:
            initial(store, 1)
            sink = store.begin(BLOCKS)
            with file_size_limit(PAGE_SIZE), pytest.raises(OSError, match="File too large"):
                sink.put("high", 0, PAGE)
            with pytest.raises(ValueError, match="no image to complete"):
                store.complete(2, b"")
            commit(store, 1, 1)
            assert whole(store) == (1, 1)


def fail_at(patch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Let the given call of an os function, counted from 0, fail as on a full disk."""
    real, calls = getattr(os, name), iter(range(1 << 30))

    def fail(*args: object) -> object:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    patch.setattr(os, name, fail)


@pytest.mark.parametrize("step", ["commit", "initial"])
@pytest.mark.parametrize("name", ["open", "posix_fallocate", "pwritev", "fsync", "replace", "unlink"])
def test_any_failing_call(path: Path, name: str, step: str) -> None:
    """The old checkpoint or the new one, whole: in memory unless the store is closed, and on disk always."""
    act, following = (commit, (1, 3)) if step == "commit" else (lambda store, *_: initial(store, 2), (2, 0))
    for call in range(40):
        shutil.rmtree(path, ignore_errors=True)
        filled(path, 2)
        raised = False
        with DirectoryStore(path, fsync=True) as store:
            with pytest.MonkeyPatch.context() as patch:
                fail_at(patch, name, call)
                try:
                    act(store, 1, 3)
                except OSError:
                    raised = True
            with contextlib.suppress(ValueError):  # closed: the fault came after the commit point
                assert whole(store) == ((1, 2) if raised else following)
        with DirectoryStore(path) as store:
            assert whole(store) in ([(1, 2), following] if raised else [following])
            advance(store)
            whole(store)
        if not raised:
            break
    else:
        pytest.fail("never got through")


def test_after_a_failed_fsync_nothing_more_is_committed(path: Path) -> None:
    """The kernel reports a lost page once: only opening again, which replays the log, makes it good."""
    filled(path, 1)
    with DirectoryStore(path, fsync=True) as store:
        with pytest.MonkeyPatch.context() as patch:
            fail_at(patch, "fsync", 0)
            with pytest.raises(OSError, match="No space"):
                commit(store, 1, 2)
        with pytest.raises(StoreError, match="open it again"):
            commit(store, 1, 2)
        assert whole(store) == (1, 1)


class PowerFailure:
    """Copies of a directory as a disk may hold it when the power fails: only what was synced is sure.

    A name may reach the disk by itself or only with its directory's fsync; content only with the file's.
    """

    def __init__(self, path: Path, patch: pytest.MonkeyPatch, kept: contextlib.ExitStack) -> None:
        self.path = path
        self.synced: dict[int, bytes] = {}
        self.names: dict[str, int] = {}
        self._kept = kept
        self._sync_all()
        self.fsync, self.replace = os.fsync, os.replace
        patch.setattr(os, "fsync", self._fsync)
        patch.setattr(os, "replace", self._replace)

    def _sync_all(self) -> None:
        for entry in self.path.iterdir():
            with entry.open("rb") as file:
                self._remember(file.fileno())
        self.names = self._listed()

    def _remember(self, fd: int) -> None:
        copy = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        self._kept.callback(os.close, copy)  # so that its inode number is not given to another file
        self.synced[os.fstat(fd).st_ino] = os.pread(copy, os.fstat(fd).st_size, 0)

    def _listed(self) -> dict[str, int]:
        return {entry.name: entry.stat().st_ino for entry in self.path.iterdir()}

    def _fsync(self, fd: int) -> None:
        self.check()
        self.fsync(fd)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            self.names = self._listed()
        else:
            self._remember(fd)
        self.check()

    def _replace(self, source: Path, target: Path) -> None:
        self.replace(source, target)
        self.check()

    def check(self) -> set[tuple[int, int]]:
        """Open what the disk may hold now; a checkpoint may be gone only for the one after it."""
        found = set()
        for names in (self.names, self._listed()):
            disk = self.path.with_name("disk")
            disk.mkdir()
            for name, inode in names.items():
                (disk / name).write_bytes(self.synced.get(inode, b""))
            with DirectoryStore(disk) as store:
                found.add(whole(store))
            shutil.rmtree(disk)
        return found


def test_fsync_survives_a_power_failure(path: Path) -> None:
    filled(path, 1)
    with contextlib.ExitStack() as kept:
        store = kept.enter_context(DirectoryStore(path, fsync=True))
        failure = PowerFailure(path, kept.enter_context(pytest.MonkeyPatch.context()), kept)
        for number in range(2, 8):
            commit(store, 1, number)
            assert failure.check() == {(1, number)}
        initial(store, 2)
        assert failure.check() == {(2, 0)}
        commit(store, 2, 1)
        assert failure.check() == {(2, 1)}


def test_without_fsync_nothing_waits_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: pytest.fail("synced"))
    filled(path)
