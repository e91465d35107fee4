"""An order book over TCP, closed-loop clients: ours, PySyncObj, and unreplicated."""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from colo_fsm import StateGuest, quick

from . import served
from .served import Apply, Service, compared
from .table import Row

CLIENTS = (1, 10, 100)
SECONDS, QUICK = 6.0, 0.2
LEVELS = 128
"""Prices; at each the quantity that is wanted and the one that is offered."""


class OrderBook:
    """Orders are matched with the best prices of the other side; what is left of one waits at its own."""

    def __init__(self) -> None:
        self.number = 0
        self.wanted = array("q", bytes(8 * LEVELS))
        self.offered = array("q", bytes(8 * LEVELS))

    def apply(self, request: bytes) -> bytes:
        """`buy PRICE QUANTITY` or `sell PRICE QUANTITY`; the reply: its number, how much was traded."""
        side, price, asked = request.split()
        limit, left = int(price), int(asked)
        if side == b"buy":
            own, other, prices = self.wanted, self.offered, range(limit + 1)
        else:
            own, other, prices = self.offered, self.wanted, range(LEVELS - 1, limit - 1, -1)
        for at in prices:
            if here := other[at]:
                other[at] -= (traded := min(here, left))
                left -= traded
                if not left:
                    break
        own[limit] += left
        self.number += 1
        return b"%d %d\n" % (self.number, int(asked) - left)

    @quick
    def get_state(self) -> bytes:
        return struct.pack("<Q", self.number) + self.wanted.tobytes() + self.offered.tobytes()

    @quick
    def set_state(self, state: bytes) -> None:
        (self.number,) = struct.unpack_from("<Q", state)
        middle = 8 + 8 * LEVELS
        self.wanted, self.offered = array("q", state[8:middle]), array("q", state[middle:])


def orders(count: int = 4096) -> list[bytes]:
    """Around the middle, as many to buy as to sell."""
    chance = random.Random(1)
    prices = (min(LEVELS - 1, max(0, round(chance.gauss(LEVELS / 2, 6)))) for _ in range(count))
    return [
        b"%s %d %d\n" % (chance.choice((b"buy", b"sell")), price, chance.randint(1, 100)) for price in prices
    ]


def _alone(_: Path) -> Apply:
    return OrderBook().apply


def _guest() -> tuple[StateGuest, Callable[[], Apply]]:
    book = OrderBook()
    return StateGuest(book, 4096), lambda: book.apply


def _member() -> Apply:
    return OrderBook().apply


SERVICE = Service("order book", orders(), _alone, _guest, _member)


def rows(quick: bool) -> Iterator[Row]:
    """All of it for 1, 10 and 100 clients."""
    tunings = list(served.TUNINGS)[: 1 if quick else None]
    seconds = QUICK if quick else SECONDS
    for clients in CLIENTS[: 1 if quick else None]:
        (replies, p50, *more) = compared(SERVICE, clients, seconds, tunings)
        yield from (replies, p50, *more)
        if clients == 1:
            with served.raw() as port:
                least = served.drive(port, 1, SERVICE.requests, seconds)
            yield Row(f"{p50.work} in round trips", p50.figure, "ms", "a raw TCP round trip", least.p50)
