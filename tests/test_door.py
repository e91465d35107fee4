"""The door in front of a Secondary, and how long one may stay who is let in; who comes: test_strangers.py."""

from __future__ import annotations

import socket

from replicas import Bench, Counting, Visits, descriptors, initial_bytes

from colo_fsm.colo import State
from colo_fsm.fsm import SIGN_OF_LIFE, Side
from colo_fsm.replica.door import Door, ours
from colo_fsm.replica.secondary_script import LEAST
from colo_fsm.stream import PAGE_SIZE


def test_a_door_that_is_closed_keeps_no_descriptor() -> None:
    """At once: its thread has a poll and an event of its own. Fifty times, for it is often quick enough."""
    before = descriptors()
    for _ in range(50):
        listener = socket.create_server(("127.0.0.1", 0))
        with socket.create_connection(listener.getsockname()):
            Door(listener, ours, own=True, greeting_deadline=60.0, patience=60.0).close()
            listener.close()
        assert descriptors() == before


class TestWhoIsTooSlow:
    """Inside, on a virtual clock: 64 KiB in ten deadlines, or the next one comes in."""

    PACE = 40.0
    """Seconds from one piece to the next; a deadline of the first copy is 50."""

    def arrive(self, size: int, stream: bytes = b"") -> tuple[Bench, Visits]:
        """Somebody sends this, or a whole initial state, in pieces of this size, one each PACE."""
        capacity = 64 * PAGE_SIZE
        pages = {at: bytes([1 + at // PAGE_SIZE]) * PAGE_SIZE for at in range(0, capacity, PAGE_SIZE)}
        guest = Counting(paged=False)
        guest.blocks = {"ram": capacity}
        made, visitors = Bench(Side.SECONDARY, guest), Visits()
        visitors.came = made.link
        made.replica.come_from(visitors)
        made.start()
        rest = stream or initial_bytes(b"0", pages, capacity)
        while rest and not visitors.dismissed:
            piece, rest = rest[:size], rest[size:]
            left = made.wait.timeout
            if left is not None and left < self.PACE:
                made.lapse()  # it is too late for this piece
            else:
                made.now += self.PACE
                made.receive(piece)
        return made, visitors

    def test_one_byte_every_forty_seconds_is_no_progress(self) -> None:
        made, visitors = self.arrive(1)
        assert visitors.dismissed == ["Can't receive COLO message: Connection timed out"]
        assert made.now == 1050.0
        assert (made.state, visitors.busy) == (State.INIT, False)
        made.receive(initial_bytes(b"0", capacity=64 * PAGE_SIZE))
        assert (made.state, visitors.busy) == (State.READY, True)

    def test_nor_are_signs_of_life_so_rare(self) -> None:
        """A Primary that saves its guest sends fifty in that time."""
        made, visitors = self.arrive(4, initial_bytes()[:21] + SIGN_OF_LIFE * 100)
        assert (len(visitors.dismissed), made.now) == (1, 1050.0)

    def test_a_byte_less_than_the_least_is_none_either(self) -> None:
        _, visitors = self.arrive(LEAST - 1)
        assert len(visitors.dismissed) == 1

    def test_the_least_is_enough(self) -> None:
        """However long it takes in all."""
        made, visitors = self.arrive(LEAST)
        assert (made.state, visitors.dismissed) == (State.READY, [])
        assert made.now > 1000.0 + 3 * self.PACE
