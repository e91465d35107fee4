"""Who watches members and sides: what they are told, and what they can ask for, with real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import strangers
from click.testing import CliRunner
from handles import Supervisor, asked, ctl, handles, http_ask, status, until
from hosts import MOST_GROWTH
from members import NAMES, Members, Process
from qemu import free_port
from served_pair import Client, served, side
from strangers import STRANGERS

import colo_fsm.cli.ctl as ctl_module
from colo_fsm.cli.app import cli
from colo_fsm.replica import Address

ARBITER = ["--arbiter", "sqlite:claim.db"]


@attrs.define
class Watched:
    """Two members, their control sockets and their ports for HTTP."""

    members: Members
    path: dict[str, Path] = attrs.Factory(dict)
    port: dict[str, int] = attrs.Factory(dict)
    options: dict[str, list[str]] = attrs.Factory(dict)

    def start(self, name: str, *more: str) -> Process:
        return self.members.start(name, *self.options[name], *more)

    def pages(self, name: str) -> list[int]:
        return [http_ask(self.port[name], page)[0] for page in ("/primary", "/secondary", "/health")]

    def until_protected(self) -> tuple[str, str]:
        """The names of the Primary and of its Secondary, as their own handles say it."""

        def so() -> bool:
            known = [status(path) for path in self.path.values()]
            return any(k["state"] == "primary" for k in known) and any(k["ready"] for k in known)

        until(so, "protected")
        first, second = NAMES
        return (first, second) if status(self.path[first])["runs"] else (second, first)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with Members(tmp_path) as members:
        made = Watched(members)
        for name in NAMES:
            options, path, port = handles(name)
            made.options[name], made.path[name], made.port[name] = options, tmp_path / path, port
        yield made


def test_a_member_is_known_by_its_handles_from_its_first_moment_to_its_last(
    watched: Watched, tmp_path: Path
) -> None:
    watched.start("a")
    until(watched.path["a"].exists)
    until(lambda: status(watched.path["a"])["state"] == "offering")
    assert watched.pages("a") == [503, 503, 503]
    assert json.loads(http_ask(watched.port["a"], "/health")[1])["why"] == "no Secondary has come yet"
    assert stat.S_IMODE(os.stat(watched.path["a"]).st_mode) == 0o600

    watched.start("b")
    until(watched.path["b"].exists)
    primary, secondary = watched.until_protected()
    until(lambda: status(watched.path[primary])["service"] is not None)
    assert watched.pages(primary) == [200, 503, 200]
    assert watched.pages(secondary) == [503, 200, 200]
    known = status(watched.path[primary])
    assert (known["name"], known["protected"], known["capacity"]) == (primary, True, 16 << 20)
    assert known["service"] == f"unix:{primary}.serve"
    before = known["checkpoint"]
    assert asked(watched.path[primary], "checkpoint")["ok"]
    assert status(watched.path[primary])["checkpoint"] > before
    until(lambda: 0 < (status(watched.path[primary])["capacity_used"] or 0) < 16 << 20)

    for name, deed, why in (
        (primary, "failover", "switchover lets the other one have it"),
        (secondary, "switchover", "only one that is primary"),
        (secondary, "checkpoint", "the guest does not run here"),
    ):
        reply = asked(watched.path[name], deed)
        assert reply["ok"] is False
        assert why in reply["why"]
    refused = ctl(tmp_path, f"{secondary}.ctl", "switchover")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1
    refused = ctl(tmp_path, f"{secondary}.ctl", "switchover", "--json")
    assert (refused.exit_code, json.loads(refused.stdout)["ok"], refused.stderr) == (1, False, "")

    watched.members.running[primary].kill()
    until(lambda: status(watched.path[secondary])["state"] == "alone", "alone")
    until(lambda: status(watched.path[secondary])["runs"])
    assert watched.pages(secondary) == [200, 503, 200]
    alone = status(watched.path[secondary])
    assert (alone["protected"], alone["failovers"]) == (False, 1)
    assert alone["claim_seconds"] >= 0
    assert "unprotected" in alone["why"]
    first = status(watched.path[secondary])["unprotected_seconds"]
    assert status(watched.path[secondary])["unprotected_seconds"] > first
    metrics = http_ask(watched.port[secondary], "/metrics")[1].splitlines()
    assert f'colo_fsm_state{{state="alone",member="{secondary}"}} 1' in metrics
    assert "colo_fsm_failovers_total 1" in metrics

    assert asked(watched.path[secondary], "leave") == {"ok": True, "said": "it ends in order"}
    assert watched.members.running[secondary].process.wait(60) == 0
    assert not watched.path[secondary].exists()


def test_a_member_that_waits_says_for_what(watched: Watched, tmp_path: Path) -> None:
    """It looks again and again, and what it waits for is the same all the time."""
    member = watched.start("a")
    until(watched.path["a"].exists)
    member.until("member", state="offering")
    (tmp_path / "claim.db").write_bytes(b"no record of ours" * 1000)
    member.until("member", state="waiting")
    until(lambda: status(watched.path["a"])["why"] is not None)
    why = status(watched.path["a"])["why"]
    assert "claim.db" in why
    since = len(member.events)
    (tmp_path / "claim.db").unlink()
    member.until("member", since=since, state="offering")
    assert len([e for e in member.events[:since] if e["event"] == "member" and e["state"] == "waiting"]) == 2
    (tmp_path / "claim.db").write_bytes(b"no record of ours" * 1000)
    member.until("member", since=len(member.events), state="waiting")
    until(lambda: status(watched.path["a"])["why"] == why)
    assert watched.pages("a") == [503, 503, 503]
    assert json.loads(http_ask(watched.port["a"], "/health")[1])["why"] == why
    assert asked(watched.path["a"], "failover")["why"] == f"there is no whole checkpoint to go on from: {why}"


def test_a_secondary_is_told_that_its_primary_is_gone_though_the_link_only_keeps_silent(
    tmp_path: Path,
) -> None:
    """What nobody but the one who watches the machines can know: an idle Secondary waits for ever."""
    with side(tmp_path, "secondary", "--listen", "unix:link", *ARBITER, "--control", "s.ctl") as secondary:
        secondary.until("listening")
        refused = asked(tmp_path / "s.ctl", "failover")["why"]
        assert refused == "there is no pair to give up: no Primary has come yet"
        with side(tmp_path, "primary", "--connect", "unix:link", *ARBITER, "--control", "p.ctl") as primary:
            client = Client(Address.parse(primary.until("serving")["address"]))
            with client:
                client.ask("CREATE TABLE t (x)")
                client.ask("INSERT INTO t VALUES (1)")
                assert not asked(tmp_path / "p.ctl", "switchover")["ok"]
                primary.process.send_signal(signal.SIGSTOP)
            reply = asked(tmp_path / "s.ctl", "failover")
            assert reply["ok"], reply
            assert "goes on alone" in reply["said"]
            assert asked(tmp_path / "s.ctl", "failover")["why"] == "this side runs alone already"
            serving = Address.parse(secondary.until("serving")["address"])
            with Client(serving) as client:
                assert client.ask("SELECT x FROM t")["rows"] == [[1]]
            known = status(tmp_path / "s.ctl")
            assert (known["state"], known["runs"], known["protected"]) == ("alone", True, False)
            assert known["failovers"] == 1


def test_a_primary_that_waits_for_its_secondary_can_be_asked_and_ended(tmp_path: Path) -> None:
    with side(tmp_path, "primary", "--connect", "unix:nobody", *ARBITER, "--control", "p.ctl") as primary:
        until((tmp_path / "p.ctl").exists)
        assert status(tmp_path / "p.ctl")["why"] == "its Secondary is not ready yet"
        assert asked(tmp_path / "p.ctl", "leave")["ok"]
        assert primary.process.wait(60) == 0


def test_a_supervisor_is_told(tmp_path: Path) -> None:
    where = f"{tmp_path}/notify"
    environment: Any = {"NOTIFY_SOCKET": where, "WATCHDOG_USEC": "200000"}
    listen = ["secondary", "--listen", "unix:link", *ARBITER]
    with Supervisor(where) as supervisor, side(tmp_path, *listen, **environment) as secondary:
        supervisor.until("READY=1", "STATUS=init, no Primary has come yet")
        for _ in range(3):
            supervisor.until("WATCHDOG=1")
        with side(tmp_path, "primary", "--connect", "unix:link", *ARBITER) as primary:
            primary.until("checkpoint")
            supervisor.until("READY=1", "STATUS=secondary")
            primary.process.kill()
            supervisor.until("READY=1", "STATUS=alone, unprotected")
            supervisor.until("STATUS=alone, unprotected, serving at tcp:127.0.0.1:")
        secondary.process.send_signal(signal.SIGTERM)
        assert "READY=1" not in supervisor.until("STOPPING=1")
        assert secondary.process.wait(60) == 0


def test_a_loop_that_hangs_shows_no_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs the loop of the side hangs its signs of life and its handles, too: so it is noticed."""
    where = f"{tmp_path}/notify"
    (tmp_path / "hanging.py").write_text(
        "import time\n"
        "from colo_fsm.services.sqlite_server import described\n"
        "def guest():\n"
        "    made = described('tcp:127.0.0.1:0')\n"
        "    async def serve(pair): time.sleep(1000)\n"
        "    made.serve = serve\n"
        "    return made\n"
    )
    environment: Any = {"NOTIFY_SOCKET": where, "WATCHDOG_USEC": "200000"}
    with Supervisor(where) as supervisor:
        listen = ["secondary", "--listen", "unix:link", *ARBITER, "--control", "s.ctl"]
        with side(tmp_path, *listen, guest="hanging:guest", **environment):
            supervisor.until("READY=1")
            supervisor.until_silent(1.0)
            monkeypatch.setattr(ctl_module, "PATIENCE", 0.2)
            silent = ctl(tmp_path, "s.ctl", "status")
            assert (silent.exit_code, silent.stdout) == (1, "")
            assert "its event loop stands still" in silent.stderr


