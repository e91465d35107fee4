"""`colo-fsm standby --gate`: nobody sees an answer that the restored VM has not given."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from handles import status
from packet_filter import Filter, packet
from standby_process import (
    LOADED,
    READY,
    RECEIVED,
    REPLY,
    REQUEST,
    SEND,
    SIZE,
    StandbyProcess,
    StreamPrimary,
    initial,
    live,
    state,
)  # fmt: skip

from colo_fsm.arbiter import SqliteArbiter
from colo_fsm.cli.app import cli
from colo_fsm.fsm import Side
from colo_fsm.replica import Address

ONE, TWO, THREE = map(packet, (b"one", b"two", b"three"))


class GatedStandby(StandbyProcess):
    """With a gate at out.sock and in.sock in its folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.places = Address(path=str(folder / "out.sock")), Address(path=str(folder / "in.sock"))
        super().__init__(folder, "--gate", ",".join(place.path for place in self.places), *options)

    def filter(self) -> Filter:
        return Filter(*self.places)


def test_what_a_vm_sends_leaves_with_its_round(tmp_path: Path) -> None:
    with GatedStandby(tmp_path) as standby, standby.filter() as card:
        card.out.sendall(ONE)
        card.takes(ONE)  # before `ready` there is nothing to wait for
        with StreamPrimary(standby.connect()).begin() as primary:
            card.out.sendall(TWO)
            primary.link.sendall(REQUEST)
            primary.expect(REPLY)
            card.takes_nothing()
            primary.link.sendall(SEND + live(1) + SIZE + state(1))
            primary.expect(RECEIVED)  # so the round's packets are sealed
            card.out.sendall(THREE)
            primary.expect(LOADED)
            card.takes(TWO)
            card.takes_nothing()
            primary.round(2)
            card.takes(THREE)


def test_what_no_round_covers_is_never_sent(tmp_path: Path) -> None:
    with GatedStandby(tmp_path) as standby, standby.filter() as card:
        with StreamPrimary(standby.connect()).begin() as primary:
            card.out.sendall(ONE)
            primary.round(1)
            card.takes(ONE)
            card.out.sendall(TWO)
            primary.link.sendall(REQUEST)
            primary.expect(REPLY)
            primary.link.sendall(SEND + live(2)[:1000])
        assert standby.wait() == 0
        assert standby.objects[-1]["won"] is True
        card.ends()


def test_a_claim_that_is_lost_lets_nothing_out_and_says_how_the_network_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "claims"
    with GatedStandby(tmp_path, "--arbiter", f"sqlite:{path}") as standby, standby.filter() as card:
        with StreamPrimary(standby.connect()).begin() as primary:
            primary.round(1)
            card.out.sendall(ONE)
            SqliteArbiter(path).claim(standby.generation, Side.PRIMARY)
        assert standby.wait() == 1
        assert "object_del" in standby.said
        card.ends()


def test_sigterm_says_so_too(tmp_path: Path) -> None:
    with GatedStandby(tmp_path) as standby, standby.filter() as card:
        with StreamPrimary(standby.connect()).begin() as primary:
            primary.round(1)
            card.out.sendall(ONE)
            standby.terminate()
            assert standby.wait() == 0
        assert "the gate is shut: where the VM goes on, `object_del`" in standby.said
        card.ends()


def test_a_vm_that_was_never_protected_has_its_packets(tmp_path: Path) -> None:
    """Nothing is claimed for it, so it may go on: what waited leaves, and the next VM is held anew."""
    with GatedStandby(tmp_path) as standby, standby.filter() as card:
        with StreamPrimary(standby.connect()).begin():
            card.out.sendall(ONE)
        standby.says("plain migration")  # so this tiny VM looks; nothing is claimed
        card.takes(ONE)
        with StreamPrimary(standby.connect()).begin() as primary:
            card.out.sendall(TWO)
            primary.round(1)
            card.takes(TWO)


def test_a_vm_whose_packets_do_not_come_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    with GatedStandby(tmp_path) as standby:
        with StreamPrimary(standby.connect()) as primary:
            primary.link.sendall(initial()[:200])
            assert primary.link.recv(100) == READY  # so that its VM runs on
            assert primary.link.recv(100) == b""
        standby.says(r"no filter-redirector is connected to the gate unix:\S+out.sock,unix:\S+in.sock")
        with standby.filter() as card, StreamPrimary(standby.connect()).begin() as primary:
            card.out.sendall(ONE)
            primary.round(1)
            card.takes(ONE)


def test_a_filter_that_goes_is_told_and_the_vm_is_still_held(tmp_path: Path) -> None:
    control = tmp_path / "ctl"
    with GatedStandby(tmp_path, "--control", str(control)) as standby, standby.filter() as card:
        with StreamPrimary(standby.connect()).begin() as primary:
            primary.round(1)
            assert status(control)["why"] is None
            card.close()
            standby.says("the packets of network card 0 do not come to this gate any more")
            assert (
                status(control)["why"]
                == "the VM's packets do not come to its gate any more: nothing holds them"
            )
            primary.round(2)
            standby.terminate()
        assert standby.wait() == 0


def test_packets_for_which_there_was_no_room_are_told_by_its_handles(tmp_path: Path) -> None:
    control = tmp_path / "ctl"
    handles = ("--control", str(control), "--gate-limit", "10")
    with (
        GatedStandby(tmp_path, *handles) as standby,
        standby.filter() as card,
        StreamPrimary(standby.connect()).begin() as primary,
    ):
        card.out.sendall(ONE + TWO + THREE)
        primary.round(1)
        card.takes(ONE)
        assert status(control)["why"] == "2 packets of the VM found no room at its gate"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--gate", "one"], "'one' is not two addresses: write OUT.sock,IN.sock"),
        (["--gate", "tcp:nowhere,in"], "write tcp:HOST:PORT or unix:PATH"),
        (["--gate", "a,b", "--gate-object", "gate"], "give all three, or --gate alone"),
        (["--gate", "a,b", "--qmp", "unix:q"], "give all three, or --gate alone"),
        (["--qmp", "unix:q", "--gate-object", "gate"], "give all three, or --gate alone"),
        (["--gate", "a,b", "--qmp", "nowhere", "--gate-object", "gate"], "'nowhere' is no address"),
    ],
)
def test_bad_usage(options: list[str], text: str, tmp_path: Path) -> None:
    line = [
        "standby",
        "--listen",
        "tcp:127.0.0.1:0",
        "--store",
        str(tmp_path / "vm"),
        "--no-arbiter",
        *options,
    ]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 2
    assert text in result.output
