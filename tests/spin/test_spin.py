"""SPIN's opinion of the explorer: the same number of states, the same verdicts, on every small scenario."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import attrs
import pytest
from systems import explored

from colo_fsm.check import MATRIX, Policy, Result, Scenario, Strike, documented, explore, moments
from colo_fsm.check import Property as P
from colo_fsm.check.model.world import NEVER, Channel, MaybeDead, World
from colo_fsm.colo import COLOMessage, ReleaseOn, State, Variant
from colo_fsm.fsm import CompleteTable, Do, Effect, Row, Send, Side, Trigger, done, lost, recv

from .model import export

LARGEST = {"two-injected-loaded", "hybrid-everything-loaded", "two-disturbed", "two-disturbed-loaded"}
"""Up to minutes of SPIN's time, for `make soak`; of this size `everything-loaded` stays."""

WORTH_OPTIMISING = 20_000
"""From so many states on a faster verifier saves more time than its compilation takes."""

THE_EMPTY_ONE = 1
"""SPIN stores the moment before the start, which is no moment of the system."""

needs_spin = pytest.mark.skipif(
    shutil.which("spin") is None or shutil.which("gcc") is None,
    reason="needs SPIN (Debian package `spin`) and gcc",
)


class Opinion(NamedTuple):
    states: int
    broken: frozenset[str]


NOT_ASKED = {P.UNEXPECTED, P.REACHED}
"""What SPIN does not look at: both are about rows, not about moments."""


def opinion_of(result: Result) -> Opinion:
    return Opinion(result.states, frozenset(map(str, result.broken.keys() - NOT_ASKED)))


def run(*command: str, cwd: Path) -> str:
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1000)
    assert ended.returncode == 0, f"{' '.join(command)}:\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    return ended.stdout


def search(model: str, where: Path, defines: tuple[str, ...], compiled: str, *options: str) -> str:
    """What a verifier says of the model when it has seen all of it."""
    where.mkdir()
    (where / "model.pml").write_text(model)
    run("spin", "-o2", *defines, "-a", "model.pml", cwd=where)
    run("gcc", *compiled.split(), "-w", "-DNOREDUCE", "-o", "pan", "pan.c", cwd=where)
    said = run("./pan", "-n", "-m100000", "-w20", *options, cwd=where)
    assert "max search depth too small" not in said
    assert "Search not completed" not in said
    return said


def errors(said: str) -> int:
    found = re.search(r"errors: (\d+)", said)
    assert found
    return int(found[1])


def spin_says(scenario: Scenario, where: Path, states: int) -> Opinion:
    """Both runs that the header of an export describes; `states`: about how many there will be."""
    model = export(scenario)
    fast = "-O1" if states > WORTH_OPTIMISING else "-O0"
    once = search(model, where / "once", (), f"{fast} -DSAFETY")
    assert errors(once) == 0
    stored = re.search(r"(\d+) states, stored", once)
    assert stored
    live = search(model, where / "live", ("-DLIVE",), f"{fast} -DNOFAIR", "-a", "-c0")
    broken = set(re.findall(r"^BROKEN (\S+)$", once + live, re.MULTILINE))
    if errors(live):
        broken.add(P.SETTLES)
    if "ROUND completed" not in live:
        broken.add(P.PROGRESS)
    return Opinion(int(stored[1]) - THE_EMPTY_ONE, frozenset(map(str, broken)))


# -- the matrix -------------------------------------------------------------------------------------


@needs_spin
@pytest.mark.parametrize("name", [each.name for each in MATRIX if each.name not in LARGEST])
def test_spin_agrees(name: str, tmp_path: Path) -> None:
    agrees(explored(name), tmp_path)


@needs_spin
@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", LARGEST)
def test_spin_agrees_on_the_largest(name: str, tmp_path: Path) -> None:
    agrees(explored(name), tmp_path)


def agrees(result: Result, tmp_path: Path) -> None:
    ours = opinion_of(result)
    assert spin_says(result.scenario, tmp_path, ours.states) == ours


FARTHER = {
    "a full wire": Scenario(faults=frozenset({Strike.DUPLICATE}), budget=4),
    "states of two rounds on the wire": Scenario(
        variant=Variant(release_on=ReleaseOn.LOADED),
        faults=frozenset({Strike.DUPLICATE, Strike.INJECT}),
        budget=2,
    ),
}
"""What no scenario of the matrix of that size comes to."""


