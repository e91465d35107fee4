"""The door in front of a Secondary, without a pair behind it; who comes to one: test_strangers.py."""

from __future__ import annotations

import socket

from replicas import descriptors

from colo_fsm.replica.door import Door, ours


def test_a_door_that_is_closed_keeps_no_descriptor() -> None:
    """At once: its thread has a poll and an event of its own. Fifty times, for it is often quick enough."""
    before = descriptors()
    for _ in range(50):
        listener = socket.create_server(("127.0.0.1", 0))
        with socket.create_connection(listener.getsockname()):
            Door(listener, ours, own=True, greeting_deadline=60.0, patience=60.0).close()
            listener.close()
        assert descriptors() == before
