"""Two `colo-fsm member` processes over one data set, and a client that knows nothing of the package."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

PATIENCE = 120.0
"""Seconds that no step takes, on a machine slowed to a tenth either."""

NAMES = ("a", "b")
SCHEMA = "CREATE TABLE ledger (key TEXT PRIMARY KEY)"


class Process:
    """A member as a process; what it says is read as it comes."""

    def __init__(self, name: str, process: subprocess.Popen[str], folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._said = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._said:
                    self.events.append(json.loads(line))
                    self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()

    def until(self, event: str, *, since: int = 0, **fields: object) -> dict[str, Any]:
        """The first event like this behind the first `since`. Raises AssertionError when it does not come."""
        wanted, end = {"event": event, **fields}, time.monotonic() + PATIENCE
        with self._said:
            while True:
                for found in self.events[since:]:
                    if wanted.items() <= found.items():
                        return found
                assert not self._ended, f"{self.name} ended before {wanted}: {self.events[-5:]}"
                assert self._said.wait(end - time.monotonic()), f"{self.name}: no {wanted}"

    def ctl(self, command: str) -> subprocess.CompletedProcess[str]:
        """What `colo-fsm ctl` says of it."""
        return subprocess.run(
            [sys.executable, "-m", "colo_fsm", "ctl", f"{self.name}.ctl", command],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def kill(self) -> None:
        """As a power cut does."""
        self.process.kill()
        self.gone()

    def gone(self) -> None:
        """Wait until it has ended, and all that it has said is read."""
        self.process.wait()
        self._thread.join()

    def end(self) -> int:
        """As a supervisor does; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        self.gone()
        return status


class Members:
    """Both members of a data set in a folder, started by the same command lines each time."""

    def __init__(self, folder: Path, *more: str, arbiter: str = "sqlite:claim.db") -> None:
        self.folder = folder
        self.more = more
        self.arbiter = arbiter
        self.running: dict[str, Process] = {}
        (folder / "schema.sql").write_text(SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.running.values():
            each.kill()

    def start(self, name: str, *more: str) -> Process:
        """This one, as given to systemd."""
        peer = NAMES[1 - NAMES.index(name)]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "colo_fsm", "member", "--name", name, "--arbiter", self.arbiter),
                *("--listen", f"unix:{name}.link", "--peer", f"unix:{peer}.link", "--store", name),
                *("--guest", "sqlite", "--serve", f"unix:{name}.serve", "--schema", "schema.sql"),
                *("--control", f"{name}.ctl", "--interval-ms", "20", "--json", *self.more, *more),
            ],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.running[name] = Process(name, process, self.folder)
        return self.running[name]

    def both(self) -> None:
        for name in NAMES:
            self.start(name)

    def until_protected(self) -> Process:
        """The one that runs the guest, once the other has what it acknowledges."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for each in self.running.values():
                moves = [e for e in each.events if e["event"] == "member"]
                if moves and moves[-1]["state"] == "primary" and each.process.poll() is None:
                    return each
            time.sleep(0.02)
        raise AssertionError({name: each.events[-3:] for name, each in self.running.items()})

    def other(self, than: Process) -> Process:
        return self.running[NAMES[1 - NAMES.index(than.name)]]

    @property
    def addresses(self) -> list[str]:
        return [str(self.folder / f"{name}.serve") for name in NAMES]

    def ask(self, sql: str, **more: object) -> dict[str, Any]:
        """What whoever serves answers; asked again, of whoever it is, until somebody does."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for address in self.addresses:
                with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as link:
                    link.settimeout(PATIENCE)
                    link.connect(address)
                    link.sendall(json.dumps({"sql": sql, **more}).encode() + b"\n")
                    with link.makefile("rb") as reader:
                        if line := reader.readline():
                            reply: dict[str, Any] = json.loads(line)
                            return reply
            time.sleep(0.02)
        raise AssertionError(f"nobody answers {sql!r}")

    def keys(self) -> set[str]:
        """What the data set has."""
        return {key for (key,) in self.ask("SELECT key FROM ledger")["rows"]}


class Writer:
    """Writes keys, one after the other, as fast as they are acknowledged; and reads, now and then.

    `acknowledged` are those that were; every read has to have all that were before it began.
    """

    def __init__(self, members: Members, name: str = "w") -> None:
        self.acknowledged: list[str] = []
        self.longest = 0.0
        """Seconds between two acknowledgements, at most."""
        self.wrong: list[str] = []
        self._members = members
        self._name = name
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE)

    def until(self, count: int) -> None:
        """So many more are acknowledged."""
        goal, end = len(self.acknowledged) + count, time.monotonic() + PATIENCE
        while len(self.acknowledged) < goal:
            assert time.monotonic() < end, "nothing is acknowledged any more"
            assert not self.wrong, self.wrong
            time.sleep(0.01)

    def _run(self) -> None:
        number, last = 0, time.monotonic()
        while not self._over.is_set():
            key = f"{self._name}{number}"
            reply = self._members.ask("INSERT INTO ledger VALUES (?)", params=[key], key=key)
            if "error" in reply:
                self.wrong.append(f"{key}: {reply['error']}")
            self.acknowledged.append(key)
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now
            number += 1
            if number % 10 == 0:
                self._read()

    def _read(self) -> None:
        before = set(self.acknowledged)
        if lost := before - self._members.keys():
            self.wrong.append(f"a read went back: {sorted(lost)[:5]}")


def lost(members: Members, *writers: Writer) -> set[str]:
    """What was acknowledged and is not there."""
    wrong = [each for writer in writers for each in writer.wrong]
    assert not wrong, wrong
    return {key for writer in writers for key in writer.acknowledged} - members.keys()


@contextlib.contextmanager
def members(folder: Path, *more: str, arbiter: str = "sqlite:claim.db") -> Iterator[Members]:
    """Both of them, running."""
    with Members(folder, *more, arbiter=arbiter) as both:
        both.both()
        yield both
