"""The production guest around the service, with hooks that can be made to fail."""

from __future__ import annotations

from collections.abc import Callable

from colo_fsm.replica.guest import Saved, StateGuest
from colo_fsm.replica.store import Checkpoint

from .service import CAPACITY, KeyValue


class Broken(Exception):
    """What a hook raises that is told to fail."""


def state_in(checkpoint: Checkpoint) -> bytes:
    """The service's state in a checkpoint of this guest."""
    length = int.from_bytes(checkpoint.device, "big")
    return bytes(checkpoint.blocks[StateGuest.BLOCK][:length])


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
