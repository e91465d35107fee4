"""How commands end: output that cannot be written, ^C at any moment, and what is said by default."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_readers import COMMAND, listens, loaded, output, side, write_guests
from standby_process import until

PATIENCE = 60
SOON = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_guests(tmp_path)
    return tmp_path


@contextlib.contextmanager
def running(command: list[str], folder: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """This command with its output in pipes; killed at the end."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


# -- a result that cannot be written -----------------------------------------------------------------------

NO_ROOM = "Error: standard output cannot be written: No space left on device"
NOBODY = "Error: standard output cannot be written: nobody reads it any more"
CLOSED = "Error: standard output cannot be written: Bad file descriptor"


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (["verify", "--list"], "full", NO_ROOM),
        (["verify", "--list"], "gone", NOBODY),
        (["verify", "--list"], "closed", CLOSED),
        (["verify", "--scenario", "plain-link", "--json"], "full", NO_ROOM),
        (["simulate", "--seeds", "1", "--jobs", "1"], "full", NO_ROOM),
        (["diagram", "pair"], "full", NO_ROOM),
        (["diagram", "pair"], "closed", CLOSED),
        (["inspect", "stream"], "gone", NOBODY),
        (["--help"], "full", NO_ROOM),
    ],
    ids=lambda part: part if isinstance(part, str) and len(part) < 10 else None,
)
def test_a_result_that_cannot_be_written_is_one_line_and_status_1(
    tmp_path: Path, arguments: list[str], kind: str, said: str
) -> None:
    (tmp_path / "stream").write_bytes(stream())
    closing = ["sh", "-c", 'exec "$@" >&-', "sh"] if kind == "closed" else []
    with output(kind) as out:
        command = [*closing, *COMMAND, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, text=True, timeout=PATIENCE
        )
    assert (done.returncode, done.stderr) == (1, f"{said}\n")


def stream() -> bytes:
    """A VM's first state, as `inspect` takes it."""
    from standby_process import initial

    return initial()


def test_a_result_waits_for_a_slow_reader(tmp_path: Path) -> None:
    """Nothing of it is dropped: it is no talk, but what was asked for."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    command = [*COMMAND, "diagram", "pair"]
    with os.fdopen(reader, "rb") as pipe, running(command, tmp_path, stdout=writer) as process:
        os.close(writer)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)  # longer than a side would wait, or it has not begun
        assert pipe.read() == subprocess.check_output(command, timeout=PATIENCE)
        assert process.wait(SOON) == 0


@pytest.mark.parametrize("kind", ["full", "closed"])
def test_an_error_that_cannot_be_said_leaves_the_status_as_it_is(tmp_path: Path, kind: str) -> None:
    closing = ["sh", "-c", 'exec "$@" 2>&-', "sh"] if kind == "closed" else []
    with output(kind) as out:
        command = [*closing, *COMMAND, "verify", "--no-such-option"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=out, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_file_never_becomes_a_closed_output(folder: Path) -> None:
    """Without a standard output the next file would get its number, and what is said would go into it."""
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *side("secondary", "--store", "store", "-v")]
    with running(command, folder, stdout=None, stderr=None) as process:
        until(lambda: listens(folder / "link"), "listening Secondary")
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON) == 0
    for file in filter(Path.is_file, folder.rglob("*")):
        assert b"listening" not in file.read_bytes() or file.name == "guests.py", file


# -- ^C ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def peer(kind: str) -> Iterator[str]:
    """An address where a Primary gets no further: it is not there, does not answer, or says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        where = listener.getsockname()
        if kind == "no answer":
            for _ in range(3):  # whoever comes now is not even let into the queue
                link = stack.enter_context(socket.socket())
                link.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    link.connect(where)
        yield f"tcp:127.0.0.1:{where[1]}" if kind != "nobody" else "unix:nobody"


