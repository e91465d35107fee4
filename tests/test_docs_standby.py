"""docs/standby.md, followed to the letter with real QEMU: every command on it is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import qemus
from qemu import each_version, free_port, needs_kvm
from qemu_power import powered_guest

PAGE = Path(__file__).parent.parent / "docs" / "standby.md"
PORT = "9998"


WALK, POWER_OFF = PAGE.read_text().split("\n## When the guest powers itself off\n")


def blocks(text: str, language: str) -> list[str]:
    """What stands in its blocks in this language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[str]:
    """The commands of its shell blocks, in order."""
    return [line for block in blocks(text, "sh") for line in block.splitlines()]


def prompts() -> str:
    """What a person types at QEMU's prompt."""
    newest = "( 11)?" if qemus.current().number >= (11,) else "()"
    found = re.findall(rf"^\(qemu{newest}\) (.*)$", PAGE.read_text(), re.MULTILINE)
    return "".join(f"{line}\n" for _, line in found)


@contextmanager
def terminal(command: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """This command in a terminal of its own; `exec`, so that killing it kills the program itself."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    *before, last = command.split("; ", 1)
    process = subprocess.Popen(
        "; ".join([*before, f"exec {last}"]),
        shell=True,
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str], text: str) -> str:
    """Read on until a line has this text in it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return line
    raise AssertionError(f"it never said '{text}': {''.join(lines)}")


def done(command: str, folder: Path) -> str:
    """Run to its end."""
    with terminal(command, folder) as process:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
        return out


@needs_kvm
@each_version
def test_from_nothing_to_a_restored_vm(tmp_path: Path) -> None:
    port = str(free_port())
    standby, start, inspect, check, piped, restore, mapped = (c.replace(PORT, port) for c in commands(WALK))
    with terminal(f"{standby} -v", tmp_path) as holding:
        said(holding, f"listening at tcp:127.0.0.1:{port}")
        with terminal(start, tmp_path) as primary:
            assert primary.stdin is not None
            primary.stdin.write(prompts().replace(PORT, port))
            primary.stdin.flush()
            said(holding, "ready")
            said(holding, "round 2")  # a VM is protected from its first whole round on
            primary.kill()
        said(holding, "claim won")
        assert holding.wait(20) == 0
    assert "machine: pc-i440fx" in done(inspect, tmp_path)
    assert "loads: " in done(check, tmp_path)
    runs_again(piped, tmp_path)
    done(restore, tmp_path)
    runs_again(mapped, tmp_path)


def runs_again(command: str, folder: Path) -> None:
    with terminal(f"{command} -monitor stdio", folder) as restored:
        assert restored.stdin is not None
        status = ""
        while "running" not in status:  # first it is still loading
            assert "running" in status or "inmigrate" in status or not status
            restored.stdin.write("info status\n")
            restored.stdin.flush()
            status = said(restored, "VM status: ")


@contextmanager
def watched(
    folder: Path,
) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str], subprocess.Popen[str]]]:
    """Standby, Primary and watcher, as the page starts them, at work; a mark of before is there."""
    (watcher,) = blocks(POWER_OFF, "python")
    (folder / "watch-power.py").write_text(watcher)
    (folder / "vm1.off").touch()
    port = str(free_port())
    standby, start, watch = (c.replace(PORT, port) for c in commands(POWER_OFF))
    bios = " ".join(powered_guest(folder))
    with terminal(f"{standby} -v", folder) as holding:
        said(holding, "listening")
        with terminal(f"{start} {bios}", folder) as primary:
            assert primary.stdin is not None
            primary.stdin.write(prompts().replace(PORT, port))
            primary.stdin.flush()
            said(holding, "round 2")
            with terminal(watch, folder) as watching:
                said(watching, "watching")
                yield holding, primary, watching


@needs_kvm
@each_version
def test_a_guest_that_powers_itself_off_is_not_brought_back(tmp_path: Path) -> None:
    with watched(tmp_path) as (holding, primary, watching):
        assert primary.stdin is not None
        primary.stdin.write("system_powerdown\n")  # which this guest obeys
        primary.stdin.flush()
        said(watching, "the guest has powered itself off")
        assert primary.wait(20) == 0
        assert watching.wait(20) == 0
        said(holding, "vm1 is off")
        assert holding.wait(20) == 0
    assert not (tmp_path / "vm1.mig").exists()


@needs_kvm
def test_a_guest_whose_qemu_is_killed_is_brought_back(tmp_path: Path) -> None:
    with watched(tmp_path) as (holding, primary, watching):
        primary.kill()
        assert watching.wait(20) == 0
        assert holding.wait(20) == 0
    assert (tmp_path / "vm1.mig").exists()
