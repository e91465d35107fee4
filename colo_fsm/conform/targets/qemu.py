"""The target `qemu[:BINARY]`: a real QEMU, started afresh for every case.

A Secondary gets the state of a Primary of the same binary, taken once for a whole run. A Primary migrates to
us, and its initial state has come before a case begins. A QEMU that gives a pair up keeps its link open: the
event COLO_EXIT says so, or the end of the process does.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Self

from colo_fsm.colo import COLO, COLOMessage
from colo_fsm.fsm import CompleteTable, Side
from colo_fsm.qemu.watch.capture import Capture, Recorder
from colo_fsm.qemu.watch.channel import (
    Channel,
    DeviceState,
    Event,
    Forward,
    Initial,
    Return,
    Said,
    Undecodable,
)
from colo_fsm.qemu.watch.replay import Recorded
from colo_fsm.replica.address import Address
from colo_fsm.stream import Buffer, StreamError

from ..link import CannotTest, Link, moment
from ..voice import OwnState, Source, TableVoice, Voice
from .address import accepted, connected
from .command import STEP, Process, fate
from .qmp import Qemu, QemuError, running

BINARY = "qemu-system-x86_64"
KVM = "/dev/kvm"
MEMORY = 16
"""MiB."""
BARE = (
    "-no-user-config", "-nodefaults", "-display", "none", "-vga", "none",
    "-name", "conformance,debug-threads=on",
)  # fmt: skip
"""Its threads have names: those of the guest begin with CPU."""
TCG_AGAIN = 2
"""Tries more: a QEMU up to 10.0 may stand still in a round under TCG, by a deadlock of its own."""
DELAY = 1
"""Milliseconds from one round of a Primary to its next."""
COLO_ALONE = ("x-colo",)
COLO_BOTH_WAYS = ("return-path", "x-colo")
"""What QEMU needs from 11 on, which refuses the other; those before accept it, and break."""
LAG = 2.0
"""Seconds that a QEMU at work is waited for in addition."""
_INT = Struct("i")


class VmVoice(TableVoice):
    """The voice towards a QEMU, which says on `channel` more than messages."""

    ready = True

    def __init__(self, table: CompleteTable, source: Source, channel: Channel) -> None:
        super().__init__(table, source)
        self._channel = channel

    @property
    def unread(self) -> int:
        """See `Voice`."""
        return self._channel.bytes - self._channel.whole

    def feed(self, data: Buffer) -> Iterator[int]:
        """See `Voice`."""
        try:
            yield from (event.value for event in self._channel.events(data) if isinstance(event, Said))
        except Undecodable as error:
            raise StreamError(error.offset, error.problem) from None


class QemuLink(Process):
    """The link to a QEMU, and the QEMU itself."""

    def __init__(self, sock: socket.socket, qemu: Qemu, patience: float) -> None:
        super().__init__(sock, patience, qemu.process, qemu.log)
        self._qemu = qemu

    def receive(self, timeout: float) -> bytes | None:
        """See `Link`. What it said before it gave the pair up comes first.

        The time counts from when it waits for us: as long as it is at work it is late, not silent.
        """
        deadline = moment() + timeout
        last = deadline + LAG
        while not self._ended:
            over = self._qemu.exit is not None or self._qemu.ended
            wait = 0 if over else max(0.0, deadline - moment())
            watched = [self._socket.fileno(), *([] if over else [self._qemu.fileno()])]
            ready, _, _ = select.select(watched, [], [], wait)
            if self._socket.fileno() in ready:
                return super().receive(0)
            if over:
                self._ended = True
            elif ready:
                self._qemu.read()
            elif moment() < last and self._at_work():
                time.sleep(STEP)
                deadline = moment() + timeout
            else:
                return None
        return b""

    def _at_work(self) -> bool:
        """Whether it has not read all that it was given, or a thread of its own has something to do."""
        (unread,) = _INT.unpack(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(_INT.size)))
        return bool(unread) or any(map(_runs, Path(f"/proc/{self._process.pid}/task").glob("*/stat")))

    def evidence(self) -> str:
        """How it has given the pair up, if it has, and what it said last."""
        return ": ".join(filter(None, (self._how(), self._qemu.words())))

    def _how(self) -> str:
        if self._qemu.exit is not None:
            return f"COLO_EXIT {self._qemu.exit}"
        if (name := self.crash()) is not None:
            return f"ended by {name}"
        if not self._ended:
            return ""
        if self._process.returncode is not None:
            return fate(self._process)
        try:
            status = self._qemu.ask("query-migrate").get("status", "none")
        except QemuError as error:
            return f"it has ended its link: {error}"
        return f"it has ended its link, its migration is '{status}'"


def _runs(stat: Path) -> bool:
    """Whether this thread runs, or would if the machine let it; the guest's own may always do."""
    with suppress(OSError):
        name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        return rest.split()[0] in "RDT" and not name.startswith("CPU ")
    return False


