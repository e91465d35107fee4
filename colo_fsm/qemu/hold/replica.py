"""A COLO Secondary for a real QEMU Primary, without a second VM: it holds the newest checkpoint.

The protocol is the Secondary's table, the driver is the blocking one. What differs from a guest of our
own: the stream, that nothing is loaded here, and that the description of the devices comes behind the
first sync point.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from colo_fsm.fsm import Do, Effects, GuestFailed, InvalidState, LinkLost, ProtocolError, Truncated, lost
from colo_fsm.replica import Checkpoint, CheckpointTaken, Saved
from colo_fsm.replica.door import LET_RUN, Door, Visitors, let_run
from colo_fsm.replica.script import Step
from colo_fsm.replica.secondary_script import ReceivedRound, SecondaryReplica
from colo_fsm.replica.wish import Script
from colo_fsm.stream import Blocks, RoundSections, StreamError, VmLiveDecoder, shut

from ..incoming import IncomingVm, what_fits
from .disks import disks
from .gate import NoPackets, PacketGate

_REFUSED = 1
"""A return path that ends with anything but 0 fails the migration."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class HasDisks(ValueError):
    """The VM has disks, and nobody said that they are taken care of."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"this VM has disks ({', '.join(names)}): a checkpoint restored onto a disk that has moved on "
            "is corrupt; say --disks-elsewhere if something else keeps them at the checkpoint"
        )


@attrs.frozen(kw_only=True)
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


@attrs.define
class ReceivedVm(ReceivedRound):
    """What has arrived of a round of a VM; its `device` is the vmstate."""

    live: VmLiveDecoder | None = None

    def taken(self, now: float) -> VmRound:
        live, vmstate = self.live, len(self.device)
        assert live is not None
        return VmRound(
            self.number, live.pages, self.sent, 0.0, now - self.began,
            zero_pages=live.zero_pages, live_bytes=live.bytes, vmstate_bytes=vmstate,
        )  # fmt: skip


class StandbyReplica(SecondaryReplica):
    """The Secondary's script for the stream of a real QEMU.

    `generation` is the arbiter's: QEMU's stream carries none. `memory_limit` is the most RAM, in bytes,
    that a Primary may declare; None: what the store's disk and this machine can hold. A VM is protected,
    and claimed for, from its first round on, or `after_initial` already. `gate`: where its packets wait, for
    a session with `ReleaseOn.GATE`.
    """

    round: ReceivedVm
    generation: int

    def __init__(
        self,
        *args: Any,
        generation: int,
        disks_elsewhere: bool,
        memory_limit: int | None = None,
        after_initial: bool = False,
        gate: PacketGate | None = None,
        **kwargs: Any,
    ) -> None:
        self._gate = gate
        super().__init__(*args, **kwargs)
        self.generation = generation
        self._disks_elsewhere = disks_elsewhere
        self.unprotected: str | None = None
        """Why nothing was claimed, if a VM was lost before it was protected."""
        self._memory_limit = memory_limit
        self._after_initial = self._protected = after_initial
        self._heard = self._taken = False
        self._sections: RoundSections | None = None
        self._vm = self._new_vm()

    def _new_vm(self) -> IncomingVm:
        limit = self._memory_limit
        return IncomingVm(
            self.store,
            self.generation,
            limit=what_fits(self.store) if limit is None else limit,
            device_limit=self.options.state_limit,
            provisional=not self._after_initial,
        )

    @property
    def protected(self) -> bool:
        """Whether there is a checkpoint of this VM to claim for."""
        return self._protected

    def effects(self) -> Mapping[Do, Step]:
        if self._gate is None:
            return super().effects()
        return {**super().effects(), Do.release: self._at_once(self._gate.release)}

    def new_round(self) -> ReceivedVm:
        return ReceivedVm(self.clock())

    def fails_here(self, error: ProtocolError) -> bool:
        """The generation is our own here, and how much the store is to take is the visitor's choice."""
        if not isinstance(error, GuestFailed):
            return False
        too_much = isinstance(error.cause, OSError) and error.cause.errno in _NO_ROOM
        return error.hook == "arbiter" or (super().fails_here(error) and not too_much)

    def receive_initial(self) -> Script[None]:
        self._vm, self._sections = self._new_vm(), None
        yield from self.call("arbiter", self.arbiter.check, self.generation)
        self._need_gate(lambda gate: gate.check())
        yield from self.decode(self._vm.initial)
        vm = self._vm.initial.vm
        self._refuse_disks(disks(self._vm.initial.sections, vm.devices))
        yield from self.call("store", self._vm.complete)
        self.send(*vm.answers)
        yield from self.load()
        self._need_gate(lambda gate: gate.hold())
        self._taken = True

    def _need_gate(self, of: Callable[[PacketGate], None]) -> None:
        """A VM whose packets would not be held is refused: before it is copied, and behind that."""
        try:
            if self._gate is not None:
                of(self._gate)
        except NoPackets as error:
            raise InvalidState(error) from error

    # -- a VM that is not taken runs on

    def refusal(self, error: ProtocolError) -> str:
        why = super().refusal(error)
        state, vm = self._vm.initial, self._vm.initial.vm
        hung_up = _hung_up(error)
        if isinstance(self.visitors, Door) and self.visitors.multifd and (hung_up or "multifd" in why):
            return ""
        if hung_up:
            return why
        if vm.return_path:
            return f"{why}; its VM runs on"
        if state.complete and not vm.says_colo:
            return f"{why}; x-colo is off there: `cont` runs its VM again"
        return f"{why}; its VM runs on, and `x-colo-lost-heartbeat` ends a migration that stays at `colo`"

    def _show_out(self, visitors: Visitors, error: ProtocolError) -> Script[None]:
        if not _hung_up(error):
            self._let_run()
        yield from super()._show_out(visitors, error)

    def hang_up(self) -> None:
        if not self._taken and not _hung_up(self.session.error):
            self._let_run()
        super().hang_up()

    def _let_run(self) -> None:
        """Nobody is protected by this: nothing is stored of it, and nothing claimed."""
        if self.link is not None:
            let_run(self.link, shut(_REFUSED) if self._vm.initial.vm.return_path else LET_RUN)

    # -- its rounds

    def arrived(self, data: bytes) -> Effects:
        """What still belongs to the initial state, its description, is no message."""
        try:
            used = self._vm.initial.feed(data)
        except StreamError as cause:
            raise InvalidState(cause) from cause
        if used == len(data) and data:
            return ()
        self._heard |= bool(data)
        return self.session.receive_data(data[used:])

    def receive_live(self) -> Script[None]:
        if self._gate is not None:
            self._gate.seal()
        self.round.live = live = self._vm.live()
        yield from self.decode(live)
        self.round.sent = live.bytes
        self.send(*live.answers)

    def device_state(self, data: bytes) -> bytes:
        if self._sections is None:
            self._sections = RoundSections(self._vm.initial.layout)
        self._refuse_disks(disks(self._sections.of(data), data, fresh=False))
        return data

    def store_round(self) -> Script[None]:
        yield from self.call("store", self._commit_vm, self.round.device)

    def _commit_vm(self, vmstate: bytes) -> None:
        self._vm.commit(vmstate)
        self._protected = True

    def _ask(self) -> Script[Effects]:
        """Nothing is claimed for a VM that was never protected: whoever was there may be anybody."""
        if self._protected:
            return (yield from super()._ask())
        self.unprotected = self._why_unprotected()
        return self.session.fire(lost)

    def _why_unprotected(self) -> str:
        vm, error = self._vm.initial.vm, self.session.error
        if not isinstance(error, LinkLost) or self._heard or vm.says_colo:
            return (
                f"the VM was lost before its first round was whole, nothing is claimed: {error}; if it "
                "stands still, `x-colo-lost-heartbeat` there lets it run on"
            )
        if vm.return_path:  # a plain migration may have one, and a QEMU 11 with x-colo has nothing else
            return (
                "nothing is claimed: x-colo is off on the Primary (a plain migration; `cont` there runs its "
                f"VM again), or the VM was lost before its first round was whole: {error}"
            )
        return (
            "this is a plain migration: x-colo is off on the Primary, so there is nothing to hold "
            f"({_what_to_switch_on(vm.machine)}); `cont` there runs its VM again"
        )

    def _refuse_disks(self, found: list[str]) -> None:
        if found and not self._disks_elsewhere:
            raise InvalidState(HasDisks(found))


def _hung_up(error: BaseException | None) -> bool:
    """Whether it was the Primary that ended the link: then no QEMU waits for a word of ours."""
    return isinstance(error, LinkLost | Truncated)


def _what_to_switch_on(machine: str) -> str:
    """A machine type is at most as new as its QEMU, and x-colo needs return-path since QEMU 11."""
    version = re.search(r"-(\d+)\.\d+$", machine)
    if version is not None and int(version[1]) >= 11:
        return "switch return-path on, and then x-colo"
    return "switch x-colo on, before it return-path if this is QEMU 11 or later"
