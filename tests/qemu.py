"""Real QEMU processes for tests: start, drive, watch and surely end them.

Nothing here knows the COLO protocol: a `Qemu` is driven over QMP, and its guest's memory is read and
written from outside over qtest. Both run over socket pairs that the process inherits, so there are no
paths to keep short, no ports to collide and no waiting for a socket to appear.

    with colo_pair(tmp_path) as (primary, secondary):  # replicating, the guest runs
        primary.write(0x1000000, b"hello")
        primary.checkpoint()
        primary.kill()
        secondary.lost_heartbeat()
        assert secondary.read(0x1000000, 5) == b"hello"

`qemu_writer` keeps the guest busy and knows what each checkpoint holds, `qemu_relay` watches and cuts
the link between two sides.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import pytest
import qemus
from qemu_lines import PATIENCE, Lines

T = TypeVar("T")
Accel = Literal["kvm", "tcg"]

ON_DEMAND = 3_600_000
"""A checkpoint delay (ms) so long that checkpoints happen only when `Qemu.checkpoint` asks for one."""

needs_qemu = pytest.mark.real_qemu
"""Runs with every version in `qemus`, all but the oldest in `make soak`; see `conftest`."""
needs_kvm = pytest.mark.real_qemu(kvm=True)
"""The same; under TCG a Primary up to 10.0 deadlocks after one checkpoint."""
each_version = pytest.mark.each_version
"""Runs with every version in `make test`, too."""


_REFUSED = {
    "multifd": None,
    "return-path": 11,
    "postcopy-ram": None,
    "x-ignore-shared": None,
    "dirty-bitmaps": None,
    "block": 9,
    "compress": 9,
}


def refused_capabilities() -> list[str]:
    """What changes the stream of this version and is not read here; from 11 on, COLO needs return-path."""
    major = qemus.current().number[0]
    return [name for name, until in _REFUSED.items() if until is None or major < until]


class QemuError(Exception):
    """QEMU refused a command, or its migration failed; the text is QEMU's."""


