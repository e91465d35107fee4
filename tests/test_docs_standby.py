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

PAGE = Path(__file__).parent.parent / "docs" / "standby.md"
PORT = "9998"


def commands() -> list[str]:
    """The commands of the page's shell blocks, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def prompts() -> str:
    """What a person types at QEMU's prompt."""
    newest = "( 11)?" if qemus.current().number >= (11,) else "()"
    found = re.findall(rf"^\(qemu{newest}\) (.*)$", PAGE.read_text(), re.MULTILINE)
    return "".join(f"{line}\n" for _, line in found)


@contextmanager
def terminal(command: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """This command in a terminal of its own; `exec`, so that killing it kills the program itself."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        f"exec {command}",
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
    standby, start, inspect, check, restore, again = (c.replace(PORT, port) for c in commands())
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
    done(restore, tmp_path)
    with terminal(f"{again} -monitor stdio", tmp_path) as restored:
        assert restored.stdin is not None
        status = ""
        while "running" not in status:  # first it is still loading
            assert "running" in status or "inmigrate" in status or not status
            restored.stdin.write("info status\n")
            restored.stdin.flush()
            status = said(restored, "VM status: ")
