"""`colo-fsm standby` holds the VM of a real QEMU Primary, and what it holds is a whole checkpoint.

The oracle is the journal of who wrote the memory (see `qemu_writer`), never a decoder of ours.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import qemus
from click.testing import CliRunner
from qemu import Qemu, QemuError, each_version, needs_kvm, refused_capabilities
from qemu_guest import count, counting_guest, runs_on
from qemu_lines import PATIENCE
from qemu_relay import Relay
from qemu_writer import Writer
from standby_process import REPLACE, StandbyProcess

from colo_fsm.cli.app import cli
from colo_fsm.replica import DirectoryStore

pytestmark = needs_kvm

MEMORY = 24
FEW_AND_ALL = [*range(2), *(pytest.param(n, marks=pytest.mark.soak) for n in range(2, 20))]
"""Two repetitions in the normal run."""


@contextlib.contextmanager
def restored(folder: Path, **machine: object) -> Iterator[Qemu]:
    """A new QEMU that has loaded what `restore` writes, stopped, and does not miss the description."""
    stream = folder / "vm.mig"
    result = CliRunner().invoke(cli, ["restore", str(folder / "vm"), "-o", str(stream)])
    assert result.exit_code == 0, result.output
    with Qemu(folder, "restored", incoming=f"exec:cat {stream}", paused=True, **machine) as qemu:  # type: ignore[arg-type]
        qemu.wait_loaded()
        assert "vmdesc" not in qemu.log.read_text()
        yield qemu


def held(writer: Writer, folder: Path, **machine: object) -> list[int]:
    """The checkpoints that the restored VM may be, of those that it must be one of."""
    writer.stop()
    with restored(folder, **machine) as qemu:
        holds = writer.holds(qemu.read(writer.start, writer.size))
    return [number for number in holds if number in writer.left()]


@pytest.mark.parametrize("_repetition", FEW_AND_ALL)
def test_a_killed_primary_is_restored_at_its_last_checkpoint(tmp_path: Path, _repetition: int) -> None:
    with StandbyProcess(tmp_path) as standby, Qemu(tmp_path, "primary", memory=MEMORY) as primary:
        primary.replicate(standby.uri, 1)
        with Writer(primary) as writer:
            writer.wait_rounds(20)
            time.sleep(random.uniform(0, 0.2))
            primary.kill()
            assert standby.wait() == 0
            *rounds, last = standby.objects
            assert held(writer, tmp_path, memory=MEMORY)
    assert [r["round"] for r in rounds] == list(range(1, len(rounds) + 1))
    assert (last["state"], last["won"], last["rounds"]) == ("alone", True, len(rounds))
    assert len(rounds) in writer.left()


@pytest.mark.parametrize("_repetition", FEW_AND_ALL)
def test_a_link_cut_inside_a_round_leaves_a_whole_checkpoint(tmp_path: Path, _repetition: int) -> None:
    with (
        StandbyProcess(tmp_path) as standby,
        Relay(standby.uri) as relay,
        Qemu(tmp_path, "primary", memory=MEMORY) as primary,
    ):
        primary.replicate(relay.uri, 1)
        with Writer(primary) as writer:
            writer.wait_rounds(20)
            relay.cut(relay.passed("p2s") + random.randrange(100_000))
            assert relay.over.wait(PATIENCE)
            assert standby.wait() == 0
            primary.wait_event("COLO_EXIT")
            assert held(writer, tmp_path, memory=MEMORY)


@pytest.mark.parametrize(
    ("machine", "smp", "memory", "pages"),
    [
        ("q35", 2, 64, 1024),
        ("pc", 2, 24, 0),
        pytest.param("pc", 1, 256, 8, marks=pytest.mark.soak),
        pytest.param("q35", 1, 256, 1024, marks=pytest.mark.soak),
        pytest.param("pc", 2, 64, 8, marks=pytest.mark.soak),
    ],
)
def test_machines_processors_sizes_and_dirty_pages(
    tmp_path: Path, machine: str, smp: int, memory: int, pages: int
) -> None:
    kind = {"machine": machine, "smp": smp, "memory": memory}
    with StandbyProcess(tmp_path) as standby, Qemu(tmp_path, "primary", **kind) as primary:  # type: ignore[arg-type]
        primary.replicate(standby.uri)
        with Writer(primary, pages=pages) as writer:
            writer.wait_rounds(6)
            primary.kill()
            assert standby.wait() == 0
            assert held(writer, tmp_path, **kind)
    assert max(r["pages"] for r in standby.objects[:-1]) >= pages


@each_version
def test_xbzrle_is_decoded(tmp_path: Path) -> None:
    with StandbyProcess(tmp_path) as standby, Qemu(tmp_path, "primary", memory=MEMORY) as primary:
        primary.replicate(standby.uri, xbzrle=True)
        with Writer(primary, pages=64) as writer:
            writer.wait_rounds(10)
            primary.kill()
            assert standby.wait() == 0
            assert held(writer, tmp_path, memory=MEMORY)


def test_a_source_without_a_description(tmp_path: Path) -> None:
    machine = "pc,suppress-vmdesc=on"
    with (
        StandbyProcess(tmp_path) as standby,
        Qemu(tmp_path, "primary", memory=MEMORY, machine=machine) as primary,
    ):
        primary.replicate(standby.uri)
        with Writer(primary) as writer:
            writer.wait_rounds(3)
            primary.kill()
            assert standby.wait() == 0
            assert held(writer, tmp_path, memory=MEMORY, machine=machine)


@each_version
def test_16_mib_and_a_guest_that_counts_go_on_in_the_restored_vm(tmp_path: Path) -> None:
    kind = {"memory": 16, "extra": counting_guest(tmp_path)}
    with StandbyProcess(tmp_path) as standby, Qemu(tmp_path, "primary", **kind) as primary:  # type: ignore[arg-type]
        primary.replicate(standby.uri, 2)
        primary.until(lambda: primary.resumes > 20 or None, "twenty rounds")
        primary.kill()
        assert standby.wait() == 0
    with restored(tmp_path, **kind) as qemu:
        number = count(qemu.read)
        assert number > 0
        assert runs_on(qemu, number) > number


def stored_number(folder: Path) -> tuple[int, int]:
    with DirectoryStore(folder) as store:
        assert store.newest is not None
        return store.newest.generation, store.newest.number


def hold_one(folder: Path, *options: str) -> tuple[int, int]:
    """A store with a checkpoint in `folder`; which one."""
    with StandbyProcess(folder, *options) as standby:
        with Qemu(folder, "first", memory=MEMORY) as primary:
            primary.replicate(standby.uri)
            primary.checkpoint()
        assert standby.wait() == 0
    return stored_number(standby.store)


@each_version
def test_a_capability_that_is_not_read_is_refused_by_its_name_and_listening_goes_on(tmp_path: Path) -> None:
    before = hold_one(tmp_path)
    with StandbyProcess(tmp_path, REPLACE) as standby:
        for capability in refused_capabilities():
            with Qemu(tmp_path, capability, memory=MEMORY) as primary:
                primary.write(Writer.start, bytes(range(256)) * 4096)
                primary.enable_colo(**{capability: True})
                before_it = len(standby.said)
                primary.migrate(standby.uri)
                standby.says(rf"switch .*\b{capability}\b.* off at the Primary", start=before_it)
    assert stored_number(standby.store) == before


@each_version
@pytest.mark.parametrize("return_path", [False, True])
def test_a_primary_without_x_colo_is_told_what_to_switch_on(tmp_path: Path, return_path: bool) -> None:
    """From QEMU 11 on x-colo alone is refused there, and who overlooks that begins a plain migration."""
    with StandbyProcess(tmp_path) as standby, Qemu(tmp_path, "primary", memory=MEMORY) as primary:
        newest = qemus.current().number >= (11,)
        if newest and not return_path:
            with pytest.raises(QemuError, match="requires capability 'return-path'"):
                primary.set_capabilities(x_colo=True)
        primary.set_capabilities(return_path=return_path)
        primary.migrate(standby.uri)
        told = standby.says("refused a connection: (.*); the store is unchanged")[1]
    assert "x-colo is off on the Primary" in told
    assert ("or the VM was lost before its first round" in told) is return_path
    assert ("(switch return-path on, and then x-colo)" in told) is (newest and not return_path)


@each_version
def test_a_primary_that_is_lost_before_its_first_round_is_no_plain_migration(tmp_path: Path) -> None:
    """A 11.1 does not say that it does COLO: then both is said."""
    with StandbyProcess(tmp_path) as standby, Qemu(tmp_path, "primary", memory=MEMORY) as primary:
        primary.replicate(standby.uri)
        primary.kill()
        told = standby.says("refused a connection: (.*); the store is unchanged")[1]
    assert "the VM was lost before its first round was whole" in told
    assert ("x-colo is off on the Primary" in told) is (qemus.current().number >= (11,))


def test_a_connection_that_is_no_qemu_changes_nothing_until_the_next_primary_is_ready(tmp_path: Path) -> None:
    before = hold_one(tmp_path)
    with StandbyProcess(tmp_path, REPLACE) as standby:
        with standby.connect() as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: standby\r\n\r\n")
            standby.says("is not that of a migration stream")
        with standby.connect():
            pass
        standby.says(r"(?s)listening goes on.*listening goes on")
        standby.kill()
        assert stored_number(standby.store) == before
    with StandbyProcess(tmp_path, REPLACE) as standby:
        with standby.connect():
            pass
        with Qemu(tmp_path, "another", memory=MEMORY) as primary:
            primary.replicate(standby.uri)
            primary.checkpoint()
        assert standby.wait() == 0
    assert stored_number(standby.store) == (standby.generation, 1)


def test_why_the_command_must_fence_a_won_claim_does_not_stop_the_primary(tmp_path: Path) -> None:
    with (
        StandbyProcess(tmp_path, "--arbiter", f"sqlite:{tmp_path}/claim.db") as standby,
        Relay(standby.uri) as relay,
        Qemu(tmp_path, "primary", memory=MEMORY) as primary,
    ):
        primary.replicate(relay.uri)
        primary.checkpoint()
        relay.cut()
        assert standby.wait() == 0
        assert standby.objects[-1]["won"] is True
        assert primary.qmp("query-status")["status"] == "running"


def test_sigterm_between_rounds_ends_in_order_and_the_primary_runs_on(tmp_path: Path) -> None:
    with StandbyProcess(tmp_path) as standby, Qemu(tmp_path, "primary", memory=MEMORY) as primary:
        primary.replicate(standby.uri)
        primary.checkpoint()
        standby.terminate()
        assert standby.wait() == 0
        assert standby.objects[-1] == {"state": "ended", "reason": None, "rounds": 1, "won": False}
        assert primary.qmp("query-status")["status"] == "running"
    assert stored_number(standby.store) == (standby.generation, 1)
