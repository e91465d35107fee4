"""A guest that writes, played from outside, with a journal that says what every checkpoint must hold.

Which checkpoint covers a write? A qtest write and the stop of the guest both need QEMU's big lock, so a
write takes effect wholly before or wholly after a stop. QEMU hands out the STOP event before it lets go
of the lock, into a socket of ours, and qtest answers after the write: if no STOP is there when the
answer is, the write came before the stop, and the checkpoint covers it. If a STOP is there, the write may
have come before it, or after it and be in the checkpoint wholly, partly or not at all: the live state is
saved while the guest is stopped, and qtest does not care. Such a write is *doubtful* in that checkpoint
and certain in the next. There is at most one a checkpoint, since the writer waits for each answer, and
none in a pair that is ON_DEMAND, since there the writer itself asks for each checkpoint.

STOP 0 ends the initial migration and STOP n stands inside round n, after checkpoint-reply and before
vmstate-send; the next RESUME comes after vmstate-loaded (test_qemu_harness proves that with QEMU's traces).
A SIGKILL loses no event: the socket keeps what QEMU had written.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import attrs
from qemu import ON_DEMAND, Qemu
from qemu_lines import PATIENCE

PAGE = 4096
ZERO = bytes(PAGE)
FOR_EVER = 3600.0
"""For the thread: that a Primary hangs is found by the test, in wait_rounds."""


@attrs.frozen
class Checkpoint:
    """What was written since the checkpoint before: page address -> content; and which pages are in doubt."""

    pages: dict[int, bytes]
    doubtful: frozenset[int]


def content(number: int, page: int) -> bytes:
    return ZERO if (number + page) % 5 == 0 else struct.pack(">QQ", number, page) * (PAGE // 16)


class Writer:
    """Dirties `pages` pages each round, from its own thread, until the block ends or the Primary does.

    0 is nothing, 8 little, 1024 (4 MiB) much. A part of the pages is written with zeros. It owns `size` bytes
    of guest memory from `start` on, which nobody else may write and which no firmware uses. It may begin
    before the migration or after; `journal[n]` is checkpoint n, 0 being the initial state.
    """

    start = 16 << 20

    def __init__(self, primary: Qemu, *, pages: int = 8) -> None:
        self.primary = primary
        self.pages = pages
        self.region = max(256, 2 * pages)
        self.size = self.region * PAGE
        self.journal: list[Checkpoint] = []
        self._current: dict[int, bytes] = {}
        self._ending = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="writer")

    def __enter__(self) -> Self:
        if any(self.primary.read(self.start, self.size)):
            raise ValueError("the writer's memory must be zero at first")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the thread and complete the journal; raises what went wrong in the thread."""
        self._ending = True
        self._thread.join()
        self.primary.read_events()
        self._close(frozenset())
        if self._error is not None:
            raise self._error

    def wait_rounds(self, number: int, timeout: float = PATIENCE) -> None:
        """Until the guest runs again after checkpoint `number`."""

        def found() -> bool | None:
            return self.primary.resumes > number or self._error is not None or None

        self.primary.until(found, f"end of round {number}", timeout)

    # -- the oracle

    def left(self) -> range:
        """The checkpoints of which the survivor must hold one; ask when the Primary is dead or has left COLO.

        One if the guest ran again after the last stop; else two, because the last one may have arrived.
        """
        stops, resumes = self.primary.stops, self.primary.resumes
        if self.primary.alive and not self.primary.left_colo:
            raise ValueError("the pair still replicates")
        return range(max(stops - (1 if resumes == stops else 2), 0), stops)

    def holds(self, memory: bytes) -> list[int]:
        """The numbers of all checkpoints that are equal to `memory`, the `size` bytes from `start` on."""
        found = {self.start + i: memory[i : i + PAGE] for i in range(0, self.size, PAGE)}
        wrong = {address for address, page in found.items() if page != ZERO}
        equal = []
        for number, checkpoint in enumerate(self.journal):
            for address, page in checkpoint.pages.items():
                (wrong.discard if found[address] == page else wrong.add)(address)
            if wrong <= checkpoint.doubtful:
                equal.append(number)
        return equal

    # -- the thread

    def _run(self) -> None:
        try:
            while not self._over():
                self._round()
        except ConnectionError:
            pass  # the Primary was killed
        except BaseException as error:  # noqa: BLE001 - raised again by stop()
            self._error = error

    def _over(self) -> bool:
        return self._ending or self.primary.left_colo

    def _round(self) -> None:
        primary = self.primary
        primary.until(lambda: primary.resumes == primary.stops or self._over() or None, "RESUME", FOR_EVER)
        self._close(frozenset())
        number = len(self.journal)
        for address, data in self._plan(number):
            if self._over() or len(self.journal) != number:
                return
            self._write(address, data)
        if primary.checkpoint_delay_ms == ON_DEMAND:
            primary.ask_checkpoint()
        primary.until(lambda: primary.stops > number or self._over() or None, "STOP", FOR_EVER)

    def _plan(self, number: int) -> Iterator[tuple[int, bytes]]:
        """The writes of a round, at most 16 pages each; every page but the zero ones is unlike all before."""
        first = number * 7 % (self.region - self.pages)
        for page in range(first, first + self.pages, 16):
            last = min(page + 16, first + self.pages)
            data = b"".join(content(number, i) for i in range(page, last))
            yield self.start + page * PAGE, data

    def _write(self, address: int, data: bytes) -> None:
        pages = {address + i: data[i : i + PAGE] for i in range(0, len(data), PAGE)}
        try:
            self.primary.write(address, data)
        finally:  # killed before its answer, the write may have happened as well
            self.primary.read_events()
            self._close(frozenset(pages))
        self._current |= pages

    def _close(self, doubtful: frozenset[int]) -> None:
        """Complete the journal for the stops that have come; they may be several, on a busy machine."""
        while len(self.journal) < self.primary.stops:
            self.journal.append(Checkpoint(self._current, doubtful))
            self._current = {}
