"""Who watches a standby: what it is told by its handles, and what it can ask for, with a real process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from handles import ctl, http_ask, status, until
from qemu import free_port
from standby_process import REPLACE, StandbyProcess, StreamPrimary

from colo_fsm.replica import DirectoryStore


@attrs.frozen
class Watched:
    """A standby with all its handles."""

    process: StandbyProcess
    folder: Path
    port: int

    def pages(self) -> list[int]:
        return [http_ask(self.port, page)[0] for page in ("/primary", "/secondary", "/health")]

    def status(self) -> dict[str, object]:
        return status(self.folder / "ctl")

    def metric(self, name: str) -> str:
        lines = http_ask(self.port, "/metrics")[1].splitlines()
        return next(line.rpartition(" ")[2] for line in lines if line.startswith(f"colo_fsm_{name}"))


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    port = free_port()
    handles = ("--control", str(tmp_path / "ctl"), "--http", f"tcp:127.0.0.1:{port}")
    with StandbyProcess(tmp_path, *handles) as process:
        yield Watched(process, tmp_path, port)


def test_a_standby_is_ready_from_its_first_whole_round_on(watched: Watched) -> None:
    assert watched.pages() == [503, 503, 503]
    assert watched.status()["why"] == "no Primary has come yet"
    with StreamPrimary(watched.process.connect()) as primary:
        primary.begin()
        until(lambda: watched.status()["why"] == "the VM's first round is not whole yet")
        assert watched.pages() == [503, 503, 503]
        primary.rounds(1, 3)
        until(lambda: watched.status()["checkpoints"] == 3)
        assert watched.pages() == [503, 200, 200]
        known = watched.status()
        assert (known["ready"], known["runs"], known["generation"]) == (
            True,
            False,
            watched.process.generation,
        )
        assert watched.metric("checkpoints_total") == "3"


def test_whoever_watches_can_ask_a_standby_for_a_failover(watched: Watched) -> None:
    with StreamPrimary(watched.process.connect()) as primary:
        primary.begin()
        until(lambda: watched.status()["why"] == "the VM's first round is not whole yet")
        refused = ctl(watched.folder, "ctl", "failover")
        assert refused.exit_code == 1
        assert "no whole checkpoint to go on from: the VM's first round is not whole yet" in refused.output
        primary.rounds(1, 2)
        until(lambda: watched.status()["ready"] is True)
        won = ctl(watched.folder, "ctl", "failover")
        assert won.exit_code == 0
        assert "the checkpoint is to be run, where --on-failover says" in won.output
        assert watched.process.wait() == 0
        assert watched.process.objects[-1]["won"] is True


def test_a_standby_is_asked_to_end_in_order(watched: Watched) -> None:
    with StreamPrimary(watched.process.connect()) as primary:
        primary.begin().rounds(1, 1)
        assert ctl(watched.folder, "ctl", "leave").exit_code == 0
        assert watched.process.wait() == 0
    assert watched.process.objects[-1]["state"] == "ended"


def test_a_standby_does_not_let_a_new_vm_replace_what_it_holds(tmp_path: Path) -> None:
    with StandbyProcess(tmp_path) as standby, StreamPrimary(standby.connect()) as primary:
        primary.begin().rounds(1, 2)
        standby.terminate()
        assert standby.wait() == 0
    with (
        pytest.raises(AssertionError, match="holds round 2 of a VM, which the first round"),
        StandbyProcess(tmp_path),
    ):
        pass
    with DirectoryStore(standby.store) as store:
        assert store.newest is not None
    with StandbyProcess(tmp_path, REPLACE) as standby, StreamPrimary(standby.connect()) as primary:
        primary.begin().rounds(1, 1)
        standby.terminate()
        assert standby.wait() == 0


def test_a_handle_that_cannot_be_had_is_said_and_nothing_is_held(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="No such file or directory"),
        StandbyProcess(tmp_path, "--control", str(tmp_path / "nowhere" / "ctl")),
    ):
        pass
