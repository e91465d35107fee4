"""QMP with a QEMU of our own: what it refuses and what it says last are told in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest
import qemus
from qemu import needs_qemu
from qemu_lines import PATIENCE

from colo_fsm.conform.targets.qemu import BARE
from colo_fsm.conform.targets.qmp import QemuError, last_words, running


@needs_qemu
def test_it_answers_and_refuses(tmp_path: Path) -> None:
    with running([qemus.PROGRAM, "-machine", "none", *BARE], tmp_path / "log", PATIENCE) as qemu:
        version = qemu.ask("query-version")["qemu"]
        assert (version["major"], version["minor"]) == qemus.current().number[:2]
        with pytest.raises(QemuError, match=r"^no-such-command: The command no-such-command has not been"):
            qemu.ask("no-such-command")
        with pytest.raises(QemuError, match=r"^migrate-set-parameters: .*x-checkpoint-delay"):
            qemu.ask("migrate-set-parameters", x_checkpoint_delay="soon")
        assert qemu.ask("query-status")["running"]
        qemu.process.kill()
        with pytest.raises(QemuError, match=r"^ended by SIGKILL before it has answered query-status$"):
            qemu.ask("query-status")


@needs_qemu
def test_its_events_are_no_answers(tmp_path: Path) -> None:
    with running([qemus.PROGRAM, "-machine", "none", *BARE], tmp_path / "log", PATIENCE) as qemu:
        qemu.ask("stop")
        qemu.ask("cont")
        assert qemu.ask("query-status")["status"] == "running"
        assert qemu.exit is None


def test_last_words_are_without_warnings_and_names() -> None:
    said = (
        "qemu-system-x86_64: warning: host doesn't support requested feature\n"
        "qemu-system-x86_64: -mon x: warning: deprecated\n"
        "\n"
        "qemu-system-x86_64: Unexpected COLO message 6, expected 5\n"
        "GLib: failed to allocate 8 bytes\n"
    )
    assert last_words(said) == "Unexpected COLO message 6, expected 5; GLib: failed to allocate 8 bytes"
    assert len(last_words("x" * 10_000)) == 300
