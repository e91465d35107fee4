"""`colo-fsm primary`, `secondary` and `diagram` as people run them: processes, signals, exit codes."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served_pair import Process

from colo_fsm.arbiter import SqliteArbiter
from colo_fsm.fsm import Side as SideName

COMMAND = [sys.executable, "-m", "colo_fsm"]
SECONDARY = ["secondary", "--listen", "unix:link"]
PRIMARY = ["primary", "--connect", "unix:link"]
TABLES = ["--no-arbiter", "--table"]
GUESTS = """
class Counter:
    value = 0
    def get_state(self): return b"%d" % self.value
    def set_state(self, state): self.value = int(state)

def guest():
    from colo_fsm import StateGuest
    return StateGuest(Counter(), 4096)

def none():
    return "no guest"

def broken():
    raise RuntimeError("no licence")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guests.py").write_text(GUESTS)
    return tmp_path


def colo_fsm(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


class Side(Process):
    """A side that runs, its events read one by one."""

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextlib.contextmanager
def side(*arguments: str, folder: Path, json: bool = True) -> Iterator[Side]:
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--guest", "guests:guest", *(["--json"] if json else [])],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Side(process)
        finally:
            process.kill()


@contextlib.contextmanager
def both(folder: Path, *more: str) -> Iterator[tuple[Side, Side]]:
    arbiter = ["--arbiter", "sqlite:claim.db"]
    with side("secondary", "--listen", "unix:link", *arbiter, *more, folder=folder) as secondary:
        secondary.until("listening")
        with side("primary", "--connect", "unix:link", *arbiter, folder=folder) as primary:
            primary.until("checkpoint", number=2)
            yield primary, secondary


def test_a_planned_end_stops_the_secondary_first(folder: Path) -> None:
    with both(folder) as (primary, secondary):
        assert secondary.end() == 0
        primary.until("state", state="alone")
        assert primary.end() == 0
        assert primary.until("over")["state"] == "ended"


def test_another_protocol_is_a_table(folder: Path) -> None:
    """COLO with a goodbye: a planned end needs no claim, so nobody runs on."""
    here = repr(str(Path(__file__).parent))
    (folder / "tables.py").write_text(
        f"import sys\nsys.path.append({here})\nfrom protocols.goodbye import PRIMARY, SECONDARY\n"
    )
    with side("secondary", *SECONDARY[1:], *TABLES, "tables:SECONDARY", folder=folder) as secondary:
        secondary.until("listening")
        with side("primary", *PRIMARY[1:], *TABLES, "tables:PRIMARY", folder=folder) as primary:
            primary.until("checkpoint", number=2)
            assert primary.end() == 0
            assert secondary.until("over")["state"] == "ended"
            assert secondary.process.wait(20) == 0


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("guests:nothing", "no attribute"),
        ("guests:guest", "no Table"),
        ("colo_fsm.colo:PRIMARY", "primary's"),
    ],
)
def test_what_is_no_table_of_this_side_is_said(folder: Path, table: str, said: str) -> None:
    (folder / "tables.py").write_text("from colo_fsm.colo import PRIMARY")
    result = colo_fsm(*SECONDARY, "--guest", "guests:guest", *TABLES, table, folder=folder)
    assert result.returncode == 2
    assert said in result.stderr


def test_the_secondary_goes_on_and_its_store_holds_the_checkpoint(folder: Path) -> None:
    with both(folder, "--store", "standby") as (primary, secondary):
        primary.process.kill()
        assert secondary.until("claim")["won"] is True
        secondary.until("state", state="alone")
        assert secondary.end() == 0
    assert (folder / "standby" / "checkpoint").exists()


def test_what_a_store_holds_is_not_replaced_by_a_primary_that_begins(folder: Path) -> None:
    """Both sides restarted by a supervisor: the Primary is empty, and the store has what was acknowledged."""
    with both(folder, "--store", "standby") as (primary, secondary):
        primary.process.kill()
        secondary.until("state", state="alone")
        secondary.process.kill()
    kept = (folder / "standby" / "checkpoint").read_bytes()
    more = ["--no-arbiter", "--guest", "guests:guest", "--store", "standby"]
    again = colo_fsm(*SECONDARY, *more, folder=folder)
    assert again.returncode == 1
    assert "--replace-store" in again.stderr
    assert (folder / "standby" / "checkpoint").read_bytes() == kept
    with both(folder, "--store", "standby", "--replace-store") as (_, secondary):
        secondary.until("state", state="loaded")
    assert (folder / "standby" / "checkpoint").read_bytes() != kept


def test_the_loser_ends_with_status_1(folder: Path) -> None:
    """The Primary is gone, but somebody has granted it the claim before."""
    with both(folder) as (primary, secondary):
        generation = secondary.until("state", state="loaded")["generation"]
        SqliteArbiter(folder / "claim.db").claim(generation, SideName.PRIMARY)
        primary.process.kill()
        assert secondary.until("claim")["won"] is False
        assert secondary.until("over")["state"] == "stopped"
        assert secondary.process.wait(20) == 1


