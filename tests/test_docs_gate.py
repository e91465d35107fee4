"""docs/gate.md, to the letter: a VM with a gate is held, its standby is killed, and its network is opened."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from qemu import free_port, needs_kvm
from test_docs_standby import PORT, commands, prompts, said, terminal

PAGE = Path(__file__).parent.parent / "docs" / "gate.md"
NEXT = re.findall(r"^\(qemu\) (.*)$", PAGE.read_text(), re.MULTILINE)


@needs_kvm
def test_the_gate_is_opened_when_its_standby_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parent.parent))  # tests/qemu.py is no package that has a qmp
    port = str(free_port())
    hold, start, watch = (line.replace(PORT, port) for line in commands(PAGE.read_text()))
    with terminal(hold, tmp_path) as standby:
        generation = said(standby, "generation").split()[-1]
        with terminal(start, tmp_path) as primary:
            said(primary, "QEMU")
            said(standby, "the packets of network card 0 come to this gate")
            with terminal(watch.replace("generation N", f"generation {generation}"), tmp_path) as watching:
                said(watching, "waiting")
                assert primary.stdin is not None
                primary.stdin.write(prompts().replace(PORT, port) + "qom-list /objects\n")
                primary.stdin.flush()
                said(primary, "filter-redirector")
                said(watching, "watching")
                standby.kill()
                said(watching, "alone: the VM runs")
                assert watching.wait() == 0
                primary.stdin.write("object_del gate\n")
                primary.stdin.flush()
                assert "not found" in said(primary, "Error")
            with terminal(f"{hold} --replace-store", tmp_path) as standby:
                said(standby, "listening")
                primary.stdin.writelines(f"{line}\n" for line in NEXT)
                primary.stdin.flush()
                said(standby, "the packets of network card 0 come to this gate")