class Qemu:
    """A QEMU process inside a `with` block, ended with SIGKILL (a deadlocked one ignores SIGTERM).

    It also dies with the thread that entered the block: do not enter from a thread that ends earlier.
    `folder` gets NAME.log (its stderr) and, if `trace` is set, the trace file. `incoming` is a migration
    URI; `tcp:127.0.0.1:0` picks a free port, and `uri` says which. `paused` is `-S`. `extra` is appended
    to the command line, and `inherits` are descriptors that it names. Several threads may use one `Qemu`.

    `events` has every QMP event since the start. A thread reads them as they come; `read_events` makes
    sure of those that are already there.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        incoming: str | None = None,
        machine: str = "pc",
        memory: int = 64,
        accel: Accel = "kvm",
        smp: int = 1,
        extra: Sequence[str] = (),
        trace: Path | None = None,
        paused: bool = False,
        inherits: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.events: list[dict[str, Any]] = []
        self.stops = self.resumes = 0
        self.left_colo = False
        self.checkpoint_delay_ms: int | None = None
        self._inherits = [*inherits]
        self.arguments = ["-machine", machine, "-accel", accel, "-m", str(memory), "-smp", str(smp)]
        self.arguments += ["-nodefaults", "-display", "none", "-vga", "none"]
        self.arguments += ["-incoming", incoming] if incoming else []
        self.arguments += ["-trace", "colo_*", "-D", str(trace)] if trace else []
        self.arguments += ["-S"] if paused else []
        self.arguments += extra
        self._ids = itertools.count()
        self._answers: dict[int, dict[str, Any]] = {}
        self._news = threading.Condition()
        self._testing = threading.Lock()
        self._listener = threading.Thread(target=self._listen, name=f"{name} listener")

    def __enter__(self) -> Self:
        self._qmp, self._qtest = Lines(), Lines()
        qmp, qtest = self._qmp.theirs.fileno(), self._qtest.theirs.fileno()
        command = ["setpriv", "--pdeathsig", "KILL", qemus.PROGRAM, *self.arguments]
        command += ["-chardev", f"socket,id=qmp,fd={qmp}", "-mon", "chardev=qmp,mode=control"]
        command += ["-chardev", f"socket,id=qtest,fd={qtest}", "-qtest", "chardev:qtest"]
        command += ["-qtest-log", "/dev/null"]
        kept = [qmp, qtest, *self._inherits]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=kept,
            )
        self._qmp.theirs.close()
        self._qtest.theirs.close()
        self._listener.start()
        try:
            self.qmp("qmp_capabilities", enable=["oob"])
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._listener.join()
        self._qmp.close()
        self._qtest.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. What it had said before can still be read from `events`."""
        self.process.kill()
        self.process.wait()
        self.read_events()

    # -- QMP

    def qmp(self, command: str, **arguments: Any) -> Any:
        """What QEMU returns. Underscores in the names of arguments become dashes."""
        return self._execute("execute", command, arguments)

    def _execute(self, how: str, command: str, arguments: Mapping[str, Any]) -> Any:
        number = next(self._ids)
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        message = {how: command, "arguments": named, "id": number}
        with contextlib.suppress(BrokenPipeError):  # until() says it better
            self._qmp.socket.sendall(json.dumps(message).encode() + b"\n")
        answer = self.until(lambda: self._answers.pop(number, None), f"the answer to {command}")
        if "error" in answer:
            raise QemuError(f"{self.name}: {command}: {answer['error']['desc']}")
        return answer["return"]

    def read_events(self) -> None:
        """Read what QEMU has said up to now into `events`, without waiting."""
        with self._news:
            for line in self._qmp.arrived():
                message = json.loads(line)
                if "event" in message:
                    self._count(message["event"])
                    self.events.append(message)
                elif "id" in message:
                    self._answers[message["id"]] = message
            self._news.notify_all()

    def _listen(self) -> None:
        while not self._qmp.ended:
            self._qmp.wait()
            self.read_events()

    def _count(self, event: str) -> None:
        self.left_colo |= event == "COLO_EXIT"
        if not self.left_colo:
            self.stops += event == "STOP"
            self.resumes += event == "RESUME"

    def until(self, found: Callable[[], T | None], what: str, timeout: float = PATIENCE) -> T:
        """What `found` returns once that is not None; asked when QEMU has said something, and every 50 ms.

        Raises ConnectionError with QEMU's own words if the process ends first, TimeoutError if time is up.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                if (value := found()) is not None:
                    return value
                if self._qmp.ended:
                    raise ConnectionError(f"{self.name} ended before {what}: {self._words()}")
                if (left := deadline - time.monotonic()) <= 0:
                    raise TimeoutError(f"{self.name}: no {what} in {timeout} s: {self._words()}")
                self._news.wait(min(left, 0.05))

    def _words(self) -> str:
        return self.log.read_text().strip() or "it says nothing"

    def wait_event(self, name: str, timeout: float = PATIENCE, *, start: int = 0) -> dict[str, Any]:
        """The first event of that name in `events[start:]`; `start=len(q.events)` waits for a new one."""

        def found() -> dict[str, Any] | None:
            return next((e for e in self.events[start:] if e["event"] == name), None)

        return self.until(found, f"event {name}", timeout)

    # -- memory, over qtest

    def read(self, address: int, size: int) -> bytes:
        """Guest memory. A running guest goes on writing meanwhile: `qmp("stop")` first."""
        return base64.b64decode(self._ask(f"b64read {address:#x} {size:#x}"))

    def write(self, address: int, data: bytes) -> None:
        """QEMU counts it as dirty memory. Not atomic with a checkpoint: see `qemu_writer`."""
        self._ask(f"b64write {address:#x} {len(data):#x} {base64.b64encode(data).decode()}")

    def out(self, port: int, value: int) -> None:
        """Write a byte to an I/O port."""
        self._ask(f"outb {port:#x} {value:#x}")

    def _ask(self, line: str) -> str:
        with self._testing:
            with contextlib.suppress(BrokenPipeError):
                self._qtest.socket.sendall(line.encode() + b"\n")
            deadline = time.monotonic() + PATIENCE
            while not (lines := self._qtest.arrived()):
                if self._qtest.ended:
                    raise ConnectionError(f"{self.name} ended before qtest's answer to {line[:40]}")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.name}: qtest does not answer {line[:40]}")
                self._qtest.wait(0.05)
        verdict, _, rest = lines[0].decode().partition(" ")
        if verdict != "OK":
            raise QemuError(f"{self.name}: qtest: {lines[0].decode()}")
        return rest

    # -- migration and COLO

    @property
    def uri(self) -> str:
        """Where a QEMU with `incoming` of kind tcp or unix listens, as a migration URI."""
        address = self.qmp("query-migrate")["socket-address"][0]
        if address["type"] == "unix":
            return f"unix:{address['path']}"
        return f"tcp:{address['host']}:{address['port']}"

    def enable_colo(self, checkpoint_delay_ms: int = ON_DEMAND, **capabilities: bool) -> None:
        """Before the migration, on both sides. Other capabilities by name: `xbzrle=True`."""
        self.checkpoint_delay_ms = checkpoint_delay_ms
        always = (
            {"x_colo": True, "return_path": True} if qemus.current().number >= (11,) else {"x_colo": True}
        )
        self.set_capabilities(**{**always, **capabilities})
        self.qmp("migrate-set-parameters", x_checkpoint_delay=checkpoint_delay_ms)

    def set_capabilities(self, **capabilities: bool) -> None:
        """By name, as `xbzrle=True`. Raises QemuError."""
        named = [{"capability": name.replace("_", "-"), "state": on} for name, on in capabilities.items()]
        self.qmp("migrate-set-capabilities", capabilities=named)

    def migrate(self, uri: str) -> None:
        """Begin, and return at once. From here `stops` counts: STOP 0 ends the initial migration, STOP n is
        inside round n. That holds until COLO ends, unless somebody stops the guest by other means.
        """
        self.read_events()
        self.stops = self.resumes = 0
        self.qmp("migrate", uri=uri)

    def wait_colo(self, timeout: float = PATIENCE) -> None:
        """Until this side replicates. Raises QemuError if the migration failed."""
        self._wait_status(lambda: self._migration() == "colo", "COLO", timeout)

    def wait_loaded(self, timeout: float = PATIENCE) -> None:
        """Until an `incoming` stream without COLO is loaded; ConnectionError if QEMU refuses it."""
        self._wait_status(lambda: self.qmp("query-status")["status"] != "inmigrate", "loaded VM", timeout)

    def _migration(self) -> str | None:
        state: Mapping[str, str] = self.qmp("query-migrate")
        if state.get("status") == "failed":
            reason = state.get("error-desc", self._words())
            raise QemuError(f"{self.name}: migration failed: {reason}")
        return state.get("status")

    def _wait_status(self, reached: Callable[[], bool], what: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not reached():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: no {what} in {timeout} s: {self._words()}")
            time.sleep(0.002)

    def replicate(self, uri: str, checkpoint_delay_ms: int = ON_DEMAND, **capabilities: bool) -> None:
        """Be the Primary of whatever listens at `uri`; returns when the guest runs under COLO."""
        self.enable_colo(checkpoint_delay_ms, **capabilities)
        self.migrate(uri)
        self.wait_colo()
        self.until(lambda: self.resumes or None, "the guest's start")

    def ask_checkpoint(self) -> None:
        """A Primary begins a round at once; what QEMU does when its delay is set anew."""
        self.qmp("migrate-set-parameters", x_checkpoint_delay=self.checkpoint_delay_ms)

    def checkpoint(self) -> int:
        """One whole round of a pair that is ON_DEMAND; its number. The guest runs again."""
        number = self.stops
        self.ask_checkpoint()
        self.until(lambda: self.resumes > number or None, f"end of round {number}")
        return number

    def yank(self) -> None:
        """End the link from within: out of band, so that a QEMU does it that hangs on the link."""
        self._execute("exec-oob", "yank", {"instances": [{"type": "migration"}]})

    def lost_heartbeat(self) -> None:
        """Failover to this side; returns when it has left COLO and its guest runs."""
        start = len(self.events)
        self.qmp("x-colo-lost-heartbeat")
        self.wait_event("COLO_EXIT")
        at = next(i for i, event in enumerate(self.events) if event["event"] == "COLO_EXIT")
        # QEMU starts the guest as its last act, with STOP and RESUME if it was running already.
        self.wait_event("RESUME", start=max(start, at))

    def colo_status(self) -> Mapping[str, str]:
        """`mode`, `last-mode` and `reason`. This reason is reliable, that of COLO_EXIT is not."""
        status: Mapping[str, str] = self.qmp("query-colo-status")
        return status


@contextlib.contextmanager
def colo_pair(
    folder: Path,
    *,
    checkpoint_delay_ms: int = ON_DEMAND,
    uri: str = "tcp:127.0.0.1:0",
    machine: str = "pc",
    memory: int = 64,
    smp: int = 1,
    accel: Accel = "kvm",
    extra: Sequence[str] = (),
    trace: bool = False,
    **capabilities: bool,
) -> Iterator[tuple[Qemu, Qemu]]:
    """A Primary and a Secondary that replicate; `trace` leaves primary.trace and secondary.trace in `folder`.

    Not with q35: a Secondary of that type aborts before 11, once the firmware has run.
    """

    def side(name: str, incoming: str | None) -> Qemu:
        return Qemu(
            folder,
            name,
            incoming=incoming,
            machine=machine,
            memory=memory,
            accel=accel,
            smp=smp,
            extra=extra,
            trace=folder / f"{name}.trace" if trace else None,
        )

    with side("secondary", "defer") as secondary, side("primary", None) as primary:
        secondary.enable_colo(**capabilities)
        secondary.qmp("migrate-incoming", uri=uri)  # multifd has to be on before that
        primary.replicate(secondary.uri, checkpoint_delay_ms, **capabilities)
        yield primary, secondary


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now. Another process may take it: prefer port 0 where you can.

    Below the ports that the kernel hands out for 0, so that no other test is given it meanwhile.
    """
    while True:
        port = random.randrange(15_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
