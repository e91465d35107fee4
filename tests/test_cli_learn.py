"""`colo-fsm learn` as people run it: what it says, the status, the picture, and what it is given wrongly."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from colo_fsm.cli.app import cli
from colo_fsm.colo import SECONDARY, COLOMessage, Variant
from colo_fsm.conform.targets.sessions import SessionLink
from colo_fsm.conform.voice import OwnState
from colo_fsm.fsm import Session
from colo_fsm.fsm.machine import machine_for
from colo_fsm.stream import Buffer

PATIENCE = 20.0
PAGE = Path(__file__).parents[1] / "docs" / "learning.md"
STATES = "if it has no more than"


class Wrong(SessionLink):
    """A Secondary that says `checkpoint-ready` in place of every reply."""

    def say(self, *data: Buffer) -> None:
        reply, ready = (COLOMessage.CHECKPOINT_REPLY, COLOMessage.CHECKPOINT_READY)
        super().say(*(ready.to_bytes(4) if each == reply.to_bytes(4) else each for each in data))


class Leaving(SessionLink):
    """A Secondary that says nothing, and ends, once it was asked for a checkpoint."""

    def say(self, *data: Buffer) -> None:
        if COLOMessage.CHECKPOINT_REPLY.to_bytes(4) in data:
            self._ended = True
        super().say(*data)


@contextmanager
def listening(path: Path, *kinds: type[SessionLink]) -> Iterator[None]:
    """Secondaries behind a real socket, for one peer after the other: of these kinds, in turn."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, kinds))
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def _serve(listener: socket.socket, kinds: tuple[type[SessionLink], ...]) -> None:
    machine = machine_for(SECONDARY, Variant())
    number = 0
    with suppress(OSError):
        while True:
            link, _ = listener.accept()
            with link:
                _talk(link, kinds[number % len(kinds)](Session(machine), OwnState()))
            number += 1


def _talk(link: socket.socket, side: SessionLink) -> None:
    with suppress(OSError):
        while data := link.recv(1 << 16):
            side.send([data])
            while said := side.receive(0):
                link.sendall(said)
            if said is not None:
                return


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["learn", *arguments])


def steady(output: str) -> str:
    """What is said, without what it took: AALpy does not always ask the same."""
    return re.sub(r"\d+ starts, \d+ inputs, \d+\.\d s", "…", output)


# -- verdicts


def test_equal() -> None:
    result = run("self", "--side", "secondary")
    assert result.exit_code == 0
    assert steady(result.output) == (
        f"self, secondary: answers like its table, {STATES} 3 states\n3 states learned, …\n"
    )


def test_equal_with_more_states_in_mind() -> None:
    result = run("self", "--side", "primary", "--extra", "2", "--profile", "patch")
    assert result.exit_code == 0
    assert f"{STATES} 6 states" in result.output


def test_a_foreign_protocol() -> None:
    result = run("self", "--secondary", "protocols.goodbye:SECONDARY")
    assert result.exit_code == 0
    assert f"{STATES} 3 states" in result.output


def test_different_over_a_real_socket(tmp_path: Path) -> None:
    with listening(tmp_path / "link", Wrong):
        result = run(f"unix:{tmp_path / 'link'}", "--side", "secondary")
    assert result.exit_code == 1
    head, *lines, figures = result.output.splitlines()
    assert head == f"unix:{tmp_path / 'link'}, secondary: does not answer like its table"
    assert lines == [
        "  given               its table says    seen",
        "  at first            checkpoint-ready  checkpoint-ready",
        "  checkpoint-request  checkpoint-reply  checkpoint-ready",
    ]
    assert figures.startswith("3 states learned, ")


def test_not_deterministic(tmp_path: Path) -> None:
    with listening(tmp_path / "link", SessionLink, SessionLink, Leaving):
        result = run(f"unix:{tmp_path / 'link'}", "--side", "secondary")
    assert result.exit_code == 1
    head, titles, first, *_, last = result.output.splitlines()
    assert head.endswith(": is not deterministic, it does not answer these inputs alike")
    assert titles.split() == ["given", "answered", "once", "and", "once"]
    assert first.split() == ["at", "first", "checkpoint-ready", "checkpoint-ready"]
    assert "checkpoint-request" in last
    assert "checkpoint-reply" in last
    assert "gives up" in last


