"""The search: every documented verdict, and whether the search itself can be believed."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest
from systems import at, changed, explored

from colo_fsm.check import (
    MATRIX,
    Arbiter,
    Documented,
    Property,
    Scenario,
    Strike,
    TooLarge,
    documented,
    explore,
)
from colo_fsm.check.model.steps import Steps
from colo_fsm.check.model.surroundings import steps as around
from colo_fsm.check.model.world import World
from colo_fsm.check.search.space import Space
from colo_fsm.colo import TABLES, State
from colo_fsm.colo import COLOMessage as M
from colo_fsm.fsm import Do, Effects, Fault, Send, Session, Side, Trigger, begin, complete, fault

NAMES = [each.name for each in MATRIX]
FAILING = [(each.name, p) for each in MATRIX for p in each.fails]


@pytest.mark.parametrize("name", NAMES)
def test_every_verdict_is_the_documented_one(name: str) -> None:
    assert documented(name).surprises(explored(name)) == []


def test_the_matrix_has_what_was_asked_for() -> None:
    assert len(MATRIX) >= 12
    assert len({each.name for each in MATRIX}) == len(MATRIX)
    scenarios = [each.scenario for each in MATRIX]
    assert any(s.disturbances == 2 for s in scenarios)
    assert {s.variant.profile for s in scenarios} == {"patch", "qemu"}
    assert {s.variant.mode for s in scenarios} == {"periodic", "hybrid"}
    assert {s.arbiter for s in scenarios} == set(Arbiter)
    assert frozenset().union(*(s.faults for s in scenarios)) == set(Strike)


def test_an_expected_failure_that_holds_is_noticed() -> None:
    hopeful = Documented(documented("claim").scenario, {Property.NO_SPLIT: "so it was once"})
    assert hopeful.surprises(explored("claim")) == ["no-split-brain holds now, and was known to fail"]


def test_a_failure_that_nobody_expects_is_noticed() -> None:
    bold = Documented(documented("plain-link").scenario)
    assert bold.surprises(explored("plain-link")) == [
        "no-split-brain fails: never do two sides run alone at once"
    ]


# -- the search against the plainest one there can be ------------------------------------------------


def plainly(scenario: Scenario) -> tuple[set[World], set[tuple[World, World]]]:
    """All worlds and steps, without packing, differences or views."""
    steps = Steps(scenario)
    ahead = [steps.start()]
    seen, edges = set(ahead), set()
    while ahead:
        world = ahead.pop()
        for there in onward(steps, world):
            if there != world:
                edges.add((world, there))
            if there not in seen:
                seen.add(there)
                ahead.append(there)
    return seen, edges


def onward(steps: Steps, world: World) -> Iterator[World]:
    wire = steps.wire
    p, s, forward, back, facts, _ = world
    for step in steps.of_side(Side.PRIMARY, p, forward.outgoing, back.incoming, facts):
        yield world._replace(
            primary=step.own, forward=step.put.on(forward, wire), back=step.take.on(back), facts=step.facts
        )
    for step in steps.of_side(Side.SECONDARY, s, back.outgoing, forward.incoming, facts):
        yield world._replace(
            secondary=step.own,
            back=step.put.on(back, wire),
            forward=step.take.on(forward),
            facts=step.facts,
        )
    for each in around(world, steps.scenario):
        yield each.world


@pytest.mark.parametrize(
    "name", ["no-faults", "plain-all-breaks", "claim", "claim-disturbed", "patch-all-breaks"]
)
def test_it_finds_what_the_plainest_search_finds(name: str) -> None:
    seen, _ = plainly(documented(name).scenario)
    assert explored(name).states == len(seen)


def test_it_takes_the_steps_that_the_plainest_search_takes() -> None:
    scenario = documented("claim").scenario
    seen, edges = plainly(scenario)
    space = Space(scenario)
    taken = {
        (world, space.unpack(there))
        for world in seen
        for *_, there in space.successors(space.pack(world))
        if space.unpack(there) != world
    }
    assert taken == edges


# -- counterexamples ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "which"), FAILING)
def test_a_counterexample_can_be_walked(name: str, which: Property) -> None:
    """From the start, each step leads to the next world, and the last one breaks the property."""
    result = explored(name)
    trail = result.broken[which]
    steps = Steps(result.scenario)
    assert trail.worlds[0] == steps.start()
    for here, there in zip(trail.worlds, trail.worlds[1:], strict=False):
        assert there in set(onward(steps, here))
    assert which in getattr(trail.steps[-1][1], "broken", ())


def test_a_counterexample_is_a_shortest_one() -> None:
    """No world that is nearer to the start has a step that breaks it."""
    result = explored("plain-link")
    steps, trail = Steps(result.scenario), result.broken[Property.NO_SPLIT]
    level, seen = [steps.start()], {steps.start()}
    for _ in range(len(trail.steps) - 1):
        for world in level:
            assert not breaks(steps, world, Property.NO_SPLIT)
        level = [there for world in level for there in onward(steps, world) if there not in seen]
        seen.update(level)
    assert any(breaks(steps, world, Property.NO_SPLIT) for world in level)


def breaks(steps: Steps, world: World, which: Property) -> bool:
    p, s, forward, back, facts, _ = world
    of_primary = steps.of_side(Side.PRIMARY, p, forward.outgoing, back.incoming, facts)
    of_secondary = steps.of_side(Side.SECONDARY, s, back.outgoing, forward.incoming, facts)
    return any(which in step.broken for step in (*of_primary, *of_secondary))


# -- limits ------------------------------------------------------------------------------------------


def test_a_system_that_is_too_large_proves_nothing() -> None:
    with pytest.raises(TooLarge, match="more than 100 states: raise the limit, or narrow the scenario"):
        explore(documented("claim").scenario, limit=100)


def test_a_row_that_sends_more_than_fits_proves_nothing() -> None:
    request = Send(M.CHECKPOINT_REQUEST)
    scenario = changed(
        documented("no-faults").scenario,
        Side.PRIMARY,
        at(State.READY, begin.checkpoint),
        lambda row: attrs.evolve(row, effects=(request,) * 4),
    )
    with pytest.raises(TooLarge, match="the primary sends more than 3 things in one step"):
        explore(scenario)


def test_what_a_table_starts_with_is_looked_at_too() -> None:
    scenario = documented("no-faults").scenario
    table = complete(TABLES[Side.PRIMARY], scenario.variant)
    eager = attrs.evolve(table, start=(Do.resume, *table.start))
    result = explore(attrs.evolve(scenario, tables={Side.PRIMARY: eager}))
    assert result.broken[Property.CLAIMED].steps == ()


def test_it_may_stop_at_the_first_thing_that_is_wrong() -> None:
    whole = explored("plain-all-breaks")
    first = explore(whole.scenario, stop_at_first=True)
    assert len(first.broken) == 1
    assert first.states < whole.states


def test_more_faults_never_make_fewer_states() -> None:
    few = Scenario(faults=frozenset({Strike.CRASH}))
    more = attrs.evolve(few, faults=few.faults | {Strike.CLOSED})
    assert explore(few).states < explore(more).states


# -- it is the production code that is explored ------------------------------------------------------


def test_a_bug_in_the_session_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the tables, not in the machine: the session alone forgets that the link has ended."""
    real = Session.fire

    def forgets(self: Session, trigger: Trigger, cause: BaseException | None = None) -> Effects:
        return () if trigger == fault(Fault.EOF) else real(self, trigger, cause)

    monkeypatch.setattr(Session, "fire", forgets)
    broken = explore(documented("claim").scenario).broken
    assert {Property.FAILOVER, Property.SETTLES} <= set(broken)
