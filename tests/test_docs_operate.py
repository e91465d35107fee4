"""docs/operate.md, "Watch it", to the letter: its commands as pasted, its units, its names of figures."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from handles import status, until
from qemu import free_port
from test_docs_standby import done, terminal

from colo_fsm.cli.health import METRICS
from colo_fsm.cli.member import member

PAGE = Path(__file__).parent.parent / "docs" / "operate.md"
PORTS = ("9998", "9999", "5433", "5434", "8008", "8009")


def section() -> str:
    """From its heading to the next one of its rank."""
    found = re.search(r"^## Watch it\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", section(), re.DOTALL)


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