class QemuTarget:
    """QEMUs of `binary`, by default of the one that is installed. `patience`: seconds that anything may take.

    Enter it for a whole run. The table says which side they are; its variant is `VARIANT` of
    `colo_fsm.qemu.watch.shadow` if it is to be QEMU's own.
    """

    def __init__(self, binary: str | None, table: CompleteTable, patience: float) -> None:
        self.table = table
        self.name = f"{binary or BINARY}, {table.side}"
        self.version = ""
        """Of the QEMU, without its last number, say 7.2; known once it is entered."""
        self._binary = binary or BINARY
        self._patience = patience
        self._kvm = os.access(KVM, os.R_OK | os.W_OK)
        self._capabilities: tuple[str, ...] = COLO_ALONE
        self._source: Source = OwnState()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Raises CannotTest."""
        with ExitStack() as stack:
            folder = self._folder(stack)
            try:
                self._get_to_know(folder)
                if self.table.side is Side.SECONDARY:
                    self._source = self._captured(folder)
            except (QemuError, OSError) as error:
                raise CannotTest(f"{self._binary}: {error}") from None
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        """See `Target`."""
        with ExitStack() as stack:
            folder = self._folder(stack)
            link: QemuLink
            channel: Channel
            try:
                if self.table.side is Side.PRIMARY:
                    link, channel = self._primary(stack, folder, _unkept)
                else:
                    link, channel = self._secondary(stack, folder)
            except (QemuError, OSError) as error:
                raise CannotTest(f"{self._binary}: {error}") from None
            yield link, VmVoice(self.table, self._source, channel)

    # -- starting them

    @staticmethod
    def _folder(stack: ExitStack) -> Path:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))

    def _get_to_know(self, folder: Path) -> None:
        with self._running(folder) as qemu:
            version = qemu.ask("query-version")["qemu"]
            try:
                self._colo(qemu)
            except QemuError:
                self._capabilities = COLO_BOTH_WAYS
                self._colo(qemu)
        number = ".".join(str(version[part]) for part in ("major", "minor", "micro"))
        self.version = number.rpartition(".")[0]
        self.name = f"QEMU {number}{'' if self._kvm else ' under TCG'}, {self.table.side}"

    def _running(self, folder: Path, *more: str) -> AbstractContextManager[Qemu]:
        accel = "kvm" if self._kvm else "tcg"
        command = [self._binary, "-machine", "pc", "-accel", accel, "-m", str(MEMORY), *BARE, *more]
        return running(command, folder / "log", self._patience)

    def _colo(self, qemu: Qemu) -> None:
        wanted = [{"capability": name, "state": True} for name in self._capabilities]
        qemu.ask("migrate-set-capabilities", capabilities=wanted)

    def _secondary(self, stack: ExitStack, folder: Path) -> tuple[QemuLink, Return]:
        address = Address(path=str(folder / "link"))
        qemu = stack.enter_context(self._running(folder, "-incoming", str(address)))
        self._colo(qemu)
        return self._link(stack, connected(address, self._patience), qemu), Return()

    def _primary(
        self, stack: ExitStack, folder: Path, keep: Callable[[bytes], None]
    ) -> tuple[QemuLink, Forward]:
        """One whose initial state has come, and that waits for `checkpoint-ready`."""
        address = Address(path=str(folder / "link"))
        listener = stack.enter_context(address.listen())
        qemu = stack.enter_context(self._running(folder))
        self._colo(qemu)
        qemu.ask("migrate-set-parameters", x_checkpoint_delay=DELAY)
        qemu.ask("migrate", uri=str(address))
        link = self._link(stack, accepted(listener, address, self._patience), qemu)
        channel = Forward()
        self._until(Initial, link, channel, keep)
        link.send(channel.answers)
        return link, channel

    def _link(self, stack: ExitStack, sock: socket.socket, qemu: Qemu) -> QemuLink:
        link = QemuLink(sock, qemu, self._patience)
        stack.callback(link.close)
        return link

    # -- what a Primary sends

    def _captured(self, folder: Path) -> Source:
        """The initial state of a Primary, and one round."""
        for number in range(0 if self._kvm else TCG_AGAIN):
            with suppress(QemuError):
                return self._captured_at_once(folder, folder / f"capture{number}")
        return self._captured_at_once(folder, folder / "capture")

    def _captured_at_once(self, folder: Path, at: Path) -> Source:
        with ExitStack() as stack, Recorder(at) as recorder:

            def keep(data: bytes) -> None:
                recorder.write(moment(), Side.PRIMARY, data)

            link, channel = self._primary(stack, folder, keep)
            link.send([COLO.encode(COLOMessage.CHECKPOINT_READY)])
            self._until(Said, link, channel, keep)
            link.send([COLO.encode(COLOMessage.CHECKPOINT_REPLY)])
            self._until(DeviceState, link, channel, keep)
        return Recorded(Capture(at))

    def _until(
        self, wanted: type[Event], link: QemuLink, channel: Forward, keep: Callable[[bytes], None]
    ) -> None:
        """Read what a Primary sends until this has come whole. Raises QemuError."""
        events: list[Event] = []
        while not any(isinstance(event, wanted) for event in events):
            if not (data := link.receive(self._patience)):
                why = f"nothing in {self._patience:g} s" if data is None else link.evidence()
                raise QemuError(f"no whole {wanted.__name__}: {why}")
            keep(data)
            try:
                events += channel.events(data)
            except Undecodable as error:
                raise QemuError(f"what it sends as a Primary cannot be read: {error}") from None


def _unkept(data: bytes) -> None:
    """What a case's Primary has sent before it is not needed any more."""
