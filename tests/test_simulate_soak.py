"""As many schedules as SOAK_MINUTES allows, on all cores, with everything printed."""

from __future__ import annotations

import os
import time

import pytest

from colo_fsm.check.simulate import SAFE_KINDS, WIRE_KINDS, Coverage, Report, run_many

MINUTES = float(os.environ.get("SOAK_MINUTES", "15"))
ENOUGH = 100_000
"""Schedules after which no state may be left out."""


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 * 1.5 + 600)
def test_soak(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = os.cpu_count() or 1
    report = Report()
    said = time.monotonic()

    def progress(coverage: Coverage) -> None:
        nonlocal said
        if time.monotonic() > said + 60:
            said = time.monotonic()
            with capsys.disabled():
                print(
                    f"\n{coverage.counts['runs']:,} schedules, {coverage.counts['failed']} failed", flush=True
                )

    result = run_many(0, SAFE_KINDS, seconds=MINUTES * 60, jobs=jobs, progress=progress)
    wire = {kind: run_many(0, [kind], seconds=MINUTES, jobs=jobs) for kind in WIRE_KINDS}
    with capsys.disabled():
        print("", result.coverage, "", report.matrices(result.coverage), sep="\n")
        for kind, of_kind in wire.items():
            print(f"\n{kind}", of_kind.coverage, sep="\n")
    failures = [outcome for each in (result, *wire.values()) for outcome in each.failures]
    assert not failures, "\n\n".join(f"{o.schedule}\n{o.problems}" for o in failures)
    assert result.coverage.counts["short"] == 0
    assert report.impossible(result.coverage) == []
    if result.coverage.counts["runs"] >= ENOUGH:
        assert report.missing(result.coverage) == []
