"""Times and rates on the command line: what cannot be waited for is refused in one line."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from colo_fsm.cli.app import cli

PRIMARY = ["primary", "--connect", "unix:x", "--guest", "a:b", "--no-arbiter"]
STANDBY = ["standby", "--listen", "unix:x", "--store", "vm", "--no-arbiter"]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN", "1e400", "-1", "1e9"])
@pytest.mark.parametrize(
    "command",
    [
        [*PRIMARY, "--deadline"],
        [*PRIMARY, "--hook-deadline"],
        [*STANDBY, "--deadline"],
        ["replay", ".", "--connect", "unix:x", "--deadline"],
        ["demo", "--seconds"],
        ["demo", "--rate"],
        ["simulate", "--minutes"],
    ],
    ids=" ".join,
)
def test_a_time_or_a_rate_that_cannot_be(command: list[str], value: str) -> None:
    result = CliRunner().invoke(cli, [*command, value])
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"Error: Invalid value for '{command[-1]}': ")


@pytest.mark.parametrize("value", ["nan", "inf", "1e12"])
@pytest.mark.parametrize("command", [PRIMARY, ["demo"]], ids=["primary", "demo"])
def test_an_interval_that_cannot_be(command: list[str], value: str) -> None:
    result = CliRunner().invoke(cli, [*command, "--interval-ms", value])
    assert (result.exit_code, "Error: Invalid value for '--interval-ms'" in result.stderr) == (2, True)
