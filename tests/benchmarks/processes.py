"""The processes that a benchmark starts: they say when they are ready, and are killed in the end."""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PATIENCE = 600.0
"""Seconds against hanging."""
CONTEXT = multiprocessing.get_context("fork")
"""They begin at once, without importing anything."""


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """This process and those that it starts on this core, of those that it may use, -1 for the last.

    For floors of two processes. Where the kernel has both on one core it hands over without waking another,
    in a third of the time, and it does so in some runs and not in others. Two sides are never so near.
    """
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class Processes:
    """Those that work together, over a folder that goes with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[BaseProcess] = []

    @property
    def claim(self) -> str:
        """An arbiter for a pair of them."""
        return f"sqlite:{self.folder / 'claim.db'}"

    def start(self, target: Callable[..., None], *arguments: Any) -> Connection:
        """Run `target(told, *arguments)`; what it tells comes from the connection (`told`)."""
        here, there = CONTEXT.Pipe()
        process = CONTEXT.Process(target=_quietly, args=(target, there, *arguments), daemon=True)
        with warnings.catch_warnings():  # Python 3.12 warns where there are threads: those of pytest, here
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        there.close()
        self._running.append(process)
        return here

    def kill(self) -> None:
        for process in self._running:
            process.kill()
            process.join()


def told(connection: Connection) -> Any:
    """What a process has to tell first. Raises AssertionError when it does not."""
    assert connection.poll(PATIENCE), "a process did not start"
    return connection.recv()


@contextmanager
def processes() -> Iterator[Processes]:
    """Some, as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="colo-fsm-bench-") as folder:
        running = Processes(Path(folder))
        try:
            yield running
        finally:
            running.kill()


def _quietly(target: Callable[..., None], *arguments: Any) -> None:
    """Nothing is logged: being killed is how each ends, and PySyncObj logs each entry that it sends twice."""
    logging.disable()
    target(*arguments)
