"""What COLO's tables must keep to, written down a second time: a slip in a table is a break of this."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from colo_fsm.colo import COLO, COLOMessage, Profile, State, Variant
from colo_fsm.fsm import Fault, Kind, Message, Send, Side, begin, fault, lost

from .control import Reaction
from .law import Law
from .properties import Property
from .wire import Wire

BETWEEN = frozenset({State.READY, State.LOADED})
"""Where a checkpoint may begin."""

LEAVING: Mapping[StrEnum, StrEnum] = {
    State.INIT: State.ENDED,
    State.READY: State.ENDED,
    State.LOADED: State.ENDED,
    State.ALONE: State.ENDED,
    State.FAILOVER: State.STOPPED,
}
"""Where one may leave, and where that leads: a claim that is not answered is no orderly end."""

STORES = {
    Profile.QEMU: frozenset({State.SIZED, State.RECEIVED}),
    Profile.PATCH: frozenset({State.SENDING, State.RECEIVED}),
}
"""Where the Secondary may hold a checkpoint that it has not loaded: that comes before its claim."""

_GUEST_FAILED = fault(Fault.GUEST_FAILED)
_MAY_STOP = (State.ALONE, State.FINISHING)


def before(message: Message, profile: Profile) -> frozenset[StrEnum]:
    """The states in which a message is the next one of the published picture."""
    if message is COLOMessage.CHECKPOINT_READY:
        return frozenset({State.INIT})
    if message is COLOMessage.CHECKPOINT_REQUEST:
        return BETWEEN
    spoken = [m for m in COLO.mirror if profile is Profile.QEMU or m is not COLOMessage.VMSTATE_SIZE]
    return frozenset({COLO.mirror[spoken[spoken.index(message) - 1]]} if message in spoken else ())


class ColoLaw(Law):
    """COLO's law: the states and the wire of the patch's picture, whatever the tables say."""

    judged = frozenset(Property)
    over = frozenset({State.STOPPED, State.ENDED})
    alone = frozenset({State.ALONE})
    finishing = frozenset({State.FINISHING})
    handshake = frozenset(COLO.mirror.values())
    leaving = frozenset(LEAVING)

    @property
    def _profile(self) -> Profile:
        assert isinstance(self.primary.variant, Variant)
        return self.primary.variant.profile

    @property
    def wire(self) -> Wire:
        if self._profile is Profile.QEMU:
            return Wire(COLO)
        return Wire(COLO, bare=True, carrier=COLOMessage.VMSTATE_SEND)

    def breaks(self, side: Side, moved: Reaction) -> set[Property]:
        trigger, message = moved.trigger, moved.trigger.message
        broken = super().breaks(side, moved)
        wrong = trigger.kind is Kind.FAULT
        if message is not None:
            mine, turn = COLO.sender[message] is side, moved.source in before(message, self._profile)
            wrong = mine or not turn or moved.dest is not COLO.mirror[message]
        again = moved.dest is moved.source and moved.effects
        if wrong and (moved.dest is not self._after_error(side, moved) or again):
            broken.add(Property.FAILOVER)
        sent = [effect.message for effect in moved.effects if isinstance(effect, Send)]
        begins = moved.source in BETWEEN and moved.dest is State.REQUESTED
        if any(moved.dest is not COLO.mirror[m] for m in sent) or (
            trigger == begin.checkpoint and not begins
        ):
            broken.add(Property.SYNC_POINTS)
        if not self._orderly(moved):
            broken.add(Property.ORDERLY)
        return broken

    def _after_error(self, side: Side, moved: Reaction) -> StrEnum:
        """Where a fault, or a message out of order, must lead."""
        source = moved.source
        if source is State.INIT:
            return State.STOPPED
        if source in _MAY_STOP and moved.trigger == _GUEST_FAILED:
            return State.STOPPED
        if side is Side.SECONDARY and source in STORES[self._profile]:
            return State.FINISHING
        return State.FAILOVER if source in self.handshake else source

    def _orderly(self, moved: Reaction) -> bool:
        """Whether an end has its reason, and lasts."""
        if moved.source in self.over:
            return moved.dest is moved.source
        if moved.trigger == begin.leave:
            return moved.dest is LEAVING.get(moved.source)
        if moved.dest is State.STOPPED:
            failed = moved.trigger == _GUEST_FAILED and moved.source in _MAY_STOP
            return moved.source is State.INIT or moved.trigger == lost or failed
        return moved.dest is not State.ENDED

    def completes_round(self, side: Side, moved: Reaction) -> bool:
        loaded = moved.trigger.message is COLOMessage.VMSTATE_LOADED
        return side is Side.PRIMARY and loaded and moved.dest in self.handshake