@pytest.mark.parametrize("kind", ["nobody", "no answer", "silent"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["^C", "SIGTERM"])
def test_a_primary_without_a_pair_ends_at_once_and_in_order(
    folder: Path, kind: str, number: signal.Signals
) -> None:
    with peer(kind) as where:
        command = [*side("primary"), "--connect", where]
        with running(command, folder) as process:
            until(lambda: caught(process.pid, signal.SIGTERM) or None, "handler")
            process.send_signal(number)
            began = time.monotonic()
            _, said = process.communicate(timeout=PATIENCE)
            assert time.monotonic() - began < 5
    assert (process.returncode, said) == (0, "")


def caught(pid: int, number: signal.Signals) -> bool:
    """Whether this process has a handler for it: of SIGINT Python has one, but while our modules load."""
    mask = re.search(r"^SigCgt:\t(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert mask is not None
    return bool(int(mask[1], 16) >> number - 1 & 1)


def test_a_name_server_that_is_silent_keeps_nobody_from_ending(folder: Path) -> None:
    """Looking a name up cannot be broken off: it is left alone."""
    slow = "import socket, time\nsocket.getaddrinfo = lambda *_, **__: time.sleep(3600)\n"
    (folder / "guests.py").write_text(slow + (folder / "guests.py").read_text())
    command = [*COMMAND, "primary", "--connect", "tcp:standby:1", "--guest", "guests:first", "--no-arbiter"]
    with running(command, folder) as process:
        until(lambda: caught(process.pid, signal.SIGTERM) or None, "handler")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SOON) == ("", "")
    assert process.returncode == 0


def test_a_second_interrupt_does_not_wait_for_a_hook_that_hangs(folder: Path) -> None:
    with running(side("secondary"), folder) as secondary:
        until(lambda: listens(folder / "link"), "listening Secondary")
        with running([*side("primary"), "--guest", "guests:hanging"], folder) as primary:
            until(lambda: (folder / "saving").exists() or None, "save")
            primary.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                primary.wait(0.3)
            primary.send_signal(signal.SIGINT)
            _, said = primary.communicate(timeout=SOON)
        assert (primary.returncode, said) == (130, "")
        secondary.kill()


@pytest.mark.parametrize(
    "arguments",
    [["verify", "--scenario", "all"], ["simulate", "--minutes", "5"], ["demo", "--seconds", "60"]],
    ids=lambda arguments: arguments[0],
)
def test_an_interrupt_ends_a_command_without_a_traceback(tmp_path: Path, arguments: list[str]) -> None:
    """By chance while it starts, or at work; then its own children end, too."""
    moment = random.random()
    with running([*COMMAND, *arguments], tmp_path, start_new_session=True) as process:
        ours = process.pid
        until(lambda: caught(ours, signal.SIGINT) or None, "Python's handler")
        late = time.monotonic() + 10  # if we were asleep when our modules loaded, they have by then
        until(lambda: not caught(ours, signal.SIGINT) or time.monotonic() > late or None, "our own code")
        time.sleep(moment)  # any will do
        os.killpg(ours, signal.SIGINT)  # as a terminal does it
        _, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode in (130, -signal.SIGINT), said) == (True, ""), f"after {moment} s"
    until(lambda: not members(ours) or None, "end of its children")


def members(session: int) -> list[int]:
    """The processes of this session that are alive."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            rest = status.read_text().rpartition(")")[2].split()
            if int(rest[3]) == session and rest[0] != "Z":
                found.append(int(status.parent.name))
    return found


# -- Unix sockets ------------------------------------------------------------------------------------------


def listening(command: str, at: str) -> list[str]:
    """This command, with its socket there."""
    if command == "secondary":
        return [*side("secondary"), "--listen", at]
    more = ["--store", "vm", "--no-arbiter"] if command == "standby" else ["--connect", "unix:nobody"]
    return [*COMMAND, command, "--listen", at, *more]


@pytest.mark.parametrize("command", ["secondary", "standby", "tap"])
def test_a_unix_socket_goes_with_its_process_and_a_stale_one_is_taken_over(
    folder: Path, command: str
) -> None:
    at = folder / "at"
    with running(listening(command, "unix:at"), folder) as process:
        until(lambda: listens(at), "socket")
        process.kill()
        process.wait(SOON)
    assert listens(at), "killed, it leaves its socket behind"
    with running(listening(command, "unix:at"), folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening at unix:at")
        with running([*side("secondary"), "--listen", "unix:at"], folder) as other:
            _, said = other.communicate(timeout=PATIENCE)
            assert (other.returncode, said) == (1, "Error: [Errno 98] Address already in use: 'unix:at'\n")
        assert listens(at), "one in use is left alone"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SOON)
    assert not at.exists()


# -- how much is said --------------------------------------------------------------------------------------


def test_by_default_a_line_a_change_and_with_quiet_only_what_must_be_known(folder: Path) -> None:
    """The same pair three times: the Secondary goes on alone, and ends."""
    said = {}
    for option in ("--quiet", "", "-v"):
        (folder / "loaded").unlink(missing_ok=True)
        with running(side("secondary", *filter(None, [option])), folder) as secondary:
            until(lambda: listens(folder / "link"), "listening Secondary")
            with running(side("primary", "--interval-ms", "1"), folder, stdout=subprocess.DEVNULL) as primary:
                until(lambda: loaded(folder) > 3 or None, "third checkpoint")
                primary.kill()
            until(lambda: (folder / "alone").exists() or None, "takeover")
            secondary.send_signal(signal.SIGTERM)
            out, log = secondary.communicate(timeout=SOON)
        (folder / "alone").unlink()
        out = re.sub(r"failover \(.*\)", "failover (WHY)", re.sub(r"\d{4,}", "N", out))
        said[option] = out.splitlines()
        assert bool(log) is (option == "-v"), log
    known = [
        "secondary: failover (WHY)",
        "claim won (token N)",
        "secondary: alone",
        "secondary: ended",
    ]
    assert said["--quiet"] == known
    assert said[""] == ["listening at unix:link", "secondary: ready, generation N", *known]
    rounds = [line for line in said["-v"] if line.startswith("checkpoint ")]
    assert rounds
    assert [line for line in said["-v"] if line not in rounds] == said[""]
