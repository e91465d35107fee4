"""Clients of the service: each asks one thing at a time, and asks again elsewhere until it is answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

import attrs

from .kernel import Kernel, Timer
from .linearize import Operation
from .service import KEYS, Request, Verb

PATIENCE = 0.4
"""Seconds that a client waits for an answer before it asks elsewhere."""
TIRED = 20
"""Requests after which a client pauses twice as long."""
REFUSED = 0.1
"""Seconds before it does so when it was refused."""

Answered = Callable[[str | None], None]
"""Told the answer, or None: refused, or the connection was closed without one."""


class Server(Protocol):
    """Where a request can go."""

    def request(self, request: Request, answered: Answered) -> None:
        """The request has arrived. Whoever is dead says nothing, or refuses."""


@attrs.define(eq=False)
class Asked:
    """What one request came to, as its client saw it."""

    request: Request
    invoked: float
    returned: float = math.inf
    answer: str | None = None


class Client:
    """One client. It works until it is told to stop, and then finishes what it has begun."""

    def __init__(self, clients: Clients, number: int, random: Random) -> None:
        self.asked: list[Asked] = []
        self.busy = False
        self._clients = clients
        self._number = number
        self._random = random
        self._server = 0
        self._attempt = 0
        self._patience: Timer | None = None
        self._saw = dict.fromkeys(KEYS, "")

    def think(self) -> None:
        """The next request, in a while; in a long run they become rare."""
        pause = self._clients.pause * (1 + len(self.asked) / TIRED)
        self._clients.kernel.after(self._random.expovariate(1 / pause), self._begin)

    def _begin(self) -> None:
        if self._clients.stopping:
            return
        self.busy = True
        request = self._choose()
        self.asked.append(Asked(request, self._clients.kernel.now))
        self._try()

    def _choose(self) -> Request:
        number, random = len(self.asked), self._random
        verb = random.choice((Verb.GET, Verb.GET, Verb.PUT, Verb.APPEND, Verb.SWAP))
        key = random.choice(KEYS)
        text = f"{self._number}.{number}," if verb is not Verb.GET else ""
        expected = self._saw[key] if verb is Verb.SWAP else ""
        return Request(self._number, number, verb, key, text, expected)

    def _try(self) -> None:
        clients, current = self._clients, self.asked[-1]
        self._attempt += 1
        attempt = self._attempt
        server = clients.servers[self._server % len(clients.servers)]

        def answered(answer: str | None) -> None:
            clients.kernel.after(clients.latency(), lambda: self._answered(current, attempt, answer))

        self._patience = clients.kernel.after(PATIENCE, self._elsewhere)
        clients.kernel.after(clients.latency(), lambda: server.request(current.request, answered))

    def _elsewhere(self) -> None:
        self._server += 1
        self._try()

    def _answered(self, asked: Asked, attempt: int, answer: str | None) -> None:
        late = asked is not self.asked[-1] or asked.answer is not None
        if answer is None:
            if not late and attempt == self._attempt and self._patience is not None:
                self._patience.cancel()
                self._clients.kernel.after(REFUSED, self._elsewhere)
            return
        self._clients.kernel.note(f"client {asked.request} -> {answer!r}")
        if late:
            if answer != asked.answer:
                self._clients.contradicted.append(f"{asked.request}: {asked.answer!r}, then {answer!r}")
            return
        assert self._patience is not None
        self._patience.cancel()
        asked.returned, asked.answer = self._clients.kernel.now, answer
        self._attempt += 1  # a refusal that is still under way says nothing any more
        self._learn(asked.request, answer)
        self.busy = False
        self.think()

    def _learn(self, request: Request, answer: str) -> None:
        """What the key holds, as far as this client knows."""
        if request.verb in (Verb.GET, Verb.APPEND):
            self._saw[request.key] = answer
        elif answer != "kept":
            self._saw[request.key] = request.text


class Clients:
    """All clients of a run, and what they have seen."""

    def __init__(self, kernel: Kernel, random: Random, count: int, *, pause: float, delay: float) -> None:
        self.kernel = kernel
        self.pause = pause
        self.servers: list[Server] = []
        self.stopping = False
        self.contradicted: list[str] = []
        """Requests that were answered twice, and not the same."""
        self._random = random
        self._delay = delay
        self._clients = [Client(self, number, Random(random.getrandbits(64))) for number in range(count)]

    def start(self) -> None:
        """Let them work; `servers` may grow meanwhile."""
        for client in self._clients:
            client.think()

    def latency(self) -> float:
        """How long a request or an answer is under way."""
        return self._delay * (0.5 + self._random.random())

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer."""
        return not any(client.busy for client in self._clients)

    @property
    def asked(self) -> Sequence[Asked]:
        """Everything that was asked."""
        return [asked for client in self._clients for asked in client.asked]

    def operations(self, key: str) -> list[Operation[Request, str]]:
        """The history of one key."""
        return [
            Operation(a.invoked, a.returned, a.request, a.answer) for a in self.asked if a.request.key == key
        ]
