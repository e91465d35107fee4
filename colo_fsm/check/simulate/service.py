"""The replicated service, and the production guest around it.

A few keys, with every request remembered, so that a retry is answered again.

Its state spans several pages, each of which changes with nearly every write: a checkpoint that is not
whole is none of the states that were ever saved.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum

import attrs

from colo_fsm.replica.guest import Saved, StateGuest
from colo_fsm.replica.store import Checkpoint
from colo_fsm.stream.memory import PAGE_SIZE

KEYS = ("x", "y")
LOG_PAGES = 2
CAPACITY = (1 + LOG_PAGES + len(KEYS)) * PAGE_SIZE


class Outgrown(BaseException):
    """The run is too long for the service. Not for a side to take for a fault of its guest."""


class Verb(StrEnum):
    """What a client may ask of one key, whose value is a text."""

    GET = "get"
    PUT = "put"
    APPEND = "append"
    SWAP = "swap"
    """Compare and set."""


@attrs.frozen
class Request:
    """`client` and `number` are its idempotency key: a client has one request under way, and counts."""

    client: int
    number: int
    verb: Verb
    key: str
    text: str = ""
    expected: str = ""

    @property
    def name(self) -> str:
        """The idempotency key."""
        return f"{self.client}.{self.number}"

    def __str__(self) -> str:
        return f"{self.name} {self.verb} {self.key}"


def apply(request: Request, value: str) -> tuple[str, str]:
    """The value after this request, and its answer. This is all that a key does."""
    match request.verb:
        case Verb.GET:
            return value, value
        case Verb.PUT:
            return request.text, "ok"
        case Verb.APPEND:
            after = value + request.text
            return after, after
        case Verb.SWAP if value == request.expected:
            return request.text, "swapped"
        case Verb.SWAP:
            return value, "kept"


def changes(request: Request, answer: str) -> bool:
    """Whether this request, answered so, has written."""
    return request.verb is not Verb.GET and answer != "kept"


class KeyValue:
    """See the top. `begin` and `end` bracket a turn; the change is made at its end."""

    def __init__(self) -> None:
        self.values = dict.fromkeys(KEYS, "")
        self.log: list[str] = []
        """The writes that were made, in order."""
        self.open_turns = 0
        self._answers: dict[str, tuple[int, str]] = {}

    def begin(self) -> None:
        """A turn begins."""
        self.open_turns += 1

    def end(self, request: Request) -> str | None:
        """A turn ends: the answer, an old one where the request is known; None for one that is stale."""
        self.open_turns -= 1
        known, answer = self._answers.get(str(request.client), (-1, ""))
        if request.number < known:
            return None
        if request.number == known:
            return answer
        self.values[request.key], answer = apply(request, self.values[request.key])
        if changes(request, answer):
            self.log.append(request.name)
        self._answers[str(request.client)] = request.number, answer
        return answer

    def get_state(self) -> bytes:
        """See `BytesState`."""
        parts = (
            (json.dumps([self.open_turns, self._answers]), PAGE_SIZE),
            (" ".join(self.log), LOG_PAGES * PAGE_SIZE),
            *((value, PAGE_SIZE) for value in self.values.values()),
        )
        if any(len(part) > size for part, size in parts):
            raise Outgrown
        return b"".join(part.encode().ljust(size) for part, size in parts)

    def set_state(self, state: bytes) -> None:
        """See `BytesState`."""
        log = (1 + LOG_PAGES) * PAGE_SIZE
        self.open_turns, answers = json.loads(state[:PAGE_SIZE])
        self._answers = {client: (number, answer) for client, (number, answer) in answers.items()}
        self.log = state[PAGE_SIZE:log].decode().split()
        values = (state[at : at + PAGE_SIZE].rstrip().decode() for at in range(log, len(state), PAGE_SIZE))
        self.values = dict(zip(KEYS, values, strict=True))


def state_in(checkpoint: Checkpoint) -> bytes:
    """The service's state in a checkpoint of its guest."""
    length = int.from_bytes(checkpoint.device[:8], "big")
    return bytes(checkpoint.blocks[StateGuest.BLOCK][:length])


class Broken(Exception):
    """What a hook raises that is told to fail."""


class SimulatedGuest(StateGuest):
    """The production guest, whose hooks fail when they are told to."""

    def __init__(self, service: KeyValue, hook: Callable[[str], None]) -> None:
        """`hook` is told of every call by its name, and may raise."""
        super().__init__(service, CAPACITY)
        self._hook = hook

    def suspend(self) -> None:
        self._hook("suspend")
        super().suspend()

    def resume(self) -> None:
        self._hook("resume")
        super().resume()

    def save(self, full: bool) -> Saved:
        self._hook("save")
        return super().save(full)

    def load(self, checkpoint: Checkpoint) -> None:
        self._hook("load")
        super().load(checkpoint)
