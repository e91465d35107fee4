"""What came of runs, as lines for people and as data for machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .case import Case, Line, Result
from .run import Judged, Outcome, Run

_WIDTH = max(map(len, Outcome))
_HEAD = 11


def said(outcome: Outcome) -> str:
    """The outcome as it stands before an ID: loud, where it fails a run."""
    return outcome if outcome.ok else outcome.upper()


def details(judged: Judged, alone: str) -> Iterator[str]:
    """Everything about a case that fails a run. `alone` is the command that runs only this one."""
    result = judged.result
    yield f"{said(judged.outcome)} {result.case.id}"
    yield from _part("must", [result.case.must])
    yield from _part("source", [result.case.source])
    if judged.outcome is Outcome.INCONCLUSIVE:
        yield from _part("at first", map(str, result.before))
    yield from _part("exchange", map(str, result.exchange))
    if result.deviation is not None:
        yield from _part("expected", [" or ".join(map(str, result.deviation.expected))])
        yield from _part("got", [result.deviation.got])
        yield from _part("row", [result.deviation.row])
    else:
        yield from _part("why", [judged.why])
    yield from _part("evidence", [result.evidence])
    yield from _part("alone", [alone])


def _part(head: str, lines: Iterable[str]) -> Iterator[str]:
    """Lines with a word before the first; nothing for one empty line."""
    for number, line in enumerate(lines):
        if line:
            yield f"  {'' if number else head:<{_HEAD}}{line}"


def line(judged: Judged, width: int = 0) -> str:
    """A case in one line."""
    return f"{said(judged.outcome):<{_WIDTH}}  {judged.result.case.id:<{width}}  {judged.why}".rstrip()


def kind(judged: Judged) -> tuple[str, ...]:
    """What is the same of cases that have one cause, as far as can be seen."""
    result = judged.result
    row = "" if result.deviation is None else result.deviation.row
    return judged.outcome, row, judged.why


def summary(run: Run) -> Iterator[str]:
    """The end of a report: a line for each case that fails the run, reasons of the others, and the totals."""
    loud = [each for each in run.judged if not each.outcome.ok]
    width = max((len(each.result.case.id) for each in loud), default=0)
    yield from _reasons(run.judged, Outcome.LENIENT)
    yield from _reasons(run.judged, Outcome.EXPECTED)
    yield from (line(each, width) for each in loud)
    yield from (f"{said(Outcome.SURPRISE):<{_WIDTH}}  {text}" for text in run.gone)
    if run.broken is not None:
        behind = f"behind {run.judged[-1].result.case.id}: " if run.judged else ""
        yield f"{'CANNOT TEST':<{_WIDTH}}  {behind}{run.broken}"
    yield f"{run.name}: {totals(run)}"


def _reasons(judged: Sequence[Judged], outcome: Outcome) -> Iterator[str]:
    """A line a reason, with the cases that have it."""
    found: dict[str, list[str]] = {}
    for each in judged:
        if each.outcome is outcome:
            found.setdefault(each.why, []).append(each.result.case.id)
    for why, ids in found.items():
        which = ids[0] if len(ids) == 1 else f"{len(ids)} cases"
        yield f"{outcome:<{_WIDTH}}  {which}: {why}"


def totals(run: Run) -> str:
    """The counts of a run in a few words."""
    cases = len(run.judged)
    counts = ", ".join(_counted(count, outcome) for outcome, count in run.totals.items()) or "nothing played"
    return f"{cases} case{'s' * (cases != 1)} in {run.seconds:.1f} s: {counts}"


def _counted(count: int, outcome: Outcome) -> str:
    many = {Outcome.EXPECTED: "s", Outcome.SURPRISE: "es"}.get(outcome, "") * (count != 1)
    return f"{count} {outcome}{many}"


def matrix(runs: Sequence[Run]) -> Iterator[str]:
    """Cases down, targets across: where they differ or one fails the run, and the totals."""
    found = [{each.result.case.id: each.outcome for each in run.judged} for run in runs]
    rows = [("", [str(number) for number in range(1, len(runs) + 1)])]
    for id in dict.fromkeys(each.result.case.id for run in runs for each in run.judged):
        outcomes = [one.get(id) for one in found]
        played = {outcome for outcome in outcomes if outcome is not None}
        if len(played) > 1 or not all(outcome.ok for outcome in played):
            rows.append((id, ["-" if outcome is None else said(outcome) for outcome in outcomes]))
    for outcome in Outcome:
        if any(outcome in run.totals for run in runs):
            rows.append((outcome, [str(run.totals.get(outcome, 0)) for run in runs]))
    first = max(len(head) for head, _ in rows)
    width = max(len(word) for _, words in rows for word in words)
    for number, run in enumerate(runs, 1):
        yield f"{number}  {run.name}{'' if run.broken is None else ': cannot be tested'}"
    yield ""
    for head, words in rows:
        yield f"{head:<{first}}  {'  '.join(f'{word:<{width}}' for word in words)}".rstrip()


def listed(cases: Sequence[Case]) -> Iterator[str]:
    """A line a case: its ID and what the side must do."""
    width = max((len(case.id) for case in cases), default=0)
    yield from (f"{case.id:<{width}}  {case.must}" for case in cases)


# -- for machines -------------------------------------------------------------------------------


def case_as_json(case: Case) -> dict[str, Any]:
    """A case: see docs/output.md."""
    return {
        "id": case.id,
        "must": case.must,
        "source": case.source,
        "strict": case.strict,
        "script": list(case.script()),
    }


def as_json(runs: Sequence[Run]) -> dict[str, Any]:
    """All of them: see docs/output.md."""
    return {"targets": [_run(run) for run in runs], "ok": not any(run.failed or run.broken for run in runs)}


def _run(run: Run) -> dict[str, Any]:
    return {
        "target": run.text,
        "name": run.name,
        "seconds": round(run.seconds, 3),
        "totals": {str(outcome): count for outcome, count in run.totals.items()},
        "gone": list(run.gone),
        "broken": run.broken,
        "cases": [case_as_json(each.result.case) | _judged(each) for each in run.judged],
    }


def _judged(judged: Judged) -> dict[str, Any]:
    result = judged.result
    return {
        "outcome": judged.outcome,
        "why": judged.why,
        "seconds": round(result.seconds, 3),
        "deviation": _deviation(result),
        "exchange": _exchange(result.exchange),
        "before": _exchange(result.before),
        "evidence": result.evidence,
    }


def _deviation(result: Result) -> dict[str, Any] | None:
    found = result.deviation
    if found is None:
        return None
    expected = [str(output) for output in found.expected]
    return {"step": found.step, "expected": expected, "got": found.got, "row": found.row}


def _exchange(lines: tuple[Line, ...]) -> list[dict[str, Any]]:
    return [{"at": round(each.at, 6), "way": each.way, "text": each.text} for each in lines]