@pytest.mark.parametrize("path", ["nothing", "stale", "a_file"])
def test_where_nobody_listens(tmp_path: Path, path: str) -> None:
    (tmp_path / "a_file").write_text("")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(f"{tmp_path}/stale")
    result = ctl(tmp_path, path, "status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: nobody listens at ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["ctl", "x", "dance"], 2, "'dance' is not one of"),
        (["secondary", "--http", "8008"], 2, "'8008' is no address"),
        (["secondary", "--control", "x" * 200], 1, "too long"),
        (["secondary", "--control", "nowhere/s.ctl"], 1, "No such file"),
    ],
)
def test_a_handle_that_cannot_be_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    guest = ["--guest", "sqlite", "--serve", "tcp:127.0.0.1:0"]
    more = ["--listen", "unix:link", *ARBITER, *guest] if arguments[0] == "secondary" else []
    result = CliRunner().invoke(cli, [*arguments, *more])
    assert result.exit_code == status
    assert said in result.stderr


SAMPLE = [
    "silent", "a port scan", "half closed", "HTTP upload", "TLS", "deaf", "slow garbage",
    "a line without an end", "JSON to drown in", "a thousand at once", "a thousand after each other",
]  # fmt: skip


@pytest.mark.parametrize(
    "rounds",
    [[SAMPLE], pytest.param([[name] for name in sorted(STRANGERS)], marks=pytest.mark.soak)],
    ids=["at once", "all"],
)
def test_strangers_at_the_handles_harm_nothing(tmp_path: Path, rounds: list[list[str]]) -> None:
    """The pair answers its client and whoever else asks, keeps its memory, and closes what they opened."""
    port = free_port()
    where = ["--control", "p.ctl", "--http", f"tcp:127.0.0.1:{port}"]
    with served(tmp_path, *where) as (primary, secondary, address), Client(address) as client:
        secondary.read_on()
        primary.read_on()
        client.ask("CREATE TABLE t (x)")
        before, memory = primary.descriptors, primary.memory
        for names in rounds:
            threads = [
                threading.Thread(target=strangers.play, args=(name, to, 1.0))
                for name in names
                for to in (f"unix:{tmp_path}/p.ctl", f"tcp:127.0.0.1:{port}")
            ]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                assert "error" not in client.ask("INSERT INTO t VALUES (1)")
            for thread in threads:
                thread.join()
            assert http_ask(port, "/primary")[0] == 200, names
            assert status(tmp_path / "p.ctl")["healthy"], names
        until(lambda: primary.descriptors <= before)
        assert primary.memory < memory + MOST_GROWTH
        assert "error" not in client.ask("INSERT INTO t VALUES (1)")
        assert status(tmp_path / "p.ctl")["protected"]