@needs_spin
@pytest.mark.parametrize("name", FARTHER)
def test_spin_agrees_where_the_matrix_does_not_go(name: str, tmp_path: Path) -> None:
    agrees(explore(FARTHER[name]), tmp_path)


# -- state for state --------------------------------------------------------------------------------


def numbers(model: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^#define (\w+) (\d+)\b", model, re.MULTILINE)}


def as_bytes(world: World, number: Mapping[str, int]) -> bytes:
    """A world as the model has it."""

    def lag(value: int) -> int:
        return number["NEVER"] if value == NEVER else value

    def effect(what: Effect) -> int:
        return number["SEND"] + what.message if isinstance(what, Send) else number[what.name.upper()]

    def side(own: MaybeDead) -> list[int]:
        if own is None:
            return [number["DEAD"], *[0] * (number["TODO"] + 5)]
        todo = [effect(each) for each in own.todo] + [0] * (number["TODO"] - len(own.todo))
        return [number[own.state.name], *todo, own.half, own.connected, own.running, own.output, own.torn]

    def way(channel: Channel) -> list[int]:
        items = [part for item in channel.items for part in (item.value, lag(item.lag), item.sound)]
        return [len(channel.items), channel.end, *items, *[0] * (3 * number["ROOM"] - len(items))]

    facts = world.facts
    winner = 0 if facts.winner is None else 1 + list(Side).index(facts.winner)
    lags = lag(facts.released), lag(facts.stored), lag(facts.loaded), lag(facts.received)
    released, stored, loaded, received = lags
    return bytes(
        [
            *(*side(world.primary), *side(world.secondary), *way(world.forward), *way(world.back)),
            *(released, stored, facts.loadable, loaded, received, facts.intact),
            *(winner, facts.arbiter_up, facts.primary_alone, facts.secondary_alone),
            *(facts.comparing, facts.svm, facts.heard, lag(facts.sealed), world.budget),
        ]
    )


@needs_spin
@pytest.mark.parametrize("name", ["claim-damaged", "hybrid-all-breaks", "patch-disturbed", "gate-all-breaks"])
def test_the_states_are_the_same_ones(name: str, tmp_path: Path) -> None:
    scenario = documented(name).scenario
    model = export(scenario)
    number = numbers(model)
    said = search(model, tmp_path / "dump", ("-DDUMP",), "-O0 -DSAFETY")
    theirs = Counter(re.findall(r"^STATE (\w+)$", said, re.MULTILINE))
    assert max(theirs.values()) == 1
    assert theirs.keys() == {as_bytes(each, number).hex() for each in moments(scenario)}


# -- that they can disagree: seeded bugs ------------------------------------------------------------

Change = Callable[[Row], Row]


def mutant(scenario: Scenario, side: Side, change: Change) -> Scenario:
    """The scenario with the rows of one side changed."""
    table: CompleteTable = scenario.table(side)
    rows = tuple(map(change, table.rows))
    assert rows != table.rows, "a mutant that changes nothing"
    return attrs.evolve(scenario, tables={**(scenario.tables or {}), side: attrs.evolve(table, rows=rows)})


def without(effect: Effect, *, into: State | None = None) -> Change:
    def change(row: Row) -> Row:
        if into not in (None, row.dest):
            return row
        return attrs.evolve(row, effects=tuple(each for each in row.effects if each != effect))

    return change


def instead(source: State, trigger: Trigger, dest: State | None, *effects: Effect) -> Change:
    def change(row: Row) -> Row:
        here = row.source is source and row.trigger == trigger
        return attrs.evolve(row, dest=dest, effects=effects) if here else row

    return change


PRIMARY, SECONDARY = Side
CLAIM, CLAIM_ALL, DISTURBED, HYBRID, PATCH = (
    documented(name).scenario
    for name in ("claim", "claim-all-breaks", "claim-disturbed", "hybrid-all-breaks", "patch-all-breaks")
)
_ASKS = instead(State.REQUESTED, recv(COLOMessage.CHECKPOINT_REPLY), State.READY)
_REPLIES = instead(State.REQUESTED, done(Do.suspend), State.READY, Send(COLOMessage.CHECKPOINT_REPLY))

MUTANTS: dict[str, tuple[Scenario, set[P]]] = {
    "errors do not disconnect": (
        mutant(CLAIM_ALL, PRIMARY, without(Do.disconnect, into=State.FAILOVER)),
        {P.NO_DEADLOCK},
    ),
    "nothing is released": (mutant(PATCH, PRIMARY, without(Do.release)), {P.PROGRESS}),
    "the guest is not suspended": (mutant(HYBRID, SECONDARY, without(Do.suspend)), {P.CLAIMED, P.ORDERLY}),
    "a message is ignored": (
        mutant(DISTURBED, SECONDARY, instead(State.REPLIED, recv(COLOMessage.VMSTATE_SEND), None)),
        {P.FAILOVER, P.PROGRESS},
    ),
    "packets that wait are dropped": (
        mutant(CLAIM, PRIMARY, instead(State.REPLIED, done(Do.save), State.SENDING, Do.discard)),
        {P.ORDERLY},
    ),
    "who has lost asks again": (
        mutant(CLAIM_ALL, PRIMARY, instead(State.FAILOVER, lost, None, Do.claim)),
        {P.SETTLES},
    ),
    "an effect completes where nobody awaits it": (
        mutant(
            CLAIM_ALL,
            SECONDARY,
            instead(State.READY, recv(COLOMessage.CHECKPOINT_REQUEST), State.REQUESTED, Do.load, Do.suspend),
        ),
        set(),
    ),
    "request and reply for ever": (
        mutant(mutant(CLAIM, PRIMARY, _ASKS), SECONDARY, _REPLIES),
        {P.SETTLES, P.PROGRESS},
    ),
    **{
        f"policy {policy}": (attrs.evolve(scenario, policy=policy), broken)
        for policy, scenario, broken in (
            (Policy.RELEASE_EARLY, CLAIM_ALL, {P.OUTPUT_COMMIT}),
            (Policy.LOAD_HALF, DISTURBED, {P.WHOLE}),
            (Policy.CLAIM_SKIPPED, HYBRID, {P.NO_SPLIT}),
            (Policy.CACHED_CLAIM, PATCH, {P.NO_SPLIT}),
        )
    },
}
"""A scenario with something wrong in it, and some of what that breaks."""

AS_SOME_OTHER = {
    "nothing is released",
    "packets that wait are dropped",
    "request and reply for ever",
    f"policy {Policy.CACHED_CLAIM}",
}
"""What breaks properties that one of the others breaks, too: for `make soak`."""


@needs_spin
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.soak if name in AS_SOME_OTHER else ()) for name in MUTANTS],
)
def test_spin_agrees_on_what_is_wrong_too(name: str, tmp_path: Path) -> None:
    scenario, broken = MUTANTS[name]
    ours = opinion_of(explore(scenario))
    assert broken <= ours.broken
    theirs = spin_says(scenario, tmp_path, ours.states)
    assert theirs == ours
    sound = attrs.evolve(scenario, tables=None, policy=Policy.SOUND)
    assert theirs != opinion_of(explore(sound)), "nobody would notice a difference between the two"


# -- the text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [each.name for each in MATRIX])
def test_no_name_means_two_things(name: str) -> None:
    model = export(documented(name).scenario)
    names = re.findall(r"^\s*(?:#define|inline) (\w+)", model, re.MULTILINE)
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_an_export_is_deterministic_and_says_how_to_run_it() -> None:
    scenario = documented("everything-loaded").scenario
    assert export(scenario) == export(attrs.evolve(scenario))
    header = export(scenario).partition("*/")[0]
    assert str(scenario) in header
    for line in ("spin -o2 -a FILE", "gcc -O1 -DSAFETY -DNOREDUCE -o pan pan.c", "./pan -n -m100000"):
        assert line in header


def test_only_what_can_strike_is_in_it() -> None:
    quiet, loud = (export(documented(name).scenario) for name in ("no-faults", "everything-loaded"))
    for event in ("DIES", "CUTS", "FORGES", "LOSES_ANSWER"):
        assert f"event = EVENT({event}," not in quiet
        assert f"event = EVENT({event}," in loud
