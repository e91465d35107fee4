"""A COLO Secondary for a real QEMU Primary, without a second VM: it holds the newest checkpoint.

The protocol is the Secondary's table, the driver is the blocking one. What differs from a guest of our
own: the stream, that nothing is loaded here, and that the description of the devices comes behind the
first sync point.
"""

from __future__ import annotations

from typing import Any

import attrs

from colo_fsm.colo import State
from colo_fsm.fsm import Effects, InvalidState, Transition
from colo_fsm.replica import Checkpoint, Saved
from colo_fsm.replica.events import CheckpointTaken
from colo_fsm.replica.script import Script
from colo_fsm.replica.secondary_script import SecondaryReplica
from colo_fsm.stream import Blocks, DeviceSection, StreamError, VmLiveDecoder, device_sections, pong

from ..incoming import IncomingVm
from .disks import disks


class HasDisks(ValueError):
    """The VM has disks, and nobody said that they are taken care of."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"this VM has disks ({', '.join(names)}): a checkpoint restored onto a disk that has moved on "
            "is corrupt; say --disks-elsewhere if something else keeps them at the checkpoint. An empty "
            "CD-ROM drive looks like one with a disk: -nodefaults leaves out the one that QEMU adds"
        )


@attrs.frozen
class VmRound(CheckpointTaken):
    """A round of a VM; `total` is the time from its request until it is loaded, here: in the store."""

    zero_pages: int
    live_bytes: int
    vmstate_bytes: int


class Held:
    """The guest of a standby: nothing runs here. Whoever is told to runs the checkpoint elsewhere."""

    blocks: Blocks = {}

    def suspend(self) -> None:
        """Nothing runs."""

    def resume(self) -> None:
        """Nothing runs."""

    def save(self, full: bool) -> Saved:
        """Never asked of a Secondary."""
        raise NotImplementedError

    def load(self, checkpoint: Checkpoint) -> None:
        """The checkpoint is in the store, where it is to be."""


class StandbyReplica(SecondaryReplica):
    """The Secondary's script for the stream of a real QEMU.

    `generation` is the arbiter's: QEMU's stream carries none. `memory_limit` is the most RAM, in bytes,
    that a Primary may declare.
    """

    def __init__(
        self, *args: Any, generation: int, disks_elsewhere: bool, memory_limit: int, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.generation: int = generation
        self._disks_elsewhere = disks_elsewhere
        self._vm = IncomingVm(
            self.store, generation, limit=memory_limit, device_limit=self.options.state_limit
        )
        self._live: VmLiveDecoder
        self._began = 0.0
        self.session.on_transition(self._round_begins, State.REQUESTED)

    def _round_begins(self, _: Transition) -> None:
        self._began = self._clock()

    def _receive_initial(self) -> Script[Effects]:
        yield from self.call("arbiter", self.arbiter.check, self.generation)
        yield from self._decode(self._vm.initial)
        vm = self._vm.initial.vm
        self._refuse_disks(vm.sections, vm.devices)
        yield from self.call("store", self._vm.complete)
        self._answer(vm.pings)
        return (yield from self._load())

    def arrived(self, data: bytes) -> Effects:
        """The description comes where a message may begin, once, or not at all."""
        used = 0
        if not self._vm.initial.over:
            try:
                used = self._vm.initial.feed(data)
            except StreamError as cause:
                raise InvalidState(cause) from cause
        return self.session.receive_data(data[used:]) if used < len(data) or not data else ()

    def _refuse_disks(self, sections: tuple[DeviceSection, ...], devices: bytes) -> None:
        found = disks(sections, devices)
        if found and not self._disks_elsewhere:
            raise InvalidState(HasDisks(found))

    def _answer(self, pings: list[int]) -> None:
        """On the return path, before the next message."""
        self.send(*map(pong, pings))

    def _receive_live(self) -> Script[Effects]:
        self._live = self._vm.live()
        yield from self._decode(self._live)
        self._answer(self._live.pings)
        return ()

    def device_state(self, data: bytes) -> bytes:
        self._refuse_disks(device_sections(data), data)
        return data

    def _store(self) -> Script[Effects]:
        yield from self.call("store", self._vm.commit, self._device)
        return ()

    def taken(self, number: int) -> VmRound:
        live, vmstate = self._live, len(self._device)
        return VmRound(
            number, live.pages, live.bytes + vmstate, 0.0, self._clock() - self._began,
            live.zero_pages, live.bytes, vmstate,
        )  # fmt: skip
