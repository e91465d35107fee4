"""The mutation check: the mutants are those that it says, its verdicts are right, and none survives."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

import colo_fsm.cli.mutants as command
from colo_fsm.check import Policy, Property, Scenario, explore
from colo_fsm.check.model.steps import Steps
from colo_fsm.check.mutation.equivalence import EQUIVALENT, PROBES, WIDEST, Court, Judged, Outcome
from colo_fsm.check.mutation.judge import VARIANTS, Report, candidates, check
from colo_fsm.check.mutation.mutants import REST, Mutant, Slip, mutants
from colo_fsm.check.mutation.mutated import Asking, Difference, Machines, Mutated
from colo_fsm.check.mutation.report import as_json, equivalents, lines, markdown, table
from colo_fsm.colo import TABLES, COLOMessage, Mode, Profile, ReleaseOn, State, Variant
from colo_fsm.fsm import CompleteTable, Do, Fault, Row, Side, complete, done, recv

PAGE = Path(__file__).parent.parent / "docs" / "mutants.md"
USUAL = Variant(release_on=ReleaseOn.LOADED)
HYBRID = Variant(mode=Mode.HYBRID, release_on=ReleaseOn.LOADED)


def published(side: Side, variant: Variant = USUAL) -> CompleteTable:
    return complete(TABLES[side], variant)


@cache
def court(variant: Variant = USUAL) -> Court:
    return Court(variant)


@cache
def all_of(side: Side, variant: Variant = USUAL) -> tuple[Mutant, ...]:
    return tuple(mutants(published(side, variant)))


def the(side: Side, source: str, trigger: str, what: str, variant: Variant = USUAL) -> Mutant:
    found = [m for m in all_of(side, variant) if (m.source, m.trigger, m.what) == (source, trigger, what)]
    assert len(found) == 1, [str(m) for m in all_of(side, variant) if m.source == source]
    return found[0]


@cache
def sampled() -> Report:
    return check(sample=500, jobs=1, variants=(USUAL,))


# -- what is made -----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", Side)
def test_a_mutant_differs_in_the_rows_that_it_names_and_no_two_are_the_same(side: Side) -> None:
    sound = published(side)
    seen = set()
    for mutant in all_of(side):
        rows, same = mutant.table.rows, sound.rows
        assert (mutant.table.start == sound.start) is (mutant.source != "start")
        if mutant.table.triggers == sound.triggers:
            differs = tuple((a, b) for a, b in zip(same, rows, strict=True) if a != b)
            assert differs == tuple(zip(mutant.was, mutant.now, strict=True))
        seen.add((mutant.source, mutant.trigger, mutant.what))
    assert len(seen) == len(all_of(side))


@pytest.mark.parametrize("side", Side)
def test_every_row_is_mutated_in_every_way(side: Side) -> None:
    table = published(side)
    made = Counter((m.source, m.trigger, m.slip) for m in all_of(side) if m.what.find("written") < 0)
    for row in table.rows:
        at = (str(row.source), str(row.trigger))
        orders = {0: 0, 1: 0, 2: 1, 3: 5, 4: 23}
        assert made[*at, Slip.TARGET] == len(table.states) - 1
        assert made[*at, Slip.ORDER] == orders[len(row.effects)]
        assert made[*at, Slip.EFFECT] == len(row.effects)
        assert bool(made[*at, Slip.IGNORED]) is (row.dest is not None)
        assert bool(made[*at, Slip.DROPPED]) is not row.implied


def test_a_dropped_row_does_what_its_state_does_otherwise() -> None:
    (row,) = the(Side.SECONDARY, "received", "done_load", "dropped").now
    assert row == Row(State.RECEIVED, done(Do.load), State.FINISHING, (Do.load,), implied=True)
    (row,) = the(Side.PRIMARY, "requested", "recv_checkpoint_reply", "dropped").now
    error = (Do.disconnect, Do.suspend, Do.claim)
    assert row == Row(
        State.REQUESTED, recv(COLOMessage.CHECKPOINT_REPLY), State.FAILOVER, error, implied=True
    )
    unknown = the(Side.PRIMARY, "replied", "done_save", "dropped, and not reported")
    assert "save" not in unknown.table.awaited


def test_an_ignored_message_is_tried_in_order_and_out_of_it() -> None:
    kept = the(Side.PRIMARY, "sized", "recv_vmstate_loaded", "ignored")
    assert kept.now == (Row(State.SIZED, recv(COLOMessage.VMSTATE_LOADED), None, implied=True),)
    written = the(Side.PRIMARY, "sized", "recv_vmstate_loaded", "ignored, as written")
    assert COLOMessage.VMSTATE_LOADED in written.table.accepts[State.SIZED]
    deaf = the(Side.PRIMARY, "sized", "recv_vmstate_received", "ignored, and not awaited")
    assert deaf.table.accepts[State.SIZED] == frozenset()


def test_a_variant_that_releases_on_received_adds_the_rows_that_differ() -> None:
    rows = {(m.source, m.trigger) for m in candidates(Variant())}
    assert rows == {("sized", "recv_vmstate_received"), ("received", "recv_vmstate_loaded")}


# -- single verdicts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mutant", "outcome"),
    [
        ((Side.PRIMARY, "ready", "won", "ignored"), Outcome.UNASKED),
        ((Side.SECONDARY, "ready", "begin_checkpoint", "to loaded"), Outcome.ANSWERED),
        ((Side.PRIMARY, "loaded", "fault_eof", "suspend, disconnect, claim"), Outcome.SAME),
        ((Side.SECONDARY, "loaded", "fault_timeout", "no suspend"), Outcome.ALIKE),
        ((Side.PRIMARY, "received", "fault_guest_failed", "disconnect, claim, suspend"), Outcome.ALIKE),
        ((Side.SECONDARY, "loaded", "fault_timeout", "no suspend", HYBRID), Outcome.KILLED),
        ((Side.SECONDARY, "finishing", "fault_guest_failed", "no suspend", HYBRID), Outcome.ALIKE),
        ((Side.SECONDARY, "loaded", "begin_leave", "disconnect, discard, suspend", HYBRID), Outcome.KILLED),
        ((Side.PRIMARY, "loaded", "fault_eof", "disconnect, claim, suspend"), Outcome.KILLED),
        ((Side.SECONDARY, "sized", "done_store", "load, send vmstate-received"), Outcome.KILLED),
        ((Side.SECONDARY, "start", "start", "no receive_initial"), Outcome.KILLED),
        ((Side.SECONDARY, "finishing", REST, "to failover"), Outcome.KILLED),
    ],
    ids=lambda value: " ".join(map(str, value[1:4])) if isinstance(value, tuple) else str(value),
)
def test_known_equivalents_are_recognised_and_others_are_not(
    mutant: tuple[Side, str, str, str], outcome: Outcome
) -> None:
    made = the(*mutant)
    assert court(made.variant).judge(made).outcome is outcome


@pytest.mark.parametrize(
    ("mutant", "by"),
    [
        ((Side.PRIMARY, "failover", "won", "no release_all"), Property.ORDERLY),
        ((Side.PRIMARY, "received", "recv_vmstate_loaded", "no release"), Property.PROGRESS),
        ((Side.SECONDARY, "requested", "done_suspend", "dropped, and not reported"), Property.PROGRESS),
        ((Side.PRIMARY, "ready", "fault_eof", "ignored"), Property.FAILOVER),
        ((Side.PRIMARY, "loaded", "recv_vmstate_loaded", "ignored"), Property.FAILOVER),
        ((Side.SECONDARY, "failover", "lost", "to alone"), Property.CLAIMED),
    ],
    ids=lambda value: " ".join(map(str, value[1:4])) if isinstance(value, tuple) else str(value),
)
def test_what_kills_a_mutant(mutant: tuple[Side, str, str, str], by: Property) -> None:
    judged = court().judge(the(*mutant))
    assert (judged.outcome, judged.by) == (Outcome.KILLED, by)


# -- the short cuts ---------------------------------------------------------------------------------


def some(count: int) -> list[Mutant]:
    """Mutants of all kinds, far from each other."""
    made = [mutant for side in Side for mutant in all_of(side)]
    return made[:: len(made) // count]


def test_nothing_else_is_answered_otherwise() -> None:
    steps, machines = Steps(Scenario(variant=USUAL)), Machines()
    for mutant in some(60):
        sound = Asking(steps.control[mutant.side])
        _ask_everything(sound)
        where = Difference.of(sound.table, mutant)
        plain = Mutated(
            sound,
            mutant.table,
            machines.of(mutant.table),
            Difference(frozenset(), frozenset(sound.table.states)),
        )
        for state, key in plain.changed():
            triggers = [
                trigger for (at, trigger), keys in sound.questions.items() if at is state and key in keys
            ]
            assert state in where.states or all(where.has(state, trigger) for trigger in triggers), str(
                mutant
            )


def _ask_everything(control: Asking) -> None:
    for state in control.table.states:
        for value in range(8):
            control.read(state, value)
        control.end_of_link(state)
        control.begin_checkpoint(state)
        control.leave(state)
        for granted in (True, False):
            control.claimed(state, granted)
        for kind in Fault:
            control.fault(state, kind)
        for effect in control.table.awaited:
            control.done(state, Do(effect))


def test_what_can_be_seen_in_a_probe_can_be_seen_in_the_widest() -> None:
    widest = _sights(WIDEST)
    for name in PROBES:
        assert _sights(name) <= widest


def _sights(name: str) -> set[object]:
    probe = court().probe(name)
    found: set[object] = set()
    for (side, own), worlds in probe.views.items():
        for world in map(probe.space.unpack, worlds):
            ways = (world.forward, world.back) if side is Side.PRIMARY else (world.back, world.forward)
            found.add((side, own, ways[0].outgoing, ways[1].incoming, world.facts))
    return found


@pytest.mark.timeout(400)
def test_verdicts_are_those_of_a_search_from_the_beginning() -> None:
    breaks = Scenario("breaks", USUAL, faults=PROBES["breaks"])
    sound = explore(breaks)
    seen: Counter[Outcome] = Counter()
    for mutant in some(400):
        judged = court().judge(mutant)
        seen[judged.outcome] += 1
        if seen[judged.outcome] > (4 if judged.probe == WIDEST else 8):
            continue
        where = judged.probe or "breaks"
        scenario = Scenario(where, USUAL, faults=PROBES[where], tables={mutant.side: mutant.table})
        found = explore(scenario, stop_at_first=judged.outcome is Outcome.KILLED)
        if judged.outcome is Outcome.KILLED:
            assert found.broken, str(mutant)
        else:
            assert not found.broken, str(mutant)
        if judged.outcome in (Outcome.UNASKED, Outcome.ANSWERED, Outcome.SAME):
            assert (found.states, found.transitions) == (sound.states, sound.transitions), str(mutant)
    assert set(seen) == {Outcome.KILLED, *EQUIVALENT}


# -- all of them ------------------------------------------------------------------------------------


def test_no_mutant_of_a_sample_survives() -> None:
    report = sampled()
    assert list(map(str, report.survivors)) == []
    assert report.ok
    assert report.kill_rate == 1
    assert 400 < len(report.verdicts) < 600
    assert report.count(Outcome.KILLED) > 150


def test_the_sample_is_always_the_same() -> None:
    again = check(sample=50, jobs=1, variants=(USUAL,))
    assert {str(v) for v in again.verdicts} <= {str(v) for v in sampled().verdicts}


def test_with_fewer_properties_mutants_survive() -> None:
    safety = frozenset({Property.NO_SPLIT, Property.OUTPUT_COMMIT, Property.TAKEOVER})
    report = check(sample=12, jobs=1, variants=(USUAL,), properties=safety)
    assert len(report.survivors) > 2
    assert not report.ok
    assert report.kill_rate < 0.9
    assert any(line.startswith("SURVIVED") for line in lines(report))


def test_policies_are_killed_by_what_they_are_about() -> None:
    killed = {p.policy: (p.by, p.probe) for p in sampled().policies}
    assert killed.keys() == set(Policy) - {Policy.SOUND}
    assert killed[Policy.RELEASE_EARLY] == (Property.OUTPUT_COMMIT, "no-faults")
    assert killed[Policy.LOAD_HALF] == (Property.FIT_CLAIM, "breaks")
    assert killed[Policy.CLAIM_SKIPPED] == (Property.NO_SPLIT, "breaks")
    assert killed[Policy.CACHED_CLAIM] == (Property.NO_SPLIT, "breaks")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_mutant_survives_and_the_page_says_so() -> None:
    report = check()
    assert list(map(str, report.survivors)) == []
    assert report.ok
    assert markdown(report) == PAGE.read_text(), "python -m colo_fsm.check.mutation.report docs/mutants.md"


# -- what is said -----------------------------------------------------------------------------------


def test_the_page_counts_the_mutants_that_there_are() -> None:
    """The cheap half of its freshness; the test above judges all of them."""
    slips = Counter(str(mutant.slip) for variant in VARIANTS for mutant in candidates(variant))
    counted = dict.fromkeys(slips, 0)
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in counted:
            counted[cells[0]] = int(cells[1].replace(",", ""))
    assert counted == slips
    assert "SURVIVED" not in PAGE.read_text()


def test_the_report_adds_up() -> None:
    report = sampled()
    _, *rows, total = table(report)
    numbers = [[int(cell.replace(",", "")) for cell in row[1:]] for row in rows]
    assert [sum(column) for column in zip(*numbers, strict=True)] == [
        int(cell.replace(",", "")) for cell in total[1:]
    ]
    assert all(row[0] == sum(row[1:]) for row in numbers)
    text = "\n".join(lines(report))
    assert f"kill rate 100.00%: {report.count(Outcome.KILLED):,} of the" in text
    assert f"out of {report.asked_for:,}" in text
    data = as_json(report)
    assert json.loads(json.dumps(data)) == data
    assert len(data["not_killed"]) == report.count(*EQUIVALENT)
    assert sum(data["killed_first_by"].values()) == report.count(Outcome.KILLED)


def test_every_equivalent_is_in_the_list() -> None:
    for outcome in EQUIVALENT:
        listed = equivalents(sampled(), outcome)
        for verdict in (v for v in sampled().verdicts if v.outcome is outcome):
            word = verdict.trigger.partition("_")[2].replace("_", "-")
            assert any(
                line.startswith(verdict.side)
                and f"{verdict.source}: " in line
                and (word in line.replace(" ", "-") or "every" in line)
                for line in listed
            ), str(verdict)


# -- the command ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "status"), [(Outcome.KILLED, 0), (Outcome.SURVIVED, 1)])
def test_the_exit_status(monkeypatch: pytest.MonkeyPatch, outcome: Outcome, status: int) -> None:
    asked: dict[str, object] = {}

    def made_up(*, sample: int | None, jobs: int | None, progress: Callable[[str], object]) -> Report:
        asked.update(sample=sample, jobs=jobs)
        progress("never seen")
        verdict = attrs.evolve(sampled().verdicts[0], judged=Judged(outcome, Property.WHOLE, "breaks"))
        return attrs.evolve(sampled(), verdicts=(verdict,))

    monkeypatch.setattr(command, "check", made_up)
    result = CliRunner().invoke(command.mutants, ["--json", "--sample", "20", "--jobs", "3"])
    assert asked == {"sample": 20, "jobs": 3}
    assert result.exit_code == status, result.output
    assert json.loads(result.output)["ok"] is (status == 0)
    result = CliRunner().invoke(command.mutants)
    assert result.exit_code == status
    assert ("SURVIVED" in result.output) is (status == 1)


def test_bad_usage() -> None:
    assert CliRunner().invoke(command.mutants, ["--sample", "0"]).exit_code == 2
    result = CliRunner().invoke(command.mutants, ["--help"])
    assert "colo-fsm mutants --sample 1000" in result.output
    assert "Exit status" in result.output


def test_workers_find_what_one_process_finds() -> None:
    variants = [Variant(Profile.PATCH, release_on=each) for each in ReleaseOn]
    one, two = (check(sample=40, jobs=jobs, variants=variants) for jobs in (1, 2))
    assert one.verdicts == two.verdicts
    assert one.policies == two.policies
