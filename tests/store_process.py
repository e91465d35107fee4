"""A store under test in a process of its own; `test_store.py` starts it and shares its arithmetic.

    store_process.py rounds DIRECTORY   print "open", then commit for ever, "generation number" after each
    store_process.py hold DIRECTORY     print "open", and close it at the end of standard input
    store_process.py crash DIRECTORY N  die before every N-th line of the store's code, in turn

What a checkpoint must hold is a function of its generation and number alone.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from colo_fsm.replica.store import Store
from colo_fsm.replica.store.directory import DirectoryStore
from colo_fsm.stream.memory import PAGE_SIZE, Delta

PAGES = 16
LOW = 4
BLOCKS = {"low": LOW * PAGE_SIZE, "high": (PAGES - LOW) * PAGE_SIZE}
ROUNDS = 30
"""Rounds in a generation: then the next one begins with a new image."""


def zeroing(number: int) -> bool:
    """Whether this round makes zeros of a run of pages, long enough for a hole."""
    return number % 4 == 3


def content(generation: int, number: int, index: int) -> bytes:
    if zeroing(number):
        return bytes(PAGE_SIZE)
    return struct.pack(">QQQQ", generation, number, index, 7) * (PAGE_SIZE // 32)


def changed(generation: int, number: int) -> list[int]:
    """The pages that round `number` writes, none at times."""
    if zeroing(number):
        return list(range(3, PAGES - 1))
    chosen = random.Random(generation * 1000 + number)
    return chosen.sample(range(PAGES), chosen.randint(0, 10) if number else PAGES // 2)


def place(index: int) -> tuple[str, int]:
    return ("low", index * PAGE_SIZE) if index < LOW else ("high", (index - LOW) * PAGE_SIZE)


def device(generation: int, number: int) -> bytes:
    return b"device %d %d" % (generation, number) * (number % 5 + 1)


def expected(generation: int, number: int) -> dict[str, bytes]:
    image = dict.fromkeys(range(PAGES), bytes(PAGE_SIZE))
    for earlier in range(number + 1):
        for index in changed(generation, earlier):
            image[index] = content(generation, earlier, index)
    whole = b"".join(image.values())
    return {"low": whole[: BLOCKS["low"]], "high": whole[BLOCKS["low"] :]}


def initial(store: Store, generation: int) -> None:
    sink = store.begin(BLOCKS)
    for index in changed(generation, 0):
        sink.put(*place(index), content(generation, 0, index))
    store.complete(generation, device(generation, 0), {"generation": str(generation)})


def commit(store: Store, generation: int, number: int) -> None:
    pages = ((*place(index), content(generation, number, index)) for index in changed(generation, number))
    store.commit(delta(*pages), device(generation, number))


def advance(store: Store) -> tuple[int, int]:
    """Store the checkpoint that follows the newest one, and say which it is."""
    newest = store.newest
    if newest is None or newest.number == ROUNDS:
        following = (newest.generation + 1 if newest else 1), 0
        initial(store, following[0])
    else:
        following = newest.generation, newest.number + 1
        commit(store, *following)
    return following


def whole(store: Store) -> tuple[int, int]:
    """The newest checkpoint's generation and number, (0, 0) for none; it must be what they demand."""
    newest = store.newest
    if newest is None:
        return 0, 0
    assert newest.device == device(newest.generation, newest.number)
    assert newest.meta == {"generation": str(newest.generation)}
    held = {name: bytes(view) for name, view in newest.blocks.items()}
    assert held == expected(newest.generation, newest.number), (newest.generation, newest.number)
    return newest.generation, newest.number


def delta(*pages: tuple[str, int, bytes]) -> Delta:
    made = Delta()
    for block, offset, data in pages:
        if any(data):
            made.put(block, offset, data)
        else:
            made.put_zeros(block, offset, 1)
    return made


def filled(path: Path, rounds: int = 3) -> None:
    with DirectoryStore(path) as store:
        initial(store, 1)
        for number in range(1, rounds + 1):
            commit(store, 1, number)


@contextlib.contextmanager
def process(mode: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, __file__, mode, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def die_at(line: int) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that kills the process before the given line, counted as they run."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if "colo_fsm/replica/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            if lines == line:
                os.kill(os.getpid(), signal.SIGKILL)
            lines += 1
        return trace

    return trace


def crash(path: Path, step: Callable[[Store], None], line: int) -> bool:
    """Open the store and take a step in a child that dies at `line`; False if it got to the end."""
    pid = os.fork()
    if not pid:
        sys.settrace(die_at(line))
        with DirectoryStore(path) as store:
            step(store)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def crash_everywhere(
    path: Path, stride: int, step: Callable[[Store], None], following: tuple[int, int]
) -> str:
    """Kill `step` from checkpoint (1, 2) on everywhere: how many kills, how many found it done."""
    line = kills = done = 0
    killed = True
    while killed:
        with DirectoryStore(path) as store:
            initial(store, 1)
            commit(store, 1, 1)
            commit(store, 1, 2)
        killed = crash(path, step, line)
        crash(path, lambda store: None, line // 2)  # and once more, while it recovers
        with DirectoryStore(path) as store:
            found = whole(store)
            assert found in ([(1, 2), following] if killed else [following]), (line, found)
            advance(store)
            whole(store)
        shutil.rmtree(path)
        kills += killed
        done += killed and found == following
        line += stride
    return f"{kills} {done}"


def main(mode: str, path: Path, stride: int) -> None:
    if mode == "crash":
        print(crash_everywhere(path / "round", stride, lambda store: commit(store, 1, 3), (1, 3)))
        print(crash_everywhere(path / "initial", stride, lambda store: initial(store, 2), (2, 0)))
        return
    with DirectoryStore(path) as store:
        whole(store)
        print("open", flush=True)
        while mode == "rounds":
            print(*advance(store), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
