"""A virtual machine as it comes in: what a standby, a tap and `inspect` decode alike."""

from __future__ import annotations

import os

from colo_fsm.replica import DirectoryStore, Store
from colo_fsm.stream import (
    DEVICE_LIMIT,
    PAGE_SIZE,
    ZERO_PAGE,
    Blocks,
    Buffer,
    Delta,
    DescriptionDecoder,
    DeviceSection,
    Layout,
    PatchSink,
    StreamError,
    VmInitialDecoder,
    VmLiveDecoder,
    device_sections,
)
from colo_fsm.stream.source import Decoder, Parsing, within
from colo_fsm.stream.vm_decode import NoText

from .checkpoint import END_MARK, meta_of


def what_fits(store: Store | None) -> int:
    """The most RAM, in bytes, that this machine can hold, and the disk of this store, as it is now."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if not isinstance(store, DirectoryStore):
        return memory
    disk = os.statvfs(store.path)
    return min(memory, disk.f_bavail * disk.f_frsize)


class InitialState(Decoder):
    """The initial stream of a VM, and the description of its devices that may follow it.

    `complete` at the end mark: send checkpoint-ready then, for a source without a description waits for
    it. Go on to feed it what arrives where a message may begin, until it is `over`: the description
    has ended, or a message has begun. What looks like the head of a description inside a section, and is
    no text, is passed over.
    """

    def __init__(self, store: Store | None, limit: int, device_limit: int) -> None:
        super().__init__()
        begin = _nowhere if store is None else store.begin
        self.vm = VmInitialDecoder(begin, limit=limit, device_limit=device_limit)
        self._description = DescriptionDecoder()

    @property
    def over(self) -> bool:
        """Whether what comes next is a message."""
        return self._description.complete

    def _parse(self) -> Parsing[None]:
        while True:
            yield from within(self._source, self.vm)
            self.complete |= self._source.dry
            if (yield from self._described()):
                return self.vm.close()

    def _described(self) -> Parsing[bool]:
        """Read the description; False if it is none, and the sections go on."""
        self._description = DescriptionDecoder()
        before = bytearray()
        while not self._description.complete:
            if not self._taken(before):
                self.vm.go_on()
                self.vm.feed(before)
                return False
            if not self._description.complete:
                yield
        return True

    def _taken(self, before: bytearray) -> bool:
        """Whether what is at hand may belong to a description; what is taken of it goes to `before`, too."""
        view, at = self._source.window()
        try:
            used = self._description.feed(view[at:])
        except NoText:
            return False
        except StreamError as error:
            raise StreamError(self.vm.bytes + error.offset, error.problem) from None
        before += view[at : at + used]
        self._source.advance(at + used)
        return True

    def close(self) -> None:
        """See `Decoder.close`."""
        super().close()
        self.vm.close()
        self._description.close()

    def meta(self) -> dict[str, str]:
        """What a store keeps of it beside memory and devices, as far as it has come."""
        return meta_of(self.vm, self._description.description)

    @property
    def sections(self) -> tuple[DeviceSection, ...]:
        """The device sections in `vm.devices`."""
        if self.layout is None:
            return self.vm.sections
        return device_sections(self.vm.devices + END_MARK, self.layout)

    @property
    def layout(self) -> Layout | None:
        """How long device sections are, if a description has said so."""
        return self._description.layout


class RoundDelta(Delta, PatchSink):
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


class IncomingVm:
    """A VM on its way into `store`, or nowhere (None): its checkpoint 0, then its rounds.

    Feed `initial`, then `complete`; for each round feed a decoder from `live`, then `commit`. RAM over
    `limit` and device sections over `device_limit` bytes are refused. `provisional`: see `Store.complete`.
    """

    def __init__(
        self,
        store: Store | None,
        generation: int = 0,
        *,
        limit: int,
        device_limit: int = DEVICE_LIMIT,
        provisional: bool = False,
    ) -> None:
        self._provisional = provisional
        self.initial = InitialState(store, limit, device_limit)
        self._store = store
        self._generation = generation
        self._delta: RoundDelta | None = None
        self._described = False

    def complete(self) -> None:
        """The initial state is complete. Raises what the store raises."""
        if self._store is not None:
            devices, meta = self.initial.vm.devices, self.initial.meta()
            self._store.complete(self._generation, devices, meta, provisional=self._provisional)

    def live(self) -> VmLiveDecoder:
        """The decoder of the next round's live state."""
        self._delta = None if self._store is None else RoundDelta(self._store)
        return VmLiveDecoder(self.initial.vm.ram, _Nowhere() if self._delta is None else self._delta)

    def commit(self, vmstate: bytes) -> None:
        """The round is complete; `vmstate` with its end mark. Raises what the store raises."""
        if self._store is not None and self._delta is not None:
            meta = None if self._described else self.initial.meta()  # round 1 comes behind a description
            self._store.commit(self._delta, vmstate.removesuffix(END_MARK), meta)
            self._described = True


class _Nowhere(PatchSink):
    """A sink for who only wants to count. What a change to a page makes of it does not matter."""

    def put(self, block: str, offset: int, data: Buffer, /) -> None:
        pass

    def put_zeros(self, block: str, offset: int, count: int, /) -> None:
        pass

    def get(self, block: str, offset: int, /) -> Buffer:
        return ZERO_PAGE


def _nowhere(_: Blocks) -> PatchSink:
    return _Nowhere()
