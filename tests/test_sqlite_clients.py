"""Clients of the SQLite service in numbers: processes, real sockets, and what they cost."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from served_pair import Client, many, served, side

SILENT = 300
REQUESTS = 20
LONG = json.dumps({"sql": "SELECT hex(zeroblob(50000))"}).encode() + b"\n"
MIB = 1 << 20


def test_a_survivor_claims_and_serves_although_clients_have_taken_what_it_may_open(tmp_path: Path) -> None:
    with served(tmp_path, files=128) as (primary, secondary, address), many(address, 180):
        secondary.process.kill()
        assert primary.until("claim")["won"]
        primary.until("state", state="alone")
        with Client(address) as late:
            assert "64 clients, and no more at a time" in late.reply()["error"]


def test_clients_that_read_nothing_cost_little_memory_and_the_others_are_served(tmp_path: Path) -> None:
    with served(tmp_path) as (primary, _, address), Client(address) as client:
        client.ask("CREATE TABLE t (a)")
        primary.read_on()
        before = primary.memory
        with many(address, SILENT) as silent:
            for each in silent:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                each.sendall(LONG * REQUESTS)
            for _ in range(20):
                assert client.ask("INSERT INTO t VALUES (1)")["changes"] == 1
                grown = primary.memory - before
            print(f"\n{SILENT} clients x {REQUESTS} requests: {grown / MIB:.0f} MiB more")
            assert grown < 80 * MIB
        assert client.ask("SELECT count(*) FROM t")["rows"] == [[20]]


def test_max_clients_is_an_option(tmp_path: Path) -> None:
    with (
        served(tmp_path, "--max-clients", "2") as (_, _, address),
        many(address, 2),
        Client(address) as third,
    ):
        assert "2 clients, and no more at a time" in third.reply()["error"]


@pytest.mark.parametrize(
    ("guest", "clients", "error"),
    [
        ("sqlite", "100", "name 1 to 64, or raise `ulimit -n`"),
        ("guests:guest", "5", "for a guest that serves clients, and this one does not"),
    ],
)
def test_clients_that_cannot_be_are_refused_at_the_start(
    tmp_path: Path, guest: str, clients: str, error: str
) -> None:
    (tmp_path / "guests.py").write_text(
        "from colo_fsm import StateGuest\ndef guest(): return StateGuest(None, 4096)\n"
    )
    arguments = ["--listen", "unix:link", "--no-arbiter", "--max-clients", clients]
    with side(tmp_path, "secondary", *arguments, files=128, guest=guest) as refused:
        _, said = refused.process.communicate(timeout=60)
        assert refused.process.returncode == 2
        assert error in " ".join(said.split())


def test_a_survivor_whose_port_is_taken_says_so_in_its_events(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        common = ["--arbiter", "sqlite:claim.db"]
        with side(
            tmp_path, "secondary", "--listen", "unix:link", *common,
            serve=f"tcp:127.0.0.1:{port}",
        ) as secondary:  # fmt: skip
            secondary.until("listening")
            with side(tmp_path, "primary", "--connect", "unix:link", *common) as primary:
                primary.until("checkpoint", number=2)
            tries = [secondary.until("not-serving") for _ in range(3)]
            assert [each["retry"] for each in tries] == [0.2, 0.4, 0.8]
            assert all("in use" in each["error"] and str(port) in each["address"] for each in tries)
            taken.close()
            assert str(port) in secondary.until("serving")["address"]


def test_a_statement_with_everything_in_one_opcode_holds_up_nobody(tmp_path: Path) -> None:
    huge = "SELECT replace(CAST(hex(zeroblob(250000)) AS BLOB), hex(zeroblob(120000)) || 'x', '')"
    with served(tmp_path) as (primary, _, address), Client(address) as one, Client(address) as other:
        primary.read_on()
        one.send(huge)
        assert other.ask("CREATE TABLE t (a)")["changes"] == 0
        assert "takes too long: give it shorter ones" in one.reply()["error"]
        for _ in range(50):
            one.send(huge)
        primary.process.terminate()
        assert primary.process.wait(60) == 0
