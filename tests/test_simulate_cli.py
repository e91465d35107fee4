"""`colo-fsm simulate`: what it prints, how it ends, and what it leaves to replay."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from colo_fsm.check.simulate import Schedule, generate
from colo_fsm.cli.simulate import simulate
from colo_fsm.replica.outbox import Outbox


def run(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, arguments)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_holds() -> None:
    result = run("--seeds", "20", "--jobs", "2")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("schedules    20: ")
    assert "lost 0, split brain 0, linearizability 0" in result.output
    assert not Path("simulate-failed.json").exists()


def test_a_worker_takes_no_interrupt() -> None:
    """A terminal sends it to all of them: whoever is asked ends them, and says so, whatever comes first."""
    told = [sys.executable, "-m", "colo_fsm", "simulate", "--seeds", "60", "--jobs", "2"]
    with subprocess.Popen(told, stdout=subprocess.PIPE, text=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(workers := children.read_text().split()) < 2:
            assert process.poll() is None
            time.sleep(0.001)
        for worker in workers:
            os.kill(int(worker), signal.SIGINT)
        said, _ = process.communicate()
    assert (process.returncode, said.startswith("schedules    60: ")) == (0, True)


def test_as_json() -> None:
    result = run("--seeds", "10", "--first", "100", "--jobs", "1", "--json")
    assert result.exit_code == 0
    data = json.loads(result.output)
    assert (data["runs"], data["failed"]) == (10, [])


def test_some_kinds() -> None:
    data = json.loads(run("--seeds", "20", "--jobs", "1", "--faults", "crash, silent", "--json").output)
    assert set(data["struck"]) == {"crash", "silent"}


def test_minutes() -> None:
    data = json.loads(run("--minutes", "0.01", "--jobs", "1", "--json").output)
    assert data["runs"] > 0


class TestFailing:
    @pytest.fixture(autouse=True)
    def bug(self) -> Iterator[pytest.MonkeyPatch]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Outbox, "hold", lambda self, deliver, drop=None: deliver())
            yield patch

    @pytest.mark.parametrize("flags", [(), ("--json",)])
    def test_the_short_schedule_can_be_replayed(self, flags: tuple[str, ...]) -> None:
        result = run("--seeds", "60", "--jobs", "1", *flags)
        assert result.exit_code == 1
        assert "colo-fsm simulate --replay simulate-failed.json" in result.stderr
        if flags:
            (failed,) = json.loads(result.stdout)["failed"]
            assert failed["problems"][0]["kind"] == "lost"
        else:
            assert "FAILED  lost: " in result.stdout
        again = run("--replay", "simulate-failed.json")
        assert again.exit_code == 1
        assert "it does not hold; trace " in again.output
        assert again.output == run("--replay", "simulate-failed.json").output

    def test_mended(self, bug: pytest.MonkeyPatch) -> None:
        run("--seeds", "60", "--jobs", "1")
        bug.undo()
        result = run("--replay", "simulate-failed.json")
        assert result.exit_code == 0, result.output
        assert "all holds; trace " in result.output


def test_replay_as_json(tmp_path: Path) -> None:
    path = tmp_path / "schedule.json"
    path.write_text(generate(3).to_json())
    data = json.loads(run("--replay", str(path), "--json").output)
    assert Schedule.from_json(json.dumps(data["schedule"])) == generate(3)
    assert data["trace"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--faults", "earthquake"),
        ("--seeds", "0"),
        ("--jobs", "0"),
        ("--minutes", "0"),
        ("--replay", "missing.json"),
        ("--replay", "nonsense.json"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...]) -> None:
    Path("nonsense.json").write_text("{}")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.output


def test_help() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for word in ("Example:", "Exit status:", "guest-failure", "inject"):
        assert word in result.output
