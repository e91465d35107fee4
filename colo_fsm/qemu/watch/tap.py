"""Between two real QEMUs: passes every byte on, and watches.

Nobody reaches the Secondary who has not begun a migration stream: a port scan would end its QEMU. Behind
that nothing holds a byte back: each direction has a thread that reads and writes, and puts what passes on a
queue; recording and decoding happen behind that.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Self

from colo_fsm.fsm import Side
from colo_fsm.replica.address import Address, address_of
from colo_fsm.replica.door import Door
from colo_fsm.replica.events import Refused
from colo_fsm.replica.link import READ_SIZE, hang_up
from colo_fsm.replica.options import Options
from colo_fsm.replica.store import Store

from ..listening import shut_down, vms
from .capture import Capture, Recorder
from .rounds import Round, Verdict, Watch

MOST_BEHIND = 1 << 30
"""Bytes that passed and wait to be decoded: with more, decoding is given up, so that memory is bounded."""

CONNECT_TIMEOUT = 2.0
"""Seconds to try to reach the Secondary, from when the Primary has come."""

MOST_CHANNELS = 256
"""Further connections at a time: multifd makes 255 at the most."""

LINGER = 1.0
"""Seconds that one side may go on sending when the other has ended."""

_Passed = tuple[float, Side, bytes]


class Tap:
    """Listens, takes the Primary's connection in its `with` block, and connects to the Secondary.

        with Tap("tcp:0.0.0.0:9998", "tcp:standby:9998", print) as tap:
            print(tap.address)
            verdict = tap.wait()

    The Primary is who first begins the stream of a VM; each has `greeting_deadline` seconds to. Others are
    reported (`on_refused`) and not passed on, also a second one, but for multifd's further connections:
    those are, and are not decoded. When its link ends the tap is over.

    `on_round` is called from a thread of the tap's, and so are `recorder`, if there is one, and
    `on_refused`. Checkpoints go to `store`, if there is one; it may be used when `wait` has returned.
    Whatever these raise, the bytes go on. Raises AddressError, OSError.
    """

    def __init__(
        self,
        listen: str,
        connect: str,
        on_round: Callable[[Round], object] = lambda _: None,
        *,
        recorder: Recorder | None = None,
        store: Store | None = None,
        greeting_deadline: float = Options().greeting_deadline,
        on_refused: Callable[[Refused], object] = lambda _: None,
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
        self._came = dict.fromkeys(Side, 0)
        self._looked_at = 0
        self._news = threading.Event()
        """Somebody may come in, or it is over."""
        self._patience = greeting_deadline
        self._on_refused = on_refused
        self._door: Door | None = None
        self._links: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._ends = threading.Semaphore(0)
        self._gone = {side: threading.Event() for side in Side}
        self._ended = self._stopped = self._over = False
        self._unreached: OSError | None = None
        self._verdict: Future[Verdict] = Future()
        self._main = [
            threading.Thread(target=work, name=f"tap {name}", daemon=True)
            for name, work in (("accept", self._accept), ("watch", self._look))
        ]

    def __enter__(self) -> Self:
        self._door = Door(
            self._listener, vms, own=False, channels=True, knock=self._news.set,
            greeting_deadline=self._patience, patience=self._patience,
            report=lambda why, count: self._on_refused(Refused(why, count)),
        )  # fmt: skip
        for thread in self._main:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for thread in self._main:
            thread.join()
        for link in self._links:
            link.close()

    def wait(self, timeout: float | None = None) -> Verdict:
        """Until the link has ended.

        Raises OSError if the Secondary cannot be reached, what `on_round` raised first, TimeoutError.
        """
        return self._verdict.result(timeout)

    def stop(self) -> None:
        """End the link: it counts as stopped, not as broken. From any thread, or a signal handler."""
        self._stopped |= not self._ended
        self._hang_up()

    def _hang_up(self) -> None:
        self._over = True
        if self._door is not None:
            self._door.close()
        self._news.set()
        for link in list(self._links):
            shut_down(link)

    # -- passing on

    def _accept(self) -> None:
        assert self._door is not None
        try:
            while (link := self._next(self._door)) is not None:
                primary = self._keep(link)
                self._door.engaged()  # whoever comes now comes second
                if self._threads:
                    self._begin(self._pass_channel_on, primary)
                    continue
                secondary = self._keep(self._target.connect(CONNECT_TIMEOUT))
                self._begin(self._end)
                self._begin(self._pass_on, Side.PRIMARY, primary, secondary, True)
                self._begin(self._pass_on, Side.SECONDARY, secondary, primary, True)
        except OSError as error:
            self._unreached = None if self._over else error
            self._hang_up()
        finally:
            for thread in list(self._threads):
                thread.join()
            self._passed.put(None)

    def _next(self, door: Door) -> socket.socket | None:
        """Who comes in next; None: it is over. Raises OSError if the listener is of no use."""
        while True:
            self._news.clear()  # before a look at what there is news of
            if self._over:
                return None
            if (link := door.take()) is not None:
                return link
            self._news.wait()

    def _pass_channel_on(self, primary: socket.socket) -> None:
        """A further connection: both ways, until both have ended. Then nothing is left of it."""
        links = [primary]
        try:
            if len(self._links) > 2 * MOST_CHANNELS:
                return
            links.append(secondary := self._keep(self._target.connect(CONNECT_TIMEOUT)))
            back = threading.Thread(
                target=self._pass_on, args=(Side.SECONDARY, secondary, primary, False), daemon=True
            )
            back.start()
            self._pass_on(Side.PRIMARY, primary, secondary, False)
            back.join()
        except OSError:  # the Secondary wants none, or we were stopped
            pass
        finally:
            for link in links:
                hang_up(link)
                self._links.remove(link)
            self._threads.remove(threading.current_thread())

    def _keep(self, link: socket.socket) -> socket.socket:
        link.setblocking(True)
        if link.family != socket.AF_UNIX:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(link)
        if self._over:
            raise ConnectionAbortedError
        return link

    def _begin(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _end(self) -> None:
        """A QEMU whose peer is gone keeps its end open: what it may still say has LINGER seconds."""
        self._ends.acquire()
        self._ends.acquire(timeout=LINGER)
        self._hang_up()

    def _pass_on(self, side: Side, source: socket.socket, sink: socket.socket, decoded: bool) -> None:
        tcp = source.family != socket.AF_UNIX
        sending = failed = False
        try:
            while data := source.recv(READ_SIZE):
                if tcp:  # the kernel forgets it: QEMU then waits 40 ms for a delayed one, twice a round
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                if decoded:  # before it is sent, or the answer could overtake it here
                    self._put(side, data)
                sending = True
                sink.sendall(data)
                sending = False
        except OSError:  # a side was killed, or we were stopped
            failed = True
        if decoded:  # before the other side hears of it, too: what that then does is an answer
            if sending:  # it is the other side that has ended, and its own thread that says so
                shut_down(sink)
                self._gone[side.peer].wait(LINGER)
            self._put(side, b"")
            self._gone[side].set()
            self._ended = True
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if failed:
            shut_down(source)
            shut_down(sink)
        if decoded:
            self._ends.release()

    def _put(self, side: Side, data: bytes) -> None:
        self._came[side] += len(data)
        self._passed.put((time.monotonic(), side, data))

    # -- watching

    def _look(self) -> None:
        try:
            while (passed := self._passed.get()) is not None:
                self._record(*passed)
                self._watch(*passed)
            verdict = self.watch.verdict(self._stopped)
            if self._unreached is not None:
                raise self._unreached
            self._verdict.set_result(verdict)
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits, not in a dead thread
            self._verdict.set_exception(error)

    def _record(self, at: float, side: Side, data: bytes) -> None:
        if self._recorder is None or self.record_error is not None:
            return
        try:
            self._recorder.write(at, side, data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the bytes go on
            self.record_error = error

    def _watch(self, at: float, side: Side, data: bytes) -> None:
        behind = sum(self._came.values()) - self._looked_at
        if behind > MOST_BEHIND:
            self.watch.give_up(f"decoding is {behind} bytes behind the link")
        try:
            self.watch.saw(at, side, data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the bytes go on
            self.watch.give_up(f"{type(error).__name__}: {error}")
        self._looked_at += len(data)


def review(capture: Capture, on_round: Callable[[Round], object] = lambda _: None) -> Verdict:
    """What a tap would have said of a recorded link. Raises what `on_round` raised first, CaptureError."""
    watch = Watch(on_round)
    for piece in capture:
        watch.saw(piece.time, piece.side, piece.data)
    return watch.verdict()
