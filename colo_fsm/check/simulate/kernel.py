"""Virtual time: a heap of what happens next. One thread, no waiting, the same order every time."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], object]


class Timer:
    """Something that will happen, unless it is cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Action) -> None:
        self.action: Action | None = action

    def cancel(self) -> None:
        """It will not happen; cancelling again does nothing."""
        self.action = None


class Kernel:
    """The clock, in seconds from the start of the run, and the trace of what happened."""

    def __init__(self) -> None:
        self.now = 0.0
        self.trace: list[str] = []
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0

    def clock(self) -> float:
        """The clock as a function, for who wants one."""
        return self.now

    def after(self, delay: float, action: Action) -> Timer:
        """Do this in `delay` seconds; what is due at one moment happens in the order of the calls."""
        timer = Timer(action)
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, timer))
        return timer

    def note(self, text: str) -> None:
        """One line of the trace."""
        self.trace.append(f"{self.now:.6f} {text}")

    def step(self) -> bool:
        """Let the next thing happen; False when there is none."""
        heap = self._heap
        while heap:
            when, _, timer = heapq.heappop(heap)
            if timer.action is not None:
                self.now = when
                timer.action()
                return True
        return False
