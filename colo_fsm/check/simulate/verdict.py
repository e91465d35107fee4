"""What a run has shown: what was lost, who split the brain, what no order of requests explains.

`lost`            an answered write is not in the survivor's state exactly once, or two answers differ
`split brain`     two sides won or ran in one generation, tokens did not rise, or a side let an answer
                  out after another had claimed that the other does not know of
`linearizability` the answers to reads and writes of a key, with its value in the end, fit no order
`torn`            a state was loaded that nobody had saved: half received, half loaded, or changing
`store`           a disk did not hold the checkpoint that it must
`stuck`           something never came to an end, or to a bad one; or one fault alone left nobody to
                  go on

Nobody survived: no proof of anything about loss, and counted apart.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import attrs

from colo_fsm.fsm import Side

from .linearize import Operation, linearizable
from .process import Process
from .schedule import PAYLOAD, Kind
from .service import KEYS, KeyValue, Request, Verb, apply, changes, state_in
from .tables import releasing
from .world import World

KINDS = LOST, SPLIT, ORDER, TORN, STORE, STUCK = (
    "lost", "split brain", "linearizability", "torn", "store", "stuck",
)  # fmt: skip


@attrs.frozen
class Problem:
    """One thing that must not be: what kind, and how it showed."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def promised(world: World) -> frozenset[str]:
    """The kinds of problem that this schedule must not lead to.

    The wire has no round number and no checksum of memory. So forged messages can let packets out too
    early: all those that have to come from the sent checkpoint on. And a page that was changed on its way
    is loaded as it came. Neither can make two sides run.
    """
    found = frozenset(KINDS)
    faults = world.schedule.faults
    forged = {fault.count for fault in faults if fault.kind is Kind.INJECT}
    needed = {row.trigger.message for row in releasing(world.tables[Side.PRIMARY])}
    if forged and needed <= forged:
        found -= {LOST, ORDER}
    if any(fault.kind is Kind.CORRUPT and fault.how == PAYLOAD for fault in faults):
        found -= {LOST, ORDER, TORN, STORE}
    return found


def survivor(world: World) -> Process | None:
    """Who serves the data in the end."""
    for process in world.pair:
        if process.alive and process.alone:
            return process
    return world.current(Side.PRIMARY) if world.replicating else None


def problems(world: World) -> list[Problem]:
    """All that this run has shown to be wrong."""
    witness = world.witness
    found = [Problem(TORN, text) for text in witness.torn[:3]]
    found += [Problem(STORE, text) for text in witness.broken]
    found += [Problem(LOST, f"answered twice: {text}") for text in world.clients.contradicted]
    found += [Problem(SPLIT, text) for text in _split_brain(world)]
    left = survivor(world)
    if left is not None:
        found += [Problem(LOST, text) for text in _lost(world, left.service)]
        found += [Problem(STUCK, text) for text in _unanswered(world)]
        held = _held_by_secondary(world)
        if held is not None:
            found += [Problem(LOST, f"on the Secondary: {text}") for text in _lost(world, held)]
    found += [Problem(STUCK, text) for text in _unsettled(world)]
    found += [Problem(ORDER, text) for text in _no_order(world, left)]
    return found


def _lost(world: World, service: KeyValue) -> Iterator[str]:
    there = Counter(service.log)
    for asked in world.clients.asked:
        if asked.answer is not None and changes(asked.request, asked.answer):
            times = there[asked.request.name]
            if times != 1:
                yield f"write {asked.request} was answered, and is there {times} times"


def _held_by_secondary(world: World) -> KeyValue | None:
    """What would be left if a healthy Primary died now."""
    secondary = world.current(Side.SECONDARY)
    if not world.replicating:
        return None
    assert secondary.store is not None
    newest = secondary.store.newest
    if newest is None:
        return None
    held = KeyValue()
    held.set_state(state_in(newest))
    return held


def _split_brain(world: World) -> Iterator[str]:
    witness = world.witness
    for generation, times in Counter(won.generation for won in witness.won).items():
        if times > 1:
            yield f"{times} sides have won generation {generation}"
    for generation, times in Counter(witness.alone).items():
        if times > 1:
            yield f"{times} sides ran alone in generation {generation}"
    tokens = [won.token for won in witness.won]
    if tokens != sorted(set(tokens)):
        yield f"tokens do not rise: {tokens}"
    granted = {grant.generation: grant for grant in world.arbiter.grants}
    covered = {won.generation: won.checkpoint for won in witness.won}
    order = {generation: at for at, generation in enumerate(witness.generations)}
    newest = -1
    for release in witness.releases:
        grant = granted.get(release.generation)
        lost = grant is not None and grant.claim.winner is not release.side and release.at > grant.at
        # what the winner goes on from: such an answer is none but one that took its time on the way
        known = release.checkpoint <= covered.get(release.generation, math.inf)
        if lost and not known:
            yield f"{release.process} answered {release.request} after its peer had claimed"
        at = order.get(release.generation, newest)
        if at < newest and not (lost and known):
            yield f"{release.process} answered {release.request} in {release.generation}, an old generation"
        newest = max(newest, at)


def _no_order(world: World, left: Process | None) -> Iterator[str]:
    now = world.kernel.now
    for key in KEYS:
        history = world.clients.operations(key)
        if left is not None:
            last = Request(-1, 0, Verb.GET, key)
            history.append(Operation(now, now, last, left.service.values[key]))
        if not linearizable(history, "", apply):
            yield f"no order explains the {len(history)} operations on '{key}'"


def _unanswered(world: World) -> Iterator[str]:
    if not world.clients.idle:
        yield "a client was never answered although somebody serves"


def _unsettled(world: World) -> Iterator[str]:
    yield from world.witness.bad_ends
    for process in world.processes:
        if process.alive and process.left_open:
            yield f"{process.name} is over, and has left something open"
    for process in world.pair:
        if process.alive and not process.settled and not world.replicating:
            yield f"{process.name} is still in {process.state}"
    strikes = world.witness.strikes
    if survivor(world) is None and (not strikes or (world.witness.generations and len(strikes) == 1)):
        yield "nobody goes on after " + (str(strikes[0].fault) if strikes else "no fault at all")
