"""Expected failures: where an implementation is known to deviate, each with one reason, in a TOML file.

    [[deviation]]
    rows = ["sized --recv_vmstate_request--> failover"]
    cases = ["colo/secondary/3.2"]
    reason = "It goes on, since version 7.2."

`rows` are rows of the table at which a case may deviate, `cases` are IDs, or how some begin and `*`. A case
that is named has to fail; of a row, and of what a `*` stands for, one case at least. Else the deviation is
gone, and the run fails until its entry is, too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import attrs

from .case import Result, Verdict
from .run import Judged, Outcome

KEYS = frozenset({"rows", "cases", "reason"})
SHIPPED = KEYS | {"versions"}
"""Of the file that ships: each entry says of which versions of QEMU it is known."""


class ExpectedError(ValueError):
    """A file says no expected failures. The text says where, and what to write."""


@attrs.frozen
class Known:
    """One entry: `rows` or `cases`, or both, and why. `versions`: where it ships, of which QEMUs."""

    rows: tuple[str, ...]
    cases: tuple[str, ...]
    reason: str
    versions: tuple[str, ...] = ()

    def names(self, id: str) -> bool:
        """Whether this very case has to fail."""
        return id in self.cases

    def covers(self, result: Result) -> bool:
        """Whether a case that has failed was to be expected to."""
        row = "" if result.deviation is None else result.deviation.row
        return row in self.rows or any(matches(pattern, result.case.id) for pattern in self.cases)


@attrs.frozen
class Expected:
    """All entries of some files."""

    entries: tuple[Known, ...] = ()

    def judged(self, result: Result) -> Judged:
        """The result in the light of what is expected."""
        if result.verdict is Verdict.FAIL:
            for known in self.entries:
                if known.covers(result):
                    return Judged(result, Outcome.EXPECTED, known.reason)
        elif result.verdict in (Verdict.PASS, Verdict.LENIENT):
            for known in self.entries:
                if known.names(result.case.id):
                    return Judged(result, Outcome.SURPRISE, known.reason)
        return Judged(result, Outcome(result.verdict))

    def gone(self, judged: Iterable[Judged]) -> Iterator[str]:
        """The deviations that a whole run has not met although it was where they are, a text each."""
        played = tuple(each.result for each in judged)
        for known in self.entries:
            for row in known.rows:
                if not any(_fails_at(r, row) for r in played) and any(_passes(r, row) for r in played):
                    yield _gone(f"at '{row}'", known)
            for pattern in known.cases:
                found = [r.verdict for r in played if matches(pattern, r.case.id)]
                if pattern.endswith("*") and found and not {Verdict.FAIL, Verdict.INCONCLUSIVE} & set(found):
                    yield _gone(f"in '{pattern}'", known)

    def __add__(self, other: Expected) -> Expected:
        return Expected(self.entries + other.entries)


def matches(pattern: str, id: str) -> bool:
    """Whether an ID is meant: the same one, or one that begins so where the pattern ends with `*`."""
    return id.startswith(pattern[:-1]) if pattern.endswith("*") else id == pattern


def _gone(where: str, known: Known) -> str:
    return f"no case fails {where}, as was expected: take it out of the file ({known.reason})"


def _fails_at(result: Result, row: str) -> bool:
    return result.deviation is not None and result.deviation.row == row


def _passes(result: Result, row: str) -> bool:
    """Whether it went along this row, where only the declared answer passes."""
    steps = result.case.steps if result.deviation is None else result.case.steps[: result.deviation.step]
    return result.verdict is not Verdict.INCONCLUSIVE and any(
        step.row == row and len(step.accepted) == 1 for step in steps
    )


def read(path: Path) -> Expected:
    """What this file says. Raises ExpectedError."""
    try:
        return parsed(path.read_text(), str(path))
    except (OSError, UnicodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ExpectedError(f"{path}: {said}") from None


def shipped(version: str) -> Expected:
    """What is known of this version of QEMU, say 7.2; nothing of one that nobody has tried."""
    file = resources.files("colo_fsm.conform") / "known" / "qemu.toml"
    known = parsed(file.read_text(), file.name, SHIPPED)
    return Expected(tuple(entry for entry in known.entries if version in entry.versions))


def parsed(text: str, where: str, keys: frozenset[str] = KEYS) -> Expected:
    """What such a text says. Raises ExpectedError, which names `where` it is from."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExpectedError(f"{where}: {error}") from None
    entries = found.pop("deviation", [])
    if found or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ExpectedError(f"{where}: it holds [[deviation]] tables, and nothing else")
    numbered = enumerate(entries, 1)
    return Expected(tuple(_known(entry, f"{where}: deviation {n}", keys) for n, entry in numbered))


def _known(entry: dict[str, Any], where: str, keys: frozenset[str]) -> Known:
    if unknown := entry.keys() - keys:
        raise ExpectedError(f"{where}: '{min(unknown)}' is none of {', '.join(sorted(keys))}")
    reason = entry.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise ExpectedError(f"{where} has no reason: say in one sentence what the side does instead")
    texts = (_texts(entry.get(key, []), f"{where}: {key}") for key in ("rows", "cases", "versions"))
    rows, cases, versions = texts
    if not rows and not cases:
        raise ExpectedError(f"{where} names neither rows nor cases")
    return Known(rows, cases, reason.strip(), versions)


def _texts(found: Any, where: str) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise ExpectedError(f"{where} is a list of texts")
    return tuple(found)
