"""Logs of real QEMUs, `-trace 'colo_*'`, as they lie in files: the replications in one, line by line.

A log may be whole or a part, with timestamps or without. Behind a failover comes what is not the protocol's,
until another replication begins; in that the same QEMU may be the other side.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import TextIO

import attrs

from colo_fsm.colo import COLO
from colo_fsm.fsm import Do, Side

from .shadow import ANYWHERE, Act, Seen, Shadow, Sight

LONGEST_LINE = 1 << 16
"""Characters; QEMU's are some 100."""

LONGEST_SEARCH = 1 << 28
"""Characters in which there has to be a line that is COLO's."""

_LINE = re.compile(
    r"(?:@(?P<time>\d+\.\d+):)?"
    r"(?:colo_(?P<act>send|receive)_message (?:Send|Receive) '(?P<message>[^']*)' message"
    r"|colo_vm_state_change Change '\w+' => '(?P<run>run|stop)'"
    r"|(?P<over>colo_failover_set_state))"
)
_MESSAGES = {m.text: m for m in COLO.sender}
_ACTS = {"send": Act.SENT, "receive": Act.RECEIVED}
_CHANGES = {"run": Do.resume, "stop": Do.suspend}


class TraceError(Exception):
    """A file is no log that can be checked. The text says what to do."""


Line = tuple[float | None, Seen]
"""When, in seconds, None if the log does not say; and what."""


@attrs.define(eq=False)
class Part:
    """What a log says of one replication; `next` is the line that is looked at next."""

    side: Side
    lines: Sequence[Line]
    whole: bool
    """Whether it begins where its side does."""
    next: int = 0

    @property
    def ended(self) -> bool:
        return self.next == len(self.lines)

    @property
    def time(self) -> float | None:
        return self.lines[self.next][0]

    @property
    def head(self) -> Seen:
        return self.lines[self.next][1]

    @property
    def place(self) -> str:
        """The file and the line where it begins."""
        return self.lines[0][1].place

    def overlap(self, other: Part) -> float:
        """Seconds in which both have lines; 0 where a log does not say when."""
        ours, theirs = (tuple(t for t, _ in p.lines if t is not None) for p in (self, other))
        if not ours or not theirs:
            return 0.0
        return max(0.0, min(max(ours), max(theirs)) - max(min(ours), min(theirs)))


@attrs.frozen
class Log:
    """A file's replications, the first one first; `unseen`: the lines that belong to none, in words."""

    parts: tuple[Part, ...]
    unseen: tuple[str, ...] = ()


def read_log(path: str | os.PathLike[str]) -> Log:
    """A log, with the side that each of its replications is of. Raises TraceError, OSError."""
    parts: list[list[Line]] = [[]]
    unseen: list[list[Line]] = []
    inside = True
    for line in _lines(Path(path)):
        if line is None:
            if inside:
                unseen.append([])
            inside = False
        elif inside:
            parts[-1].append(line)
        elif line[1].act is not Act.DID and _begins(line[1]):
            parts.append([line])
            inside = True
        else:
            unseen[-1].append(line)
    found = [_part(lines) for lines in parts if _messages(lines)]
    if not found:
        raise TraceError(f"{path} has no line of a COLO message: run QEMU with -trace 'colo_*' -D FILE")
    return Log(tuple(found), tuple(_in_words(lines) for lines in unseen if lines))


def _messages(lines: Sequence[Line]) -> list[Seen]:
    return [seen for _, seen in lines if seen.act is not Act.DID]


def _part(lines: Sequence[Line]) -> Part:
    messages = _messages(lines)
    side = Counter(seen.side for seen in messages).most_common(1)[0][0]
    lines = [(time, attrs.evolve(seen, side=side)) for time, seen in lines]
    first = next(i for i, (_, seen) in enumerate(lines) if seen.act is not Act.DID)
    whole = _begins(lines[first][1])
    return Part(side, lines if whole else lines[first:], whole)


def _in_words(lines: Sequence[Line]) -> str:
    count = "1 line" if len(lines) == 1 else f"{len(lines)} lines"
    return f"{count} behind the failover, {lines[0][1].place} and on"


def _lines(path: Path) -> Iterator[Line | None]:
    """None is a failover's. The side of the others is their own guess."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in _texts(path, file):
            if (found := _LINE.search(text)) is None:
                continue
            if found["over"]:
                yield None
                continue
            time = None if found["time"] is None else float(found["time"])
            place = f"{path}:{number}"
            if found["run"]:
                yield time, Seen(Side.PRIMARY, Act.DID, _CHANGES[found["run"]], place)
                continue
            if (message := _MESSAGES.get(found["message"])) is None:
                raise TraceError(f"{place}: '{found['message']}' is no COLO message")
            act, sender = _ACTS[found["act"]], COLO.sender[message]
            yield time, Seen(sender if act is Act.SENT else sender.peer, act, message, place)


def _texts(path: Path, file: TextIO) -> Iterator[tuple[int, str]]:
    """The numbered lines that may be COLO's; ends by itself whatever the file is."""
    without = 0
    for number in count(1):
        text = file.readline(LONGEST_LINE + 1)
        without += len(text)
        if not text:
            return
        if len(text) > LONGEST_LINE:
            raise TraceError(f"{path}:{number}: more than {LONGEST_LINE} characters: no log of QEMU's")
        if "colo_" in text:
            without = 0
            yield number, text
        if without > LONGEST_SEARCH:
            raise TraceError(f"{path}:{number}: {LONGEST_SEARCH} characters without a line of COLO's")


def _begins(first: Seen) -> bool:
    """Whether this message can only be a side's very first."""
    later = frozenset(p for p in ANYWHERE if p.state(first.side) is not COLO.initial)
    sights = [Sight.ALL if side is first.side else Sight.NOTHING for side in Side]
    return not Shadow(later, (sights[0], sights[1])).allows(first)
