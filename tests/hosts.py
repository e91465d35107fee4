"""Whom strangers come to: each of our listeners with a true peer, whose session has a before and an after.

`with HOSTS[name](folder) as host:` is the time before; then `begin`, `go_on` and `end`, each with strangers
at `host.address` meanwhile if one likes, and `check` once they have gone. Whatever a stranger can spoil, one
of these raises.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Self

import replicas
from replicas import NEVER, Counting
from served_pair import Client, side
from standby_process import COMMAND, REPLACE, StandbyProcess, StreamPrimary, until
from strangers import FLOOD, GREETERS
from vm_link import keep, number_in

from colo_fsm.fsm import ProtocolError
from colo_fsm.replica import Address, DirectoryStore, Options, blocking

PATIENCE = 60.0
ROUNDS = 3
GREETING = "0.3"
"""Seconds that strangers have."""

MOST_GROWTH = 20 << 20
"""Bytes of memory that strangers may have cost when they have gone."""


class Host(ABC):
    """A process of ours that listens at `address`."""

    not_before: Collection[str] = ()
    """Kinds that it takes for its peer when that has not come yet, as it must."""
    slack = 1 << 16
    """Bytes of disk that its true session may take."""
    peak = MOST_GROWTH
    """Bytes of memory that strangers may cost while they are there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = ""
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self.stack:
            self.start()
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes of it that are resident, and at most since this was asked last; 0 when it has ended."""
        pid = self.process.pid
        try:
            found = replicas.memory(pid), replicas.memory(pid, "VmHWM")
            replicas.forget_peak(pid)
        except (OSError, IndexError):  # gone, or a zombie
            return 0, 0
        return found

    @property
    def room(self) -> int:
        """The disk that it takes, in bytes."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sum(path.stat().st_blocks * 512 for path in files)

    process: subprocess.Popen[str] | subprocess.Popen[bytes]

    @abstractmethod
    def start(self) -> None:
        """From now on strangers may come; `stack` ends what is started."""

    @abstractmethod
    def begin(self) -> None:
        """The true peer comes."""

    @abstractmethod
    def go_on(self) -> None:
        """It does what it came for."""

    @abstractmethod
    def end(self) -> None:
        """It is gone, and whoever is to go on does."""

    @abstractmethod
    def check(self) -> None:
        """All is as if nobody else had come."""


def nobody_listens(address: str) -> bool:
    """Whether who connects there is refused."""
    place = Address.parse(address)
    family = socket.AF_UNIX if place.path else socket.AF_INET
    with socket.socket(family) as link:
        try:
            link.connect(place.path or (place.host, place.port))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
    return False


def sooner_or_later(come: Callable[[], None]) -> None:
    """A true Primary among strangers: its operator tries again when a link was closed on it."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return come()
        except (OSError, ProtocolError):
            assert time.monotonic() < end


# -- a standby, and a tap in front of one ---------------------------------------------------------


class AtStandby(Host):
    """Its store holds the checkpoint of another VM, which no stranger may replace.

    A VM's device state is in memory while it arrives, and no generation tells whose it is.
    """

    peak = MOST_GROWTH + 2 * FLOOD

    def start(self) -> None:
        with DirectoryStore(self.folder / "vm") as store:
            keep(store, ROUNDS + 1)
        os.mkfifo(self.folder / "go")
        self._go = os.open(self.folder / "go", os.O_RDWR)  # so that nobody waits for somebody to open it
        self.stack.callback(os.close, self._go)
        command = "touch $COLO_FSM_STORE/../ran; read line < $COLO_FSM_STORE/../go"
        times = ("--greeting-deadline", GREETING, "--deadline", "1")
        holding = StandbyProcess(self.folder, REPLACE, *times, "--on-failover", command)
        self.standby = self.stack.enter_context(holding)
        self.process, self.address = self.standby.process, self.standby.uri

    def connect(self) -> StreamPrimary:
        place = Address.parse(self.address)
        link = socket.create_connection((place.host, place.port), PATIENCE)
        return self.stack.enter_context(StreamPrimary(link))

    def begin(self) -> None:
        assert not self._has_run, "somebody was fenced for a stranger"

        def come() -> None:
            self.primary = self.connect()
            self.primary.begin()

        sooner_or_later(come)
        self.primary.round(1)

    def go_on(self) -> None:
        self.primary.rounds(2, ROUNDS)

    @property
    def _has_run(self) -> bool:
        return (self.folder / "ran").exists()

    def end(self) -> None:
        assert not self._has_run
        self.primary.link.close()
        until(lambda: self._has_run or None, "the command after the claim")
        self.over()
        assert nobody_listens(self.address)

    def over(self) -> None:
        """Whatever has to end before nobody can come has ended."""

    def check(self) -> None:
        assert self.process.poll() is None
        os.write(self._go, b"\n")
        assert self.standby.wait() == 0
        with DirectoryStore(self.standby.store) as store:
            assert number_in(store) == ROUNDS


class AtTap(AtStandby):
    """What must not happen is seen at the standby behind it: that takes who reaches it for a Primary."""

    not_before = GREETERS
    peak = MOST_GROWTH

    def start(self) -> None:
        super().start()
        self.said = self.stack.enter_context((self.folder / "tap.out").open("w+b"))
        ends = ("--listen", "tcp:127.0.0.1:0", "--connect", self.address, "--greeting-deadline", GREETING)
        self.process = subprocess.Popen([*COMMAND, "tap", *ends, "--json"], stdout=self.said)
        self.stack.callback(self.process.wait)
        self.stack.callback(self.process.kill)
        self.address = str(until(lambda: self.objects or None, "the tap's address")[0]["listening"])

    @property
    def objects(self) -> list[dict[str, object]]:
        """What it has printed."""
        lines = (self.folder / "tap.out").read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def begin(self) -> None:
        assert "refused" not in self.standby.said
        super().begin()

    def over(self) -> None:
        assert self.process.wait(PATIENCE) == 0

    def check(self) -> None:
        last = self.objects[-1]
        assert (last["verdict"], last["ended"]) == ("ok", "primary")
        assert str(last["text"]).startswith(f"{ROUNDS} rounds;")
        self.process = self.standby.process
        super().check()


# -- a Secondary of ours --------------------------------------------------------------------------

SECONDARY = """
import sys
sys.path.insert(0, {tests!r})
from replicas import Counting, NEVER
from colo_fsm.replica import Options, blocking

