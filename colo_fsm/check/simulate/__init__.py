"""Deterministic simulation of the real thing: production drivers, guest, store and arbiter, and chance.

    with Bench() as bench:
        outcome = bench.run(generate(seed=7))
    outcome.ok, outcome.problems, outcome.strikes, outcome.digest

A `Schedule` is data; equal ones run alike, to the last line of their traces. docs/simulation.md says
what is real here and what is not, what strikes, and what is judged.
"""

from __future__ import annotations

from .generate import generate
from .linearize import Operation, linearizable
from .many import Result, run_many, run_seeds, shortest, shrink
from .report import Coverage, Report
from .run import Bench, Outcome
from .schedule import SAFE_KINDS, WIRE_KINDS, Fault, Kind, Schedule
from .tables import Tables
from .verdict import Problem

__all__ = [
    "SAFE_KINDS",
    "WIRE_KINDS",
    "Bench",
    "Coverage",
    "Fault",
    "Kind",
    "Operation",
    "Outcome",
    "Problem",
    "Report",
    "Result",
    "Schedule",
    "Tables",
    "generate",
    "linearizable",
    "run_many",
    "run_seeds",
    "shortest",
    "shrink",
]