def test_a_third_party_is_learned_over_a_real_socket(tmp_path: Path) -> None:
    """Plain sockets, nothing of this package: see tests/third_party."""
    address = f"unix:{tmp_path / 'link'}"
    program = Path(__file__).parent / "third_party" / "secondary.py"
    with subprocess.Popen([sys.executable, str(program), address]) as process:
        try:
            wait_for((tmp_path / "link").exists)
            result = run(address, "--side", "secondary")
        finally:
            process.kill()
    assert result.exit_code == 0, result.output
    assert f"{STATES} 3 states" in result.output


def wait_for(there: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(int(PATIENCE / 0.02)):
        if there():
            return
        waiting.wait(0.02)
    raise AssertionError("it is not there")


# -- for machines


def test_json_of_an_equal_side() -> None:
    said = json.loads(run("self", "--side", "secondary", "--json").output)
    assert (said["verdict"], said["bound"], said["finished"], said["seen"]) == ("equal", 3, True, None)
    assert said["machine"]["initial"] == "ready"
    step = {"state": "ready", "given": "checkpoint-request", "answer": "checkpoint-reply", "next": "replied"}
    assert step in said["machine"]["steps"]
    assert len(said["machine"]["steps"]) == 27


def test_json_of_others(tmp_path: Path) -> None:
    with listening(tmp_path / "link", Wrong):
        said = json.loads(run(f"unix:{tmp_path / 'link'}", "--side", "secondary", "--json").output)
    assert said["verdict"] == "different"
    assert said["expected"][-1] == {"given": "checkpoint-request", "answer": "checkpoint-reply"}
    assert said["seen"][-1] == {"given": "checkpoint-request", "answer": "checkpoint-ready"}
    with listening(tmp_path / "another", SessionLink, SessionLink, Leaving):
        said = json.loads(run(f"unix:{tmp_path / 'another'}", "--side", "secondary", "--json").output)
    assert said["verdict"] == "not deterministic"
    one, other = said["exchanges"]
    assert one != other


# -- the picture


@pytest.mark.parametrize(
    ("ending", "begins"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".dot", b"digraph")]
)
def test_it_draws(tmp_path: Path, ending: str, begins: bytes) -> None:
    file = tmp_path / f"learned{ending}"
    assert run("self", "--side", "secondary", "--draw", str(file)).exit_code == 0
    assert file.read_bytes().startswith(begins)


# -- what cannot be


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["self"], "say which side the target is"),
        (["nothing", "--side", "primary"], "'nothing' is no target"),
        (["self", "--side", "primary", "--draw", "x.pdf"], "which ends in .svg or .png or .dot"),
        (["self", "--side", "primary", "--draw", "no/x.svg"], "in a folder that is there"),
        (["self", "--side", "primary", "--extra", "-1"], "--extra"),
        ([], "Missing argument 'TARGET'"),
    ],
)
def test_bad_usage(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize("target", ["cmd:/none/such {address}", "unix:nobody-is-there"])
def test_what_cannot_be_tested_is_skipped_by_git_bisect(target: str) -> None:
    result = run(target, "--side", "secondary", "--timeout", "0.2")
    assert result.exit_code == 125
    assert len(result.output.splitlines()) == 1


def test_without_the_learner_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aalpy.learning_algs.deterministic.LSharp", None)
    result = run("self", "--side", "secondary")
    assert result.exit_code == 125
    assert result.output == "Error: learning needs AALpy: pip install 'colo-fsm[learn]'\n"


def test_it_ends_in_order_when_it_is_interrupted(tmp_path: Path) -> None:
    """No side is started any more, and those that were are ended."""
    met = threading.Event()

    class Met(SessionLink):
        def end(self) -> None:
            met.set()
            super().end()

        def send(self, data: Iterable[Buffer]) -> None:
            met.set()
            super().send(data)

    arguments = [f"unix:{tmp_path / 'link'}", "--side", "secondary", "--extra", "20"]
    with listening(tmp_path / "link", Met):
        command = [sys.executable, "-m", "colo_fsm", "learn", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert met.wait(PATIENCE)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, "", "")


# -- the page


def test_the_page_shows_what_is_said() -> None:
    [shown] = re.findall(r"\$ colo-fsm learn (self .*)\n((?:.*\n)*?)```", PAGE.read_text())
    arguments, output = shown
    assert steady(run(*arguments.split()).output) == steady(output)