options = Options(greeting_deadline={greeting}, deadline=1.0, interval=NEVER, claim_retry=0.05)
pair = blocking.secondary(
    Counting(), listen="tcp:127.0.0.1:0", arbiter="sqlite:" + sys.argv[1] + "/claim.db",
    store=sys.argv[1] + "/store", options=options,
)
with pair:
    print(pair.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "run":
            pair.running()
        print(pair.state, pair.checkpoint, flush=True)
"""


class AtSecondary(Host):
    """A guest that counts, replicated by a Primary in this process."""

    def start(self) -> None:
        script = SECONDARY.format(tests=str(Path(__file__).parent), greeting=GREETING)
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.process = self.stack.enter_context(process)
        self.stack.callback(process.kill)
        assert process.stdin is not None
        assert process.stdout is not None
        self._to, self._from = process.stdin, process.stdout
        self.address = self._from.readline().strip()

    def ask(self, what: str = "state") -> str:
        """Where it stands, and its newest checkpoint; "run": once its guest runs there."""
        print(what, file=self._to, flush=True)
        return self._from.readline().strip()

    def begin(self) -> None:
        self.guest = Counting()
        options = Options(interval=NEVER, min_interval=NEVER, deadline=PATIENCE)

        def come() -> None:
            arbiter = f"sqlite:{self.folder}/claim.db"
            self.primary = blocking.primary(
                self.guest, peer=self.address, arbiter=arbiter, options=options
            ).__enter__()

        sooner_or_later(come)
        self.stack.push(self.primary)

    def go_on(self) -> None:
        for count in range(1, ROUNDS + 1):
            with self.primary.turn():
                self.guest.count = count
            self.primary.request_checkpoint()
            self.primary.committed(PATIENCE)
        assert self.ask() == f"loaded {ROUNDS}"
        assert self.primary.session.error is None

    def end(self) -> None:
        self.primary.request_leave()
        self.primary.wait(PATIENCE)
        assert self.ask("run") == f"alone {ROUNDS}"
        assert nobody_listens(self.address)

    def check(self) -> None:
        assert self.ask() == f"alone {ROUNDS}"


# -- the SQLite service ---------------------------------------------------------------------------


class AtService(Host):
    """Strangers come to the Primary's clients, and then to the survivor's."""

    slack = 1 << 20

    def start(self) -> None:
        common = ("--arbiter", "sqlite:claim.db")
        self.secondary = self.stack.enter_context(
            side(self.folder, "secondary", "--listen", "unix:link", "--store", "store", *common)
        )
        self.secondary.until("listening")
        connect = ("--connect", "unix:link", "--interval-ms", "20")
        self.primary = self.stack.enter_context(side(self.folder, "primary", *connect, *common))
        self.address = str(self.primary.until("serving")["address"])
        self.process = self.primary.process
        self.primary.read_on()

    def client(self) -> Client:
        """A true one. Where a thousand others are served it is told to try again later, and does."""
        end = time.monotonic() + PATIENCE
        while True:
            client = Client(Address.parse(self.address))
            said = client.ask("SELECT 1")
            if "error" not in said:
                return self.stack.enter_context(client)
            client.__exit__()
            assert "try again later" in said["error"], said
            assert time.monotonic() < end

    def begin(self) -> None:
        self.writer = self.client()
        assert "error" not in self.writer.ask("CREATE TABLE t (n)")

    def go_on(self) -> None:
        for number in range(ROUNDS):
            assert self.writer.ask("INSERT INTO t VALUES (?)", params=[number])["changes"] == 1

    def end(self) -> None:
        self.primary.process.kill()
        self.address = str(self.secondary.until("serving")["address"])
        self.process = self.secondary.process
        self.secondary.read_on()

    def check(self) -> None:
        found = self.client().ask("SELECT n FROM t ORDER BY n")
        assert (found["rows"], found["side"]) == ([[n] for n in range(ROUNDS)], "secondary")


HOSTS: dict[str, type[Host]] = {
    "secondary": AtSecondary,
    "standby": AtStandby,
    "tap": AtTap,
    "service": AtService,
}
