"""A VM that is refused is never left frozen: it runs on by itself."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
import qemus
from qemu import Qemu, each_version, needs_kvm, refused_capabilities
from qemu_guest import count, counting_guest
from standby_process import StandbyProcess

pytestmark = needs_kvm

DELAY = 50
"""Milliseconds between checkpoints: a QEMU that believes in COLO would meet the closed link at once."""

DISK = ("-blockdev", "null-co,node-name=d,size=1048576,read-zeroes=on", "-device", "virtio-blk-pci,drive=d")


def a_vm(folder: Path, *extra: str, memory: int = 32) -> Qemu:
    return Qemu(folder, "primary", memory=memory, extra=(*counting_guest(folder), *extra))


def counts_on(primary: Qemu) -> None:
    """Nobody has helped: its migration has come to an end, and its guest counts on."""

    def over() -> bool | None:
        status = primary.qmp("query-migrate").get("status")
        return status == "failed" or primary.left_colo or None

    primary.until(over, "end of the migration")
    assert primary.qmp("query-status")["status"] == "running"
    primary.qmp("stop")
    before = count(primary.read)
    primary.qmp("cont")
    primary.until(lambda: primary.read(0x10000, 4) != before.to_bytes(4, "little") or None, "a count")


def ends_by_the_printed_command(primary: Qemu) -> None:
    """Where it believes in COLO still, `x-colo-lost-heartbeat` puts the migration away."""
    if primary.qmp("query-migrate")["status"] == "colo":
        primary.lost_heartbeat()
        primary.until(lambda: primary.qmp("query-migrate")["status"] == "completed" or None, "end of COLO")
    assert primary.qmp("query-status")["status"] == "running"


@each_version
class TestRefused:
    def test_a_disk(self, tmp_path: Path) -> None:
        """Known only when all has arrived, when a QEMU up to 10.0 stands still."""
        with StandbyProcess(tmp_path) as standby, a_vm(tmp_path, *DISK) as primary:
            primary.enable_colo(DELAY)
            primary.migrate(standby.uri)
            told = standby.says("has disks.*its VM runs on.*; the store is unchanged")[0]
            assert ("`x-colo-lost-heartbeat`" in told) is (qemus.current().number < (11,))
            counts_on(primary)
            assert "claim" not in standby.said
            ends_by_the_printed_command(primary)

    def test_a_capability(self, tmp_path: Path) -> None:
        with StandbyProcess(tmp_path) as standby:
            for capability in refused_capabilities():
                with a_vm(tmp_path) as primary:
                    primary.enable_colo(DELAY, **{capability: True})
                    before = len(standby.said)
                    primary.migrate(standby.uri)
                    standby.says(rf"switch .*\b{capability}\b.* off", start=before)
                    counts_on(primary)

    def test_multifd_is_one_message_however_many_connections(self, tmp_path: Path) -> None:
        with StandbyProcess(tmp_path) as standby, a_vm(tmp_path) as primary:
            primary.enable_colo(DELAY, multifd=True)
            primary.qmp("migrate-set-parameters", multifd_channels=8)
            primary.migrate(standby.uri)
            counts_on(primary)
            with standby.connect() as stranger:
                stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                standby.says("is not that of a migration stream")
            assert standby.said.count("refused") == 2
            assert standby.said.count("switch multifd off at the Primary") == 1

    @pytest.mark.parametrize("memory", [32, 512])
    def test_more_memory_than_is_taken(self, tmp_path: Path, memory: int) -> None:
        limit = ("--memory-limit", str(16 << 20))
        with StandbyProcess(tmp_path, *limit) as standby, a_vm(tmp_path, memory=memory) as primary:
            primary.enable_colo(DELAY)
            primary.migrate(standby.uri)
            standby.says("over the limit of 16777216.*its VM runs on")
            counts_on(primary)

    def test_a_store_that_cannot_write(self, tmp_path: Path) -> None:
        with StandbyProcess(tmp_path) as standby, a_vm(tmp_path) as primary:
            standby.store.rename(tmp_path / "gone")
            primary.enable_colo(DELAY)
            primary.migrate(standby.uri)
            assert standby.wait() == 1
            counts_on(primary)

    def test_another_vm_while_one_is_held(self, tmp_path: Path) -> None:
        with StandbyProcess(tmp_path) as standby, Qemu(tmp_path, "held", memory=16) as held:
            held.replicate(standby.uri)
            with a_vm(tmp_path) as primary:
                primary.enable_colo(DELAY)
                primary.migrate(standby.uri)
                standby.says("busy")
                counts_on(primary)
            held.checkpoint()

    @pytest.mark.parametrize("_n", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 12))])
    def test_a_standby_that_is_ended_meanwhile(self, tmp_path: Path, _n: int) -> None:
        with StandbyProcess(tmp_path) as standby, a_vm(tmp_path) as primary:
            primary.enable_colo(DELAY)
            primary.migrate(standby.uri)
            time.sleep(random.uniform(0, 0.1))
            standby.terminate()
            standby.wait()
            counts_on(primary)

    def test_a_store_that_fails_in_the_first_round(self, tmp_path: Path) -> None:
        with StandbyProcess(tmp_path) as standby, a_vm(tmp_path) as primary:
            primary.replicate(standby.uri)
            standby.store.rename(tmp_path / "gone")
            primary.ask_checkpoint()
            assert standby.wait() == 1
            assert "`x-colo-lost-heartbeat` there lets it run on" in standby.said
            primary.wait_event("COLO_EXIT")
            ends_by_the_printed_command(primary)

    def test_a_plain_migration_with_a_disk(self, tmp_path: Path) -> None:
        with StandbyProcess(tmp_path) as standby, a_vm(tmp_path, *DISK) as primary:
            primary.migrate(standby.uri)
            standby.says("x-colo is off there: `cont` runs its VM again")
            primary.until(lambda: primary.qmp("query-migrate")["status"] == "completed" or None, "its end")
            primary.qmp("cont")
            assert primary.qmp("query-status")["status"] == "running"
