"""A command as a target: started for each case, watched while it starts, and ended whatever happens."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from colo_fsm.conform.case import Result, Verdict
from colo_fsm.conform.link import CannotTest
from colo_fsm.conform.plan import Plan, plan
from colo_fsm.conform.play import play, play_all
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.targets.command import PORTS, Command, exiting, fate, free_port, last_words
from colo_fsm.conform.voice import OwnState, TableVoice
from colo_fsm.fsm import Side
from colo_fsm.replica.address import Address

PARTY = Path(__file__).parent / "third_party"
PATIENCE = 60.0
"""Seconds: nothing here takes that long, unless it is waited for in vain."""
SIDES = {side: f"{sys.executable} {PARTY / side}.py" for side in ("primary", "secondary")}
LISTEN = """
import os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.bind(sys.argv[1].removeprefix("unix:"))
link.listen()
link, _ = link.accept()
link.recv(1)
"""


def command(
    line: str, side: Side = Side.SECONDARY, patience: float = PATIENCE, ready: str | None = None
) -> Command:
    table = plan(side).table
    return Command(line, table, lambda: TableVoice(table, OwnState()), patience, ready)


def python(code: str, *words: str) -> str:
    return shlex.join([sys.executable, "-c", code, *words])


def cannot(target: Command) -> str:
    with pytest.raises(CannotTest) as caught, target.fresh():
        pass
    return str(caught.value)


def played(line: str, id: str, made: Plan | None = None) -> Result:
    made = made or plan("secondary", timeout=20)
    (case,) = made.cases(only=[id])
    with made.target(f"cmd:{line}") as target:
        return play(case, target, Pace(made.timeout))


def soon(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def lives(pid: int) -> bool:
    """Whether it runs: one that has ended and whose parent has not looked yet does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# -- where its side is


@pytest.mark.parametrize("where", ["{address}", "tcp:127.0.0.1:{port}"])
@pytest.mark.parametrize("side", Side)
def test_it_is_told_where_to_meet(side: Side, where: str) -> None:
    made = plan(side, timeout=20)
    with made.target(f"cmd:{SIDES[side]} {where}") as target:
        results = list(play_all(made.cases(["wp"])[:4], target, Pace(made.timeout), jobs=4))
    assert [result.verdict for result in results] == [Verdict.PASS] * 4


def test_the_folder_is_its_own_and_goes_with_it() -> None:
    line = python("import sys; print(sys.argv[2], flush=True);" + LISTEN, "{address}", "{folder}")
    folders = list[Path]()
    for _ in range(2):
        with command(line).fresh() as (link, _):
            folders.append(Path(link.evidence()))
            assert folders[-1].is_dir()
    assert len(set(folders)) == 2
    assert not any(folder.exists() for folder in folders)


def test_ports_are_given_to_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And none at which somebody listens."""
    with free_port() as one, free_port() as other:
        assert {one, other} <= set(PORTS)
    monkeypatch.setattr("colo_fsm.conform.targets.command.PORTS", (one, other))
    for _ in range(10):
        with free_port() as first, free_port() as second:
            assert {first, second} == {one, other}
    with Address(host="127.0.0.1", port=one).listen():
        for _ in range(10):
            with free_port() as port:
                assert port == other


# -- when it is there


def test_a_command_that_ends_is_noticed_at_once() -> None:
    """Not when its time is over, which would be never."""
    line = python("import sys; sys.exit('no such table')", "{address}")
    assert cannot(command(line, patience=1e5)).endswith(": ended with status 1: no such table")
    assert cannot(command(line, Side.PRIMARY, patience=1e5)).endswith(": ended with status 1: no such table")


def test_a_command_that_crashes_as_it_starts_says_how() -> None:
    assert cannot(command(python("import os; os.abort()", "{address}"))).endswith(": ended by SIGABRT")


def test_a_command_that_is_not_there_in_time() -> None:
    line = python("import time; print('starting', flush=True); time.sleep(1e3)", "{address}")
    said = cannot(command(line, patience=0.5))
    assert "does not listen at unix:" in said
    assert said.endswith(" in 0.5 s: starting")
    assert "has not connected to unix:" in cannot(command(line, Side.PRIMARY, patience=0.1))
    assert "has not said 'ready', or does not" in cannot(command(line, patience=0.1, ready="ready"))


def test_no_such_program() -> None:
    assert (
        cannot(command("no-such-program {address}"))
        == "there is no program no-such-program that can be started"
    )


def test_it_is_connected_to_when_it_says_that_it_is_ready() -> None:
    """Not before, although it listens: whoever connects too early is turned away."""
    early = """
__import__("time").sleep(0.2)
link.setblocking(False)
try:
    link.accept()
    sys.exit("too early")
except BlockingIOError:
    print("now", flush=True)
