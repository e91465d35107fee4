"""What the mutation check has found: lines for people, JSON for machines, the page docs/mutants.md.

`python -m colo_fsm.check.mutation.report docs/mutants.md` judges all mutants and writes the page.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from colo_fsm.colo import COLOMessage, ReleaseOn, State, Variant
from colo_fsm.fsm import Fault, fault, recv

from .equivalence import EQUIVALENT, Outcome
from .judge import VARIANTS, Report, Verdict, check
from .mutants import REST, Slip

COLUMNS = (
    ("killed", Outcome.KILLED),
    ("never asked", Outcome.UNASKED),
    ("same answer", Outcome.ANSWERED),
    ("same steps", Outcome.SAME),
    ("alike", Outcome.ALIKE),
    ("survived", Outcome.SURVIVED),
)

WHY = {
    Outcome.UNASKED: "No session is ever made to look at the row: its input cannot come in that state. Every"
    " mutant of these rows.",
    Outcome.ANSWERED: "The row is looked at, but the session refuses the input before it fires: an order that"
    " is not in order, or a message whose turn does not come.",
    Outcome.SAME: "The session asks for other effects, and wherever it does the steps are the same by value:"
    " effects that need no waiting happen in one step, and some have nothing to do where they stand.",
    Outcome.ALIKE: "The two graphs are bisimilar. They differ in effects that are still to do and change"
    " nothing: a stopped guest is suspended, or they stand behind a claim, whose answer ends the row.",
}


# -- for people -------------------------------------------------------------------------------------


def table(report: Report) -> list[tuple[str, ...]]:
    """Kinds of slip by outcome, the head first and the sum last."""
    rows = [("slip", "mutants", *(name for name, _ in COLUMNS))]
    for slip in Slip:
        counts = [report.count(outcome, slip=slip) for _, outcome in COLUMNS]
        rows.append((slip, f"{sum(counts):,}", *(f"{n:,}" for n in counts)))
    counts = [report.count(outcome) for _, outcome in COLUMNS]
    rows.append(("all", f"{sum(counts):,}", *(f"{n:,}" for n in counts)))
    return rows


def killers(report: Report) -> list[tuple[str, int]]:
    """How many mutants each property was the first to kill."""
    counts = Counter(str(v.judged.by) for v in report.verdicts if v.judged.by is not None)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def rate(report: Report) -> str:
    """The kill rate in words."""
    killed, left = report.count(Outcome.KILLED), len(report.survivors)
    equivalent = report.count(*EQUIVALENT)
    return (
        f"kill rate {report.kill_rate:.2%}: {killed:,} of the {killed + left:,} mutants that are not"
        f" equivalent ({equivalent:,} are)"
    )


def lines(report: Report) -> Iterator[str]:
    """The report as text."""
    rows = table(report)
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for name, *cells in rows:
        numbers = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield f"{name:<{widths[0]}}  {numbers}"
    yield ""
    if len(report.verdicts) < report.asked_for:
        yield f"a sample of {len(report.verdicts):,} out of {report.asked_for:,}"
    yield rate(report)
    yield "killed first by: " + ", ".join(f"{name} {count:,}" for name, count in killers(report))
    yield ""
    for policy in report.policies:
        how = f"killed by {policy.by} ({policy.probe})" if policy.by else "SURVIVED"
        yield f"policy {policy.policy}, {policy.variant}: {how}"
    for verdict in report.survivors:
        yield f"SURVIVED {verdict.slip}: {verdict}"
    yield ""
    for outcome in EQUIVALENT:
        yield f"equivalent, {outcome}: {report.count(outcome):,}"
        yield from (f"  {line}" for line in equivalents(report, outcome))
    yield f"{report.seconds:.0f} s"


def equivalents(report: Report, outcome: Outcome) -> list[str]:
    """The equivalent mutants of this kind, all of them, in as few lines as will do."""
    found = [v for v in report.verdicts if v.outcome is outcome]
    judged = frozenset(v.variant for v in report.verdicts)
    if outcome is Outcome.UNASKED:
        sides = sorted({v.side for v in found})
        return [f"{side}, {place}" for side in sides for place in _places(found, judged, side)]
    slips: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in found:
        slips[verdict.side, _slip(verdict)].append(verdict)
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (side, slip), verdicts in sorted(slips.items()):
        alike[side, "; ".join(_places(verdicts, judged, side))].append(slip)
    return [f"{side}, {' | '.join(these)} — {places}" for (side, places), these in alike.items()]


def _slip(verdict: Verdict) -> str:
    if verdict.slip is Slip.TARGET:
        return "another target" + ", as written" * verdict.what.endswith("as written")
    return verdict.what


def _places(verdicts: Iterable[Verdict], judged: frozenset[Variant], side: str) -> Iterator[str]:
    """A text a state: its inputs, each with the variants that it is about where those are not all."""
    states: dict[str, dict[str, set[Variant]]] = defaultdict(lambda: defaultdict(set))
    for verdict in verdicts:
        if verdict.side == side:
            states[verdict.source][verdict.trigger].add(verdict.variant)
    for state in sorted(states, key=_rank):
        inputs: dict[str, list[str]] = defaultdict(list)
        for trigger, variants in states[state].items():
            inputs[_which(frozenset(variants), judged)].append(trigger)
        texts = (
            ", ".join(_words(triggers)) + (f" ({which})" if which else "")
            for which, triggers in sorted(inputs.items())
        )
        yield f"{state}: {', '.join(texts)}"


def _words(triggers: list[str]) -> list[str]:
    """The inputs in words, those of a kind together."""
    left = dict.fromkeys(sorted(triggers))
    found = []
    for every, kind in (("every message", COLOMessage), ("every fault", Fault)):
        names = {str(recv(x) if isinstance(x, COLOMessage) else fault(x)) for x in kind}
        if names <= left.keys():
            found.append(every)
            left = {name: None for name in left if name not in names}
    return found + [_word(name) for name in left if name != REST] + [REST] * (REST in left)


def _word(trigger: str) -> str:
    """An input in the words of the pictures."""
    kind, _, name = trigger.partition("_")
    if kind == "recv":
        return name.replace("_", "-")
    name = name.replace("_", " ")
    return {"done": f"{name} done", "fault": name, "begin": name}.get(kind, trigger)


def _which(variants: frozenset[Variant], judged: frozenset[Variant]) -> str:
    """A word for these variants; "" for all, where those that release on received have few rows."""
    most = frozenset(v for v in judged if v.release_on is ReleaseOn.LOADED) or judged
    if variants >= most:
        return ""
    parts = dict.fromkeys(part for v in VARIANTS for part in (v.profile, v.mode, v.release_on))
    for part in parts:
        if variants == frozenset(v for v in judged if part in v) & (
            judged if isinstance(part, ReleaseOn) else most
        ):
            return str(part)
    return " ".join(sorted(f"{v.profile}/{v.mode}" if v in most else str(v) for v in variants))


def _rank(state: str) -> int:
    order = list(map(str, State))
    return order.index(state) if state in order else len(order)


# -- for machines -----------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """All of it, each mutant that is not killed by name."""
    return {
        "ok": report.ok,
        "mutants": len(report.verdicts),
        "of": report.asked_for,
        "kill_rate": report.kill_rate,
        "seconds": round(report.seconds, 1),
        "slips": {
            slip: {str(outcome): report.count(outcome, slip=slip) for outcome in Outcome} for slip in Slip
        },
        "killed_first_by": dict(killers(report)),
        "policies": [
            {"policy": p.policy, "variant": str(p.variant), "by": p.by, "probe": p.probe}
            for p in report.policies
        ],
        "not_killed": [
            {
                "variant": str(v.variant), "side": v.side, "slip": v.slip, "state": v.source,
                "input": v.trigger, "what": v.what, "outcome": v.outcome,
            }
            for v in report.verdicts
            if v.outcome is not Outcome.KILLED
        ],
    }  # fmt: skip


# -- for the docs -----------------------------------------------------------------------------------

PAGE = """\
# Would the checks notice a wrong table?

