"""Between two real QEMUs: passes every byte on, and watches.

Nothing holds a byte back: each direction has a thread that reads and writes, and puts what passes on a
queue; recording and decoding happen behind that.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from colo_fsm.fsm import Side
from colo_fsm.replica.address import Address, address_of
from colo_fsm.replica.link import READ_SIZE
from colo_fsm.replica.store import Store

from .capture import Capture, Recorder
from .watch import Round, Verdict, Watch

MOST_BEHIND = 1 << 30
"""Bytes that passed and wait to be decoded: with more, decoding is given up, so that memory is bounded."""

CONNECT_TIMEOUT = 2.0
"""Seconds to try to reach the Secondary, from when the Primary has come."""

LINGER = 1.0
"""Seconds that one side may go on sending when the other has ended."""

_Passed = tuple[float, Side, bytes]


class Tap:
    """Listens, takes the Primary's connection in its `with` block, and connects to the Secondary.

        with Tap("tcp:0.0.0.0:9998", "tcp:standby:9998", print) as tap:
            print(tap.address)
            verdict = tap.wait()

    `on_round` is called from a thread of the tap's, and so is `recorder`, if there is one. Checkpoints
    go to `store`, if there is one; it may be used when `wait` has returned. Further connections (QEMU's
    multifd makes them) are passed on and not decoded. Raises AddressError, OSError.
    """

    def __init__(
        self,
        listen: str,
        connect: str,
        on_round: Callable[[Round], object] = lambda _: None,
        *,
        recorder: Recorder | None = None,
        store: Store | None = None,
    ) -> None:
        self._target = Address.parse(connect)
        self._listener = Address.parse(listen).listen()
        self.address = address_of(self._listener)
        """Where the Primary is to connect."""
        self.watch = Watch(on_round, store)
        self.record_error: Exception | None = None
        """Why the recording stops before the link does."""
        self._recorder = recorder
        self._passed: queue.SimpleQueue[_Passed | None] = queue.SimpleQueue()
        self._behind = 0
        self._lock = threading.Lock()
        self._links: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()
        self._both_ended = threading.Event()
        self._over = self._stopped = False
        self._error: OSError | None = None
        self._accepting = threading.Thread(target=self._accept, name="tap accept", daemon=True)
        self._watching = threading.Thread(target=self._look, name="tap watch", daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        self._watching.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._accepting.join()
        self._watching.join()
        for link in (self._listener, *self._links):
            link.close()

    def wait(self, timeout: float | None = None) -> Verdict:
        """Until the link has ended. Raises OSError if the Secondary cannot be reached, TimeoutError."""
        self._watching.join(timeout)
        if self._watching.is_alive():
            raise TimeoutError(f"the link has not ended in {timeout} s")
        if self._error is not None:
            raise self._error
        return self._verdict

    def stop(self) -> None:
        """End the link: it counts as stopped, not as broken. From any thread, or a signal handler."""
        if not self._ended.is_set():
            self._stopped = True
        self._hang_up()

    def _hang_up(self) -> None:
        self._over = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for link in self._links:
            _hang_up(link)

    # -- passing on

    def _accept(self) -> None:
        first: list[threading.Thread] = []
        while True:
            try:
                primary = self._keep(self._listener.accept()[0])
            except OSError:  # stopped
                break
            try:
                secondary = self._keep(self._target.connect(CONNECT_TIMEOUT))
            except OSError as error:
                _hang_up(primary)
                if first:
                    continue
                self._error = None if self._over else error
                break
            threads = self._begin(primary, secondary, decoded=not first)
            first = first or threads
        for thread in self._threads:
            thread.join()
        self._passed.put(None)

    def _keep(self, link: socket.socket) -> socket.socket:
        link.setblocking(True)
        if link.family != socket.AF_UNIX:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(link)
        if self._over:
            raise ConnectionAbortedError
        return link

    def _begin(
        self, primary: socket.socket, secondary: socket.socket, decoded: bool
    ) -> list[threading.Thread]:
        threads = [
            threading.Thread(target=self._pass_on, args=(side, source, sink, decoded), daemon=True)
            for side, source, sink in (
                (Side.PRIMARY, primary, secondary),
                (Side.SECONDARY, secondary, primary),
            )
        ]
        if decoded:
            threads.append(threading.Thread(target=self._end, daemon=True))
        self._threads += threads
        for thread in threads:
            thread.start()
        return threads

    def _end(self) -> None:
        """A QEMU whose peer is gone keeps its end open: what it may still say has LINGER seconds."""
        self._ended.wait()
        self._both_ended.wait(LINGER)
        self._hang_up()

    def _pass_on(self, side: Side, source: socket.socket, sink: socket.socket, decoded: bool) -> None:
        tcp = source.family != socket.AF_UNIX
        try:
            while data := source.recv(READ_SIZE):
                if tcp:  # the kernel forgets it: QEMU then waits 40 ms for a delayed one, twice a round
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                if decoded:  # before it is sent, or the answer could overtake it here
                    self._put(side, data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # a side was killed, or we were stopped
            _hang_up(source)
            _hang_up(sink)
        if decoded:
            self._put(side, b"")
            with self._lock:
                (self._both_ended if self._ended.is_set() else self._ended).set()

    def _put(self, side: Side, data: bytes) -> None:
        with self._lock:
            self._behind += len(data)
        self._passed.put((time.monotonic(), side, data))

    # -- watching

    def _look(self) -> None:
        while (passed := self._passed.get()) is not None:
            at, side, data = passed
            self._record(at, side, data)
            if self._behind > MOST_BEHIND:
                self.watch.give_up(f"decoding is {self._behind} bytes behind the link")
            try:
                self.watch.saw(at, side, data)
            except Exception as error:  # noqa: BLE001 - whatever it is, the bytes go on
                self.watch.give_up(f"{type(error).__name__}: {error}")
            with self._lock:
                self._behind -= len(data)
        self._verdict = self.watch.verdict(self._stopped)

    def _record(self, at: float, side: Side, data: bytes) -> None:
        if self._recorder is None or self.record_error is not None:
            return
        try:
            self._recorder.write(at, side, data)
        except OSError as error:
            self.record_error = error


def _hang_up(link: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is not connected any more
        link.shutdown(socket.SHUT_RDWR)


def review(capture: Capture, on_round: Callable[[Round], object] = lambda _: None) -> Verdict:
    """What a tap would have said of a recorded link."""
    watch = Watch(on_round)
    for piece in capture:
        watch.saw(piece.time, piece.side, piece.data)
    return watch.verdict()
