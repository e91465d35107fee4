"""docs/operate.md, to the letter: its commands as pasted, its units, its names of figures."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from handles import status, until
from qemu import free_port
from served_pair import Client
from test_docs_standby import done, said, terminal

from colo_fsm.cli.health import METRICS
from colo_fsm.cli.member import member
from colo_fsm.replica import Address

PAGE = Path(__file__).parent.parent / "docs" / "operate.md"
PORTS = ("9998", "9999", "5433", "5434", "8008", "8009")


def section(heading: str = "Watch it") -> str:
    """From its heading to the next one of its rank."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def blocks(kind: str, heading: str = "Watch it") -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", section(heading), re.DOTALL)


def on_free_ports(text: str) -> str:
    for port in PORTS:
        text = re.sub(rf"(127\.0\.0\.1:){port}\b", rf"\g<1>{free_port()}", text)
    return text


def test_the_commands_as_pasted(tmp_path: Path) -> None:
    first, second, *asked = on_free_ports("".join(blocks("sh"))).splitlines()
    a, b = tmp_path / "a.ctl", tmp_path / "b.ctl"
    with terminal(first, tmp_path) as one:
        until(a.exists)
        until(lambda: status(a)["state"] == "offering")
        with terminal(second, tmp_path) as two:
            until(lambda: b.exists() and status(a)["service"] is not None and status(b)["ready"])
            ctl, http = [c for c in asked if "ctl" in c], [c for c in asked if c.startswith("curl")]
            assert sorted(ctl + http) == sorted(asked)
            said = [done(command, tmp_path).strip() for command in http]
            assert said[0].startswith('{"name": "a", "state": "primary"')
            assert said[2:] == ["200", "200"]
            names = set(re.findall(r"^colo_fsm_\w+", said[1], re.MULTILINE))
            wanted = set(re.findall(r"colo_fsm_\w+", "".join(blocks("yaml"))))
            assert wanted <= names | {"colo_fsm_capacity_used_bytes"}
            shown, known, checkpoint, switchover, leave = (done(command, tmp_path) for command in ctl)
            assert "primary, protected" in shown
            assert known.startswith('{"name": "b", "state": "secondary"')
            assert checkpoint.startswith("checkpoint ")
            assert "the other member goes on" in switchover
            assert leave == "it ends in order\n"
            assert one.wait(60) == 0
            until(lambda: status(b)["runs"])
            two.terminate()
            assert two.wait(60) == 0


def test_the_upgrade_as_pasted(tmp_path: Path) -> None:
    first, second, *_ = on_free_ports("".join(blocks("sh"))).splitlines()
    leave, rest = blocks("sh", "Upgrade both machines without a stop")
    switchover, leave_too = rest.splitlines()
    a, b = tmp_path / "a.ctl", tmp_path / "b.ctl"

    def protects(primary: Path, secondary: Path) -> bool:
        return secondary.exists() and status(primary)["protected"] and status(secondary)["ready"]

    with terminal(first, tmp_path) as one:
        until(lambda: a.exists() and status(a)["state"] == "offering")
        with terminal(second, tmp_path) as two:
            until(lambda: protects(a, b))
            done(leave, tmp_path)
            assert two.wait(60) == 0
            until(lambda: status(a)["runs"])
        with terminal(second, tmp_path) as two:
            until(lambda: protects(a, b))
            done(switchover, tmp_path)
            done(leave_too, tmp_path)
            assert one.wait(60) == 0
            with terminal(first, tmp_path) as one:
                until(lambda: protects(b, a))
                for each in (one, two):
                    each.terminate()
                    assert each.wait(60) == 0


def known(path: Path) -> dict[str, Any]:
    """Its status; nothing while nobody is there: who was killed has left its socket."""
    try:
        return status(path)
    except OSError:
        return dict.fromkeys(("state", "service", "ready", "protected"))


def test_what_only_a_person_can_decide_as_pasted(tmp_path: Path) -> None:
    pasted = "".join(blocks("sh") + blocks("sh", "What only you can decide"))
    first, second, *_, leave, accepting, leave_too, export, replacing = on_free_ports(pasted).splitlines()
    a, b = tmp_path / "a.ctl", tmp_path / "b.ctl"

    def client(path: Path) -> Client:
        until(lambda: known(path)["service"] is not None)
        return Client(Address.parse(status(path)["service"]))

    with terminal(first, tmp_path) as one:
        until(lambda: known(a)["state"] == "offering")
        with terminal(second, tmp_path) as two:
            with client(a) as writer:
                writer.ask("CREATE TABLE t (x)")
                assert writer.ask("INSERT INTO t VALUES ('kept')")["protected"] is True
            two.kill()
            with client(a) as writer:
                assert writer.ask("INSERT INTO t VALUES ('lost')")["protected"] is False
            one.kill()
    shutil.rmtree(tmp_path / "a")
    with terminal(second, tmp_path) as two:
        said(two, "secondary")
        done(leave, tmp_path)
        assert two.wait(60) == 0
    with terminal(accepting, tmp_path) as two:
        assert "what was acknowledged since is lost" in said(two, "loss accepted: it goes on from data set ")
        with client(b) as reader:
            assert reader.ask("SELECT x FROM t")["rows"] == [["kept"]]
        with terminal(first, tmp_path):
            until(lambda: known(a)["ready"])
    (tmp_path / "claim.db").unlink()
    shutil.rmtree(tmp_path / "a")
    with terminal(first, tmp_path) as one:
        until(lambda: known(a)["state"] == "offering")
        with terminal(second, tmp_path) as two:
            assert "and the arbiter's is" in said(two, "this store holds data set ")
            done(leave_too, tmp_path)
            assert two.wait(60) == 0
        done(export, tmp_path)
        with closing(sqlite3.connect(tmp_path / "before.db")) as before:
            assert before.execute("SELECT x FROM t").fetchall() == [("kept",)]
        with terminal(replacing, tmp_path) as two:
            assert "generation" in said(two, "thrown away: data set ")
            until(lambda: known(b)["ready"] and known(a)["protected"])


def test_every_figure_is_on_the_page() -> None:
    from test_figures import unused

    figures = section().partition("### Figures\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| ([\w, ]+) \| ([^|]*)\|.*\|$", figures, re.MULTILINE)
    listed = {name for names, _ in rows for name in names.split(", ")} - {"JSON"}
    assert listed == set(unused().status())
    prometheus = {name.partition("{")[0].strip() for _, name in rows} - {"Prometheus", ""}
    assert prometheus == {name for _, _, name, _ in METRICS} | {"state"}


@pytest.mark.parametrize("at", [0, 1])
def test_the_units_are_right_for_systemd(tmp_path: Path, at: int) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = blocks("ini")[at]
    program = tmp_path / "colo-fsm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert unit.count("/usr/local/bin/colo-fsm") == 1
    path = tmp_path / "colo-fsm.service"
    path.write_text(unit.replace("/usr/local/bin/colo-fsm", str(program)))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = [line for line in result.stderr.splitlines() if "colo-fsm" in line]
    assert (result.returncode, said) == (0, [])


def test_the_units_give_options_that_there_are() -> None:
    there_are = {option for each in member.params for option in each.opts}
    for unit in blocks("ini"):
        command = re.search(r"^ExecStart=(.*?[^\\])\n", unit, re.DOTALL | re.MULTILINE)
        assert command is not None
        assert {"--http", "--control"} <= set(re.findall(r" (--[a-z-]+)", command[1])) <= there_are
