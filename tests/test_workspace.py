"""A guest's private directory: gone with its process, however that ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from colo_fsm.services import workspace
from colo_fsm.services.sqlite import SqliteGuest
from colo_fsm.services.workspace import PREFIX, NoRoom, Workspace, sweep

ONE = """
import sys
from pathlib import Path
from colo_fsm.services.workspace import Workspace
here = Workspace(4096, Path(sys.argv[1]))
(here.path / "file").write_bytes(b"much")
print(here.path, flush=True)
"""


@contextlib.contextmanager
def process(folder: Path, then: str = "sys.stdin.read()") -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """One that has a workspace in `folder`; and where."""
    command = [sys.executable, "-c", ONE + then, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            yield started, Path(started.stdout.readline().strip())
        finally:
            started.kill()


def test_it_is_removed_when_it_is_closed(tmp_path: Path) -> None:
    made = Workspace(4096, tmp_path)
    assert list(tmp_path.iterdir()) == [made.path]
    assert made.path.stat().st_mode & 0o777 == 0o700
    (made.path / "file").touch()
    made.close()
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_it_is_removed_at_the_end_of_the_interpreter_but_not_of_a_forked_child(tmp_path: Path) -> None:
    child = "import os\nif os.fork() == 0: sys.exit()\nos.wait(); assert here.path.exists(); sys.stdin.read()"
    with process(tmp_path, child) as (started, path):
        started.communicate()
        assert started.returncode == 0
    assert not path.exists()


def test_what_a_killed_process_has_left_is_removed_by_the_next_and_what_a_living_one_has_is_not(
    tmp_path: Path,
) -> None:
    foreign = tmp_path / f"{PREFIX}but-a-file"
    foreign.touch()
    with process(tmp_path) as (killed, left), process(tmp_path) as (_, kept):
        killed.kill()
        killed.wait()
        assert (left.exists(), kept.exists()) == (True, True)
        with contextlib.closing(Workspace(4096, tmp_path)) as mine:
            assert sorted(tmp_path.iterdir()) == sorted([mine.path, kept, foreign])
            sweep(tmp_path)
            assert mine.path.exists()


def test_a_sweeper_that_is_quicker_than_the_lock_is_outlasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, swept = workspace._locked, list[Path]()

    def swept_first(path: Path) -> int | None:
        if not swept:
            swept.append(path)
            path.rmdir()
        return lock(path)

    monkeypatch.setattr(workspace, "_locked", swept_first)
    with contextlib.closing(Workspace(4096, tmp_path)) as mine:
        assert mine.path.is_dir()
        assert mine.path != swept[0]


def test_it_is_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    large.mkdir()
    free = {small: 1 << 20, large: 1 << 30}
    monkeypatch.setattr(workspace, "_candidates", lambda: [small, large])
    monkeypatch.setattr(workspace, "_free", free.__getitem__)
    for size, where in (1 << 20, small), ((1 << 20) + 1, large):
        with contextlib.closing(Workspace(size)) as made:
            assert made.path.parent == where
    with pytest.raises(NoRoom, match=f"1048576 bytes free in {small} and 1073741824 bytes free in {large}"):
        Workspace((1 << 30) + 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_is_told_to_end_leaves_nothing(tmp_path: Path, number: int) -> None:
    options = [
        "--listen",
        "unix:link",
        "--arbiter",
        "sqlite:claim.db",
        "--guest",
        "sqlite",
        "--serve",
        "unix:s",
    ]
    command = [sys.executable, "-m", "colo_fsm", "secondary", *options]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() != ""
            (path,) = {Path(file).parent for file in _files(started.pid) if PREFIX in file}
            started.send_signal(number)
            started.communicate()
        finally:
            started.kill()
    assert not path.exists()


def _files(pid: int) -> list[str]:
    folder = Path(f"/proc/{pid}/fd")
    return [os.readlink(file) for file in folder.iterdir() if os.readlink(file).endswith(".db")]


def test_a_guest_is_in_the_directory_that_it_is_given(tmp_path: Path) -> None:
    with contextlib.closing(SqliteGuest(1 << 20, directory=tmp_path)) as guest:
        assert guest.connection.execute("PRAGMA database_list").fetchone()[2].startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