def test_lines_for_people(folder: Path) -> None:
    with side("secondary", *SECONDARY[1:], "--no-arbiter", folder=folder, json=False) as secondary:
        assert secondary.process.stdout is not None
        assert secondary.process.stdout.readline() == "listening at unix:link\n"
        with side("primary", "--connect", "unix:link", "--no-arbiter", folder=folder) as primary:
            primary.until("checkpoint", number=2)
            primary.process.kill()
        said = [secondary.process.stdout.readline() for _ in range(4)]
        secondary.end()
        said += secondary.process.stdout.readlines()
    assert re.fullmatch(r"secondary: ready, generation \d+\n", said[0])
    assert said[1].startswith("secondary: failover (")
    assert re.fullmatch(r"claim won \(token \d+\)\n", said[2])
    assert said[3:] == ["secondary: alone\n", "secondary: ended\n"]


GUEST = ["--guest", "guests:guest"]


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ([*SECONDARY, *GUEST], 2, "say who answers claims: --arbiter URL, or --no-arbiter"),
        ([*SECONDARY, *GUEST, "--no-arbiter", "--arbiter", "sqlite:c"], 2, "say who answers claims"),
        ([*SECONDARY, *GUEST, "--arbiter", "etcd:x"], 2, "write sqlite:PATH, etcd://"),
        (
            [*SECONDARY, *GUEST, "--no-arbiter", "--fence", "no/such"],
            2,
            "'no/such' cannot fence: name a",
        ),
        ([*SECONDARY, *GUEST, "--arbiter", "exec:/no/such/command"], 2, "/no/such/command"),
        (["secondary", "--listen", "here", *GUEST, "--no-arbiter"], 2, "write tcp:HOST:PORT or unix:PATH"),
        (["secondary", "--listen", "tcp:0.0.0.0:1", *GUEST, "--arbiter", "sqlite:c"], 2, "one machine only"),
        (["primary", "--connect", "tcp:192.0.2.1:1", *GUEST, "--arbiter", "sqlite:c"], 2, "one machine only"),
        ([*SECONDARY, "--guest", "nonsense", "--no-arbiter"], 2, "write MODULE:FACTORY"),
        ([*SECONDARY, "--guest", "nowhere:x", "--no-arbiter"], 2, "No module named 'nowhere'"),
        ([*SECONDARY, "--guest", "guests:missing", "--no-arbiter"], 2, "no attribute 'missing'"),
        ([*SECONDARY, "--guest", "guests:broken", "--no-arbiter"], 2, "RuntimeError: no licence"),
        ([*SECONDARY, "--guest", "guests:none", "--no-arbiter"], 2, "made a str, which is no Guest"),
        ([*SECONDARY, *GUEST, "--no-arbiter", "--fsync"], 2, "--fsync needs --store DIR"),
        ([*SECONDARY, *GUEST, "--no-arbiter", "--store", "full"], 1, "name another path"),
        (["secondary", "--listen", "unix:no/such/link", *GUEST, "--no-arbiter"], 1, "No such file"),
        (["diagram", "pair", "-o", "pair.gif"], 2, "an ending among dot, mmd, md, svg, png"),
        (["diagram", "pair", "-o", "no/such/pair.dot"], 1, "No such file"),
        (["diagram", "both"], 2, "'both' is not one of"),
    ],
)
def test_bad_input_is_one_clear_line(folder: Path, arguments: list[str], status: int, text: str) -> None:
    (folder / "full").mkdir()
    (folder / "full" / "other.txt").touch()
    result = colo_fsm(*arguments, folder=folder)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.returncode == status, result.stderr
    assert len(errors) == 1
    assert text in errors[0]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["", "demo", "primary", "secondary", "diagram"])
def test_help_has_an_example_and_fits_a_terminal(folder: Path, command: str) -> None:
    result = colo_fsm(*command.split(), "--help", folder=folder)
    assert result.returncode == 0
    assert max(map(len, result.stdout.splitlines())) <= 100
    if command:
        assert "Example:\n  " in result.stdout
        assert "Exit status:\n" in result.stdout
    else:
        assert "colo-fsm demo" in result.stdout


def test_a_command_starts_without_what_only_others_need(folder: Path) -> None:
    """Each is started by a supervisor while nobody serves: all that is imported is part of that time."""
    script = (
        "import atexit, sys; from colo_fsm.cli import main; sys.argv = ['colo-fsm', 'member', '--help'];"
        "atexit.register(lambda: print([m for m in sys.modules if m.startswith('colo_fsm.check')])); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("Usage: colo-fsm member")
    assert done.stdout.endswith("\n[]\n")


def test_a_diagram_in_every_format(folder: Path) -> None:
    for ending, start in {
        "dot": b"digraph",
        "mmd": b"%%",
        "md": b"# Primary",
        "svg": b"<?xml",
        "png": b"\x89PNG",
    }.items():
        result = colo_fsm("diagram", "pair", "-o", f"pair.{ending}", folder=folder)
        assert result.returncode == 0, result.stderr
        content = (folder / f"pair.{ending}").read_bytes()
        assert content.startswith(start)
        assert len(content) > 500
    assert colo_fsm("diagram", "primary", folder=folder).stdout.count("->") > 10


def test_a_verbose_side_logs_like_qemu(folder: Path) -> None:
    with both(folder, "-v") as (_, secondary):
        secondary.end()
        assert secondary.process.stderr is not None
        log = secondary.process.stderr.read()
    for text in (
        "Receive 'checkpoint-request' message",
        "Send 'vmstate-loaded' message",
        "Change 'received' => 'loaded'",
    ):
        assert re.search(f"^colo_fsm[.a-z]*: {re.escape(text)}$", log, re.MULTILINE)
