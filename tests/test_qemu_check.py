"""Whether a checkpoint loads is what the QEMU says that was asked. `test_qemu_restore` asks a real one."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import qemus
from qemu import needs_qemu
from vm_link import keep

from colo_fsm.qemu import VmCheckpoint
from colo_fsm.qemu.hold import check
from colo_fsm.qemu.hold.check import CheckFailed, check_loads
from colo_fsm.replica import MemoryStore

FAKE = Path(__file__).parent / "fake_qemu.py"


def ask(folder: Path, mode: str) -> str:
    """Check a small VM with a stand-in for QEMU of this mode; it must be gone then."""
    with MemoryStore() as store:
        keep(store, 2)
        assert store.newest is not None
        vm = VmCheckpoint.of(store.newest)
        gc.collect()
        before = os.listdir("/proc/self/fd")
        try:
            status = check_loads(vm, f"'{sys.executable}' -S {FAKE} {mode} '{folder}'")
            assert (folder / "got").read_bytes() == b"".join(map(bytes, vm.stream()))
            return status
        finally:
            assert not Path("/proc", (folder / "pid").read_text()).exists()
            assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(("command", "said"), [("'", "No closing quotation"), (" ", "name the command")])
def test_a_command_that_is_none(command: str, said: str) -> None:
    with MemoryStore() as store:
        keep(store, 1)
        assert store.newest is not None
        with pytest.raises(CheckFailed, match=said):
            check_loads(VmCheckpoint.of(store.newest), command)


@needs_qemu
@pytest.mark.parametrize("depth", [1, 120])
def test_a_qemu_that_does_not_see_our_folder_is_given_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    """One in a chroot or a container has a /tmp of its own; and a socket's path has a longest length."""
    ours = tmp_path / ("d" * depth)
    ours.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(ours))
    elsewhere = tmp_path / "qemu"
    elsewhere.write_text(f'#!/bin/sh\nrm -r {ours}/colo-fsm-*\nexec {qemus.PROGRAM} "$@"\n')
    elsewhere.chmod(0o755)
    with MemoryStore() as store:
        keep(store, 1)
        assert store.newest is not None
        with pytest.raises(CheckFailed, match="let TMPDIR name a short folder"):
            check_loads(VmCheckpoint.of(store.newest), f"{elsewhere} -nodefaults -display none")


def test_its_status_when_it_has_loaded(tmp_path: Path) -> None:
    assert ask(tmp_path, "loads") == "paused"
    arguments = (tmp_path / "arguments").read_text()
    assert arguments.startswith("-S -qmp unix:")
    assert ",server=on,wait=off -incoming unix:" in arguments


@pytest.mark.parametrize(
    ("mode", "words"),
    [("ends", "Size mismatch: pc.ram"), ("leaves", "I have had enough"), ("refuses", "it does not say")],
)
def test_its_own_words_when_it_does_not(
    tmp_path: Path, mode: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode == "refuses":
        monkeypatch.setattr(check, "PARTING", 0.01)
    with pytest.raises(CheckFailed, match=f"checkpoint 2 does not load: {words}$"):
        ask(tmp_path, mode)


def test_one_that_never_comes_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [0.0]
    now, asked = time.monotonic, check._ask

    def ask_slowly(*what: Any) -> Any:
        passed[0] += check.PATIENCE / 3
        return asked(*what)

    monkeypatch.setattr(time, "monotonic", lambda: now() + passed[0])
    monkeypatch.setattr(check, "_ask", ask_slowly)
    monkeypatch.setattr(check, "PARTING", 0.01)
    with pytest.raises(CheckFailed, match="it takes too long"):
        ask(tmp_path, "never")


def test_one_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "PATIENCE", 0.2)
    monkeypatch.setattr(check, "PARTING", 0.01)
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)  # however long it takes to start
    with pytest.raises(CheckFailed, match="timed out"):
        ask(tmp_path, "mute")


def test_one_that_ends_before_it_listens() -> None:
    with MemoryStore() as store:
        keep(store, 0)
        assert store.newest is not None
        with pytest.raises(CheckFailed, match="checkpoint 0 does not load: I am a shell"):
            check_loads(VmCheckpoint.of(store.newest), "sh -c 'echo I am a shell >&2'")


def test_one_that_does_not_start() -> None:
    with MemoryStore() as store:
        keep(store, 0)
        assert store.newest is not None
        with pytest.raises(CheckFailed, match="cannot start 'no-such-qemu': No such file or directory"):
            check_loads(VmCheckpoint.of(store.newest), "no-such-qemu -m 24")
