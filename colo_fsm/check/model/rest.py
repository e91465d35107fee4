"""How a system that goes on, and one that has come to rest, must look."""

from __future__ import annotations

from collections.abc import Iterator

from colo_fsm.colo import Mode
from colo_fsm.fsm import Do, Side

from .law import Law
from .properties import Property
from .scenario import Arbiter, Scenario
from .steps import Step
from .world import Channel, End, Local, Output, Vcpu, World


def at_rest(world: World, scenario: Scenario) -> Iterator[tuple[Property, str]]:
    """What is wrong with a moment after which nothing more happens by itself."""
    sides = {Side.PRIMARY: world.primary, Side.SECONDARY: world.secondary}
    denied = scenario.arbiter is Arbiter.CLAIM and not world.facts.arbiter_up
    law = scenario.law
    waiting = [s for s, own in sides.items() if own is not None and not _settled(own, denied, law)]
    if waiting:
        whole = None not in sides.values() and _open(world.forward) and _open(world.back)
        names = " and ".join(f"the {side}" for side in waiting)
        yield Property.NO_DEADLOCK if whole else Property.SETTLES, f"{names} would wait for ever"
    for side, own in sides.items():
        if own is not None and own.state in law.alone and not _serves(own):
            yield Property.SETTLES, f"the {side} has won, and does not serve"


def _settled(own: Local, denied: bool, law: Law) -> bool:
    waits = own.state is law.words.failover and own.todo[:1] == (Do.claim,) and denied
    return own.state in law.alone | law.over or waits


def _serves(own: Local) -> bool:
    return own.running and own.output is Output.THROUGH


def _open(channel: Channel) -> bool:
    return channel.end is End.OPEN


def unfinished_round(step: Step, scenario: Scenario) -> str:
    """What is missing at the end of this round; "" if nothing is."""
    assert step.own is not None
    missing = []
    if not step.own.running:
        missing.append("the Primary's guest does not run")
    if step.facts.released != 0:
        missing.append("the packets that the checkpoint covers are not out")
    if scenario.variant.mode is Mode.HYBRID:
        if step.facts.svm is not Vcpu.RUNS:
            missing.append("the Secondary's guest does not run")
        if not step.facts.comparing:
            missing.append("nobody compares")
    return ", ".join(missing)


def healthy(world: World, law: Law) -> str:
    """What is wrong with a moment that only ordinary steps have led to; "" if nothing is."""
    for side, own in ((Side.PRIMARY, world.primary), (Side.SECONDARY, world.secondary)):
        if own is None or own.state not in law.handshake | {law.words.initial}:
            return f"the {side} has left the handshake without a reason"
    return ""
