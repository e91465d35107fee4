"""A store in a directory: what is there when it is opened again, and what it refuses to open."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from replicas import descriptors
from store_process import (
    BLOCKS,
    advance,
    changed,
    commit,
    delta,
    filled,
    initial,
    process,
    whole,
)

from colo_fsm.replica.store import StoreError
from colo_fsm.replica.store.directory import DirectoryStore
from colo_fsm.stream.memory import PAGE_SIZE

PAGE = b"\x5a" * PAGE_SIZE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


class TestReopened:
    @pytest.mark.parametrize("fsync", [False, True])
    def test_the_last_checkpoint_is_there(self, path: Path, fsync: bool) -> None:
        for _ in range(8):
            with DirectoryStore(path, fsync=fsync) as store:
                before = whole(store)
                assert before < advance(store) < advance(store)
                after = whole(store)
            with DirectoryStore(path) as store:
                assert whole(store) == after

    def test_what_a_kill_left_is_swept(self, path: Path, tmp_path: Path) -> None:
        filled(path)
        left = tmp_path / "left"
        with DirectoryStore(path) as store:
            store.begin(BLOCKS).put("low", 0, PAGE)
            shutil.copytree(path, left)
        (left / "checkpoint.new").write_bytes(b"half a lo")
        with DirectoryStore(left) as store:
            assert whole(store) == (1, 3)
            assert {entry.name for entry in left.iterdir()} == {"colo-store", "checkpoint", "image-1"}

    def test_only_its_owner_may_read_it(self, path: Path) -> None:
        filled(path)
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in [path, *path.iterdir()]}
        assert modes.pop("store") == 0o700
        assert set(modes.values()) == {0o600}

    def test_a_guest_without_memory(self, path: Path) -> None:
        with DirectoryStore(path) as store:
            store.begin({})
            store.complete(5, b"device", {"guest": "none \u00e9"})
        with DirectoryStore(path) as store:
            assert store.newest is not None
            assert (store.newest.generation, dict(store.newest.blocks)) == (5, {})
            assert (store.newest.device, store.newest.meta) == (b"device", {"guest": "none \u00e9"})

    def test_disk_use_is_bounded(self, path: Path) -> None:
        image = sum(BLOCKS.values())
        small = 4096  # checksums, header, device state
        with DirectoryStore(path) as store:
            for _ in range(50):
                number = advance(store)
                pages = len(changed(*number)) if number[1] else 0
                used = sum(entry.stat().st_size for entry in path.iterdir())
                assert used <= image + pages * PAGE_SIZE + small
            sink = store.begin(BLOCKS)
            sink.put("low", 0, PAGE)
            used = sum(entry.stat().st_size for entry in path.iterdir())
            assert used <= 2 * image + 10 * PAGE_SIZE + small

    def test_the_image_is_not_copied_to_memory(self, path: Path) -> None:
        size = 16 << 20
        tracemalloc.start()
        try:
            with DirectoryStore(path) as store:
                sink = store.begin({"ram": size})
                for offset in range(0, size, 16 * PAGE_SIZE):
                    sink.put("ram", offset, PAGE)
                store.complete(1, b"")
            with DirectoryStore(path) as store:
                store.commit(delta(("ram", PAGE_SIZE, PAGE)), b"")
            assert tracemalloc.get_traced_memory()[1] < size // 8
        finally:
            tracemalloc.stop()


class TestLock:
    def test_two_processes(self, path: Path) -> None:
        with process("hold", path) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
            with pytest.raises(StoreError, match="store is in use by another store"):
                DirectoryStore(path)
        with DirectoryStore(path) as store:  # a killed process holds nothing
            initial(store, 1)

    def test_twice_in_one_process(self, path: Path) -> None:
        with DirectoryStore(path) as store:
            initial(store, 1)
            with pytest.raises(StoreError, match="store is in use by another store"):
                DirectoryStore(path)
            commit(store, 1, 1)
            assert whole(store) == (1, 1)


class TestDamage:
    def sound(self, path: Path) -> bool:
        """Whether the store opens, which it may only as it was."""
        try:
            with DirectoryStore(path) as store:
                assert whole(store) == (1, 3)
        except StoreError as error:
            assert str(path) in str(error)  # noqa: PT017 - either outcome is allowed
            return False
        return True

    def flip(self, file: Path, offset: int) -> None:
        data = bytearray(file.read_bytes())
        data[offset] ^= 1 << offset % 8
        file.write_bytes(data)

    @pytest.mark.parametrize("name", ["colo-store", "checkpoint", "image-1"])
    def test_a_flipped_bit_is_found(self, path: Path, tmp_path: Path, name: str) -> None:
        filled(path)
        size = (path / name).stat().st_size
        pages = sum(BLOCKS.values())
        copy = tmp_path / "copy"
        # all of the structure, a sample of the pages' content
        for offset in sorted({*range(min(size, 400)), *range(0, size, 499), *range(max(size - 64, 0), size)}):
            shutil.copytree(path, copy)
            self.flip(copy / name, offset)
            index = offset // PAGE_SIZE if offset < pages else (offset - pages) // 4
            healed = name == "image-1" and index in changed(1, 3)  # the log writes it again
            before = (copy / "image-1").read_bytes()
            assert self.sound(copy) == healed, offset
            assert healed or (copy / "image-1").read_bytes() == before, offset
            shutil.rmtree(copy)

    @pytest.mark.parametrize("name", ["checkpoint", "image-1"])
    @pytest.mark.parametrize("size", [0, 11, 100, -1, -4096])
    def test_a_file_cut_short_is_found(self, path: Path, name: str, size: int) -> None:
        filled(path, 2)
        os.truncate(path / name, size if size >= 0 else (path / name).stat().st_size + size)
        assert not self.sound(path)

    def test_a_lost_image_is_found(self, path: Path) -> None:
        filled(path)
        (path / "image-1").unlink()
        assert not self.sound(path)

    def test_the_image_of_another_round_is_found(self, path: Path, tmp_path: Path) -> None:
        filled(path, 1)
        shutil.copy(path / "image-1", tmp_path / "old")
        with DirectoryStore(path) as store:
            commit(store, 1, 2)
            commit(store, 1, 3)
        assert set(changed(1, 2)) - set(changed(1, 3))
        shutil.copy(tmp_path / "old", path / "image-1")
        assert not self.sound(path)


class TestForeign:
    """What is not a store is refused, and stays as it is."""

    def test_a_directory_with_something_else(self, path: Path) -> None:
        path.mkdir()
        (path / "image-1").write_text("a picture")
        with pytest.raises(StoreError, match="store holds something else"):
            DirectoryStore(path)
        assert [entry.name for entry in path.iterdir()] == ["image-1"]

    def test_another_version(self, path: Path) -> None:
        filled(path)
        (path / "colo-store").write_text("colo_fsm store, version 1\n")
        before = {entry.name: entry.read_bytes() for entry in path.iterdir()}
        with pytest.raises(StoreError, match="version 1"):
            DirectoryStore(path)
        assert {entry.name: entry.read_bytes() for entry in path.iterdir()} == before

    def test_a_file(self, path: Path) -> None:
        path.write_text("notes")
        with pytest.raises(StoreError, match="not a directory"):
            DirectoryStore(path)

    def test_an_empty_directory_will_do(self, path: Path) -> None:
        path.mkdir()
        filled(path)


FORKS = """
import os, sys
from colo_fsm.replica import DirectoryStore

store = DirectoryStore(sys.argv[1])
child = os.fork()
if child == 0:
    print("forked", flush=True)  # the child's word: its parent's would come before the child has run at all
    sys.stdin.read()  # lives on until the test lets it end
    os._exit(0)
os.kill(os.getpid(), 9)
"""


def test_a_forked_child_does_not_keep_the_directory(tmp_path: Path) -> None:
    """Its parent was killed: whoever restarts that finds the store free."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKS, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "forked\n"
        parent.wait()
        DirectoryStore(tmp_path).close()
        parent.communicate()


def test_a_store_that_is_closed_keeps_no_descriptor(tmp_path: Path) -> None:
    before = descriptors()
    for checkpoint in (1, 2):
        with DirectoryStore(tmp_path) as store:
            initial(store, checkpoint)
            store.begin(BLOCKS)
    assert descriptors() == before