Generated by `python -m colo_fsm.check.mutation.report docs/mutants.md`. Do not edit.

`colo-fsm mutants` makes every table with one slip in it, explores both machines, and looks whether a
[property](verification.md) breaks. A mutant that none breaks must be *equivalent*: the same reachable graph.
That is checked for each, not argued.

- **Every row of the complete tables** is mutated, implied rows too (the error transition of one state and
  one input), and each state's implied rows all at once: dropped; to each other state; its effects in every
  other order; each effect missing; the input ignored. Also each effect of the start is missing once.
- A mutated row stays as much in order as it was. A message, an order or a completion is also tried *as
  written*: the slip is a row that somebody wrote down, so the session awaits it.
- **Every variant that releases on `loaded`**; of those that release on `received`, the rows that differ.
- **Four probes**, each with all of the one before: nothing goes wrong; everything breaks; the wire disturbs;
  messages are forged. One disturbance in one run. What fails there with the sound tables too (see
  [what fails](verification.md#what-fails)) kills only by a step that breaks it where theirs do not.

## The result

{table}

{rate}.

First killed by: {killers}.

## Drivers that break their promise

The tables are sound, the driver is not: packets leave early, half a checkpoint is loaded (in `patch` none
ever arrives: a state comes with its message), a claim is skipped or answered from memory.

{policies}

## The equivalent ones
"""


def markdown(report: Report) -> str:
    """The page docs/mutants.md."""
    head, *rows = table(report)
    page = PAGE.format(
        table=_markdown_table(head, rows, "|---|" + "---:|" * (len(head) - 1)),
        rate=f"K{rate(report)[1:]}",
        killers=", ".join(f"`{name}` {count:,}" for name, count in killers(report)),
        policies=_markdown_table(("policy", "variant", "killed by"), _policies(report), "|---|---|---|"),
    )
    for outcome in EQUIVALENT:
        page += f"\n### {str(outcome).capitalize()}: {report.count(outcome):,}\n\n{WHY[outcome]}\n\n"
        page += "".join(f"- {line}\n" for line in equivalents(report, outcome))
    return page


def _policies(report: Report) -> list[tuple[str, ...]]:
    return [
        (f"`{p.policy}`", str(p.variant), f"`{p.by}` ({p.probe})" if p.by else "SURVIVED")
        for p in report.policies
    ]


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], rule: str) -> str:
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def main(arguments: Sequence[str]) -> int:
    """Write the page. The exit status is 1 where something has survived."""
    (path,) = arguments
    report = check(progress=lambda text: print(text, file=sys.stderr, flush=True))
    Path(path).write_text(markdown(report))
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
