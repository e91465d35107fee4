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
from colo_fsm.replica import Checkpoint, Saved, Store
from colo_fsm.replica.events import CheckpointTaken
from colo_fsm.replica.script import Script
from colo_fsm.replica.secondary_script import SecondaryReplica
from colo_fsm.stream import (
    PAGE_SIZE,
    Blocks,
    Buffer,
    Delta,
    DescriptionDecoder,
    DeviceSection,
    PatchSink,
    StreamError,
    VmInitialDecoder,
    VmLiveDecoder,
    device_sections,
    pong,
)

from .checkpoint import END_MARK, meta_of
from .disks import disks

MEMORY_LIMIT = 1 << 40
"""The most RAM that a Primary may declare unless asked otherwise, in bytes."""


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


class RoundDelta(Delta):
    """The pages of a round; those that are not among them are as in the last checkpoint."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def get(self, block: str, offset: int) -> Buffer:
        """See `PatchSink.get`."""
        page = self.kept(block, offset)
        if page is not None:
            return page
        assert self._store.newest is not None
        return self._store.newest.blocks[block][offset : offset + PAGE_SIZE]


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
        self._memory_limit = memory_limit
        self._description: DescriptionDecoder | None = None
        self._initial: VmInitialDecoder
        self._live: VmLiveDecoder
        self._meta: dict[str, str] = {}
        self._began = 0.0
        self.session.on_transition(self._round_begins, State.REQUESTED)

    def _round_begins(self, _: Transition) -> None:
        self._began = self._clock()

    def _receive_initial(self) -> Script[Effects]:
        yield from self.call("arbiter", self.arbiter.check, self.generation)
        self._initial = decoder = VmInitialDecoder(
            self._new_image, limit=self._memory_limit, device_limit=self.options.state_limit
        )
        yield from self._decode(decoder)
        self._refuse_disks(decoder.sections, decoder.devices)
        self._ram = decoder.ram
        self._meta = self._meta_with(None)
        self._description = DescriptionDecoder()
        self.session.give_back(self._past_description(self.session.unread()))
        yield from self.call("store", self.store.complete, self.generation, decoder.devices, self._meta)
        self._answer(decoder.pings)
        return (yield from self._load())

    def _new_image(self, blocks: Blocks) -> PatchSink:
        return self.store.begin(blocks)

    def _meta_with(self, description: bytes | None) -> dict[str, str]:
        initial = self._initial
        return meta_of(initial.machine, initial.head, initial.ram.section, description)

    def _refuse_disks(self, sections: tuple[DeviceSection, ...], devices: bytes) -> None:
        found = disks(sections, devices)
        if found and not self._disks_elsewhere:
            raise InvalidState(HasDisks(found))

    def _answer(self, pings: list[int]) -> None:
        """On the return path, before the next message."""
        self.send(*map(pong, pings))

    def arrived(self, data: bytes) -> Effects:
        """The description comes where a message may begin, once, or not at all."""
        rest = self._past_description(data)
        return self.session.receive_data(rest) if rest or not data else ()

    def _past_description(self, data: bytes) -> bytes:
        """What of these bytes does not belong to the description."""
        decoder = self._description
        if decoder is None or not data:
            return data
        try:
            used = decoder.feed(data)
        except StreamError as cause:
            raise InvalidState(cause) from cause
        if decoder.complete:
            self._description = None
            self._meta = self._meta_with(decoder.description)
        return data[used:]

    def _receive_live(self) -> Script[Effects]:
        assert self._ram is not None
        self._delta = delta = RoundDelta(self.store)
        self._live = VmLiveDecoder(self._ram, delta)
        yield from self._decode(self._live)
        self._answer(self._live.pings)
        self._received = self._live.bytes
        return ()

    def device_state(self, data: bytes) -> bytes:
        self._refuse_disks(device_sections(data), data)
        return data.removesuffix(END_MARK)

    def _store(self) -> Script[Effects]:
        yield from self.call("store", self.store.commit, self._delta, self._device, self._meta)
        return ()

    def taken(self, number: int) -> VmRound:
        live, vmstate = self._live, len(self._device) + len(END_MARK)
        return VmRound(
            number, live.pages, live.bytes + vmstate, 0.0, self._clock() - self._began,
            live.zero_pages, live.bytes, vmstate,
        )  # fmt: skip
