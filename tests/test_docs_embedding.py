"""The examples of docs/embedding.md and docs/failover.md run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from documented import example

from colo_fsm.arbiter import open_arbiter
from colo_fsm.fsm import Side


def test_a_guest_with_dirty_pages(tmp_path: Path) -> None:
    code = example("embedding.md", "dirty pages") + example("embedding.md", "a pair of them")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.stdout == "b'seven' 1\n", ran.stderr


def test_a_claim_by_a_script(tmp_path: Path) -> None:
    """First come, for good, and the same answer again."""
    script = tmp_path / "claim.sh"
    script.write_text(example("failover.md", "claim.sh"))
    arbiter = open_arbiter(f"exec:sh {script} {tmp_path}")
    for _ in range(2):
        assert arbiter.claim(7, Side.SECONDARY).winner is Side.SECONDARY
        assert arbiter.claim(7, Side.PRIMARY).winner is Side.SECONDARY
    assert arbiter.claim(8, Side.PRIMARY).winner is Side.PRIMARY
    assert sorted(file.name for file in tmp_path.iterdir()) == ["claim.sh", "generation-7", "generation-8"]


def test_a_folder_that_is_not_there_is_no_answer(tmp_path: Path) -> None:
    script = tmp_path / "claim.sh"
    script.write_text(example("failover.md", "claim.sh"))
    ran = subprocess.run(["sh", script, tmp_path / "none", "7", "primary"], capture_output=True, check=False)
    assert ran.returncode == 1
