"""docs/frozen.md, to the letter: the standby is killed, and the VM runs again."""

from __future__ import annotations

from pathlib import Path

import pytest
from qemu import free_port, needs_kvm
from test_docs_standby import PORT, commands, prompts, said, terminal

PAGE = Path(__file__).parent.parent / "docs" / "frozen.md"


@needs_kvm
def test_the_standby_is_killed_and_the_vm_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parent.parent))  # tests/qemu.py is no package that has a qmp
    port = str(free_port())
    hold, start, watch = (line.replace(PORT, port) for line in commands(PAGE.read_text()))
    with terminal(hold, tmp_path) as standby:
        generation = said(standby, "generation").split()[-1]
        with terminal(start, tmp_path) as primary:
            said(primary, "QEMU")
            with terminal(
                watch.replace("--generation N", f"--generation {generation}"), tmp_path
            ) as watching:
                said(watching, "waiting")
                assert primary.stdin is not None
                primary.stdin.write(prompts().replace(PORT, port))
                primary.stdin.flush()
                said(watching, "watching")
                standby.kill()
                said(watching, "alone: the VM runs")
                assert watching.wait() == 0
                primary.stdin.write("info status\n")
                primary.stdin.flush()
                assert "running" in said(primary, "VM status")
