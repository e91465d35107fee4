"""A member as a process of its own: swaps what it reads into a register, and prints whether it was first.

    register_swapper.py URL NAME [STATEMENT SIGNAL]

A line is a version, or `-` for none, a blank, and the value. The fault is that of arbiter_claimer.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
from arbiter_claimer import Asker, answering, asking

from colo_fsm.arbiter.register import open_register


@attrs.frozen
class Swapper(Asker):
    """The handle on such a process."""

    def ask(self, version: int | None, value: str) -> None:
        self.write(f"{'-' if version is None else version} {value}")

    def answer(self) -> bool:
        return {"True": True, "False": False}[self.read()]


@contextmanager
def swapper(url: str, name: str, *fault: str) -> Iterator[Swapper]:
    """A process that is ready to swap; it is killed at the end, frozen or not."""
    with asking(__file__, url, name, *fault) as process:
        yield Swapper(process)


def main(url: str, name: str, *fault: str) -> None:
    register = open_register(url, name)

    def swap(line: str) -> bool:
        version, _, value = line.rstrip("\n").partition(" ")
        return register.swap(None if version == "-" else int(version), value)

    answering(swap, *fault)


if __name__ == "__main__":
    main(*sys.argv[1:])