link.setblocking(True)
link, _ = link.accept()
link.send(b"welcome")
"""
    code = LISTEN.replace("\nlink, _ = link.accept()", early)
    with command(python(code, "{address}"), ready="now").fresh() as (link, _):
        assert link.receive(PATIENCE) == b"welcome"


# -- how it ends


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("os.abort()", "SIGABRT"),
        ("os.close(link.detach()); os.kill(os.getpid(), 9)", "SIGKILL"),
        ("link.close(); __import__('time').sleep(0.2); os._exit(139)", "SIGSEGV"),
    ],
)
def test_a_crash_is_seen_although_the_link_had_to_end(how: str, name: str) -> None:
    with command(python(LISTEN + how, "{address}")).fresh() as (link, _):
        link.send([b"x"])
        assert link.receive(PATIENCE) == b""
        assert link.crash(PATIENCE) == name
        assert link.evidence() == f"ended by {name}"


@pytest.mark.parametrize("how", ["", "sys.exit('I give up')", "sys.exit(143)"])
def test_whoever_ends_in_order_has_not_crashed(how: str) -> None:
    with command(python(LISTEN + how, "{address}")).fresh() as (link, _):
        link.send([b"x"])
        assert link.receive(PATIENCE) == b""
        assert link.crash(PATIENCE) is None


def test_what_is_about_to_end_is_known() -> None:
    """The kernel says so before it closes a link, so that nobody has to guess how long that takes."""
    assert not exiting(os.getpid())
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        assert soon(lambda: exiting(process.pid))
    assert not exiting(process.pid)


def test_whoever_lives_on_behind_its_link_has_not_crashed() -> None:
    with command(python(f"{LISTEN}link.close(); __import__('time').sleep(1e3)", "{address}")).fresh() as (
        link,
        _,
    ):
        link.send([b"x"])
        assert link.receive(PATIENCE) == b""
        assert link.crash(0.01) is None


def test_a_crash_fails_a_case_whose_answers_are_right(tmp_path: Path) -> None:
    """The third party's Secondary, which gives up at any wrong message: but so as C programs do."""
    text = (PARTY / "secondary.py").read_text()
    sound, crashing = 'print(f"gives up: {error}", file=sys.stderr, flush=True)', "import os; os.abort()"
    assert sound in text
    (tmp_path / "secondary.py").write_text(text.replace(sound, crashing))
    result = played(f"{sys.executable} {tmp_path / 'secondary.py'} {{address}}", "colo/secondary/2.3")
    assert result.verdict is Verdict.FAIL
    assert result.deviation is not None
    assert result.deviation.got == "a crash: SIGABRT"
    assert result.deviation.row == result.case.steps[-1].row
    assert result.evidence == "ended by SIGABRT"


def test_a_crash_in_place_of_an_answer_is_named(tmp_path: Path) -> None:
    text = (
        (PARTY / "secondary.py").read_text().replace("self.link.sendall(REPLY)", "__import__('os').abort()")
    )
    (tmp_path / "secondary.py").write_text(text)
    result = played(f"{sys.executable} {tmp_path / 'secondary.py'} {{address}}", "colo/secondary/2.1")
    assert str(result.deviation) == "expected checkpoint-reply, got a crash: SIGABRT"


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    """Nor of what it has started itself."""
    child = f"""
import subprocess
child = subprocess.Popen(["sleep", "1000"])
open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
link.listen()"""
    with command(python(LISTEN.replace("\nlink.listen()", child), "{address}")).fresh():
        pids = [*map(int, (tmp_path / "pids").read_text().split())]
        assert len(pids) == 2
        assert all(map(lives, pids))
    assert soon(lambda: not any(map(lives, pids)))


def test_nothing_is_left_of_it_when_the_tester_is_killed(tmp_path: Path) -> None:
    code = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()));{LISTEN.strip()}"
    line = python(code.replace("\n", ";"), "{address}")
    tester = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "colo_fsm",
            "conformance",
            f"cmd:{line}",
            "--side",
            "secondary",
            "--timeout",
            "60",
        ]
    )
    pid = tmp_path / "pid"
    try:
        assert soon(lambda: pid.exists() and bool(pid.read_text()))
        assert lives(int(pid.read_text()))
    finally:
        tester.kill()
        tester.wait()
    assert soon(lambda: not lives(int(pid.read_text())))


def test_it_ends_with_an_error_of_ours_too(tmp_path: Path) -> None:
    code = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n{LISTEN}"
    with pytest.raises(RuntimeError), command(python(code, "{address}")).fresh():
        raise RuntimeError
    assert soon(lambda: not lives(int((tmp_path / "pid").read_text())))


def test_many_at_a_time_do_not_meet(tmp_path: Path) -> None:
    target = command(python(LISTEN, "{address}"))
    at_once = threading.Barrier(4)

    def one() -> None:
        with target.fresh() as (link, _):
            at_once.wait(PATIENCE)
            link.send([b"x"])
            assert link.receive(PATIENCE) == b""
            met.append(True)

    met = list[bool]()
    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(met) == 4


# -- words


def test_the_last_words_are_one_line(tmp_path: Path) -> None:
    said = tmp_path / "words"
    said.write_bytes(b"first\n\nlast \xff\n")
    assert last_words(said) == "first / last \ufffd"
    said.write_text("x" * 1000)
    assert last_words(said) == f"...{'x' * 300}"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("pass", "ended with status 0"),
        ("exit(3)", "ended with status 3"),
        ("exit(255)", "ended with status 255"),
    ],
)
def test_how_it_has_ended_in_words(code: str, words: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", code])
    process.wait()
    assert fate(process) == words


def test_how_it_was_killed_in_words() -> None:
    process = subprocess.Popen(["sleep", "1000"])
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert fate(process) == "ended by SIGKILL"
