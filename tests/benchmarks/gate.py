"""The answers of a real VM: how much later they come where they wait for their round at a gate."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from answering_guest import Asker, user_netdev
from gated_vm import answering_vm, gate_filter, gates
from qemu import free_port
from standby_process import StandbyProcess

from .table import Row

DELAYS = (5, 20, 100)
"""Milliseconds from a round to the next, x-checkpoint-delay."""
SECONDS = 15.0


def rows(quick: bool) -> Iterator[Row]:
    """Latencies of one client over UDP, for each delay: with a gate, and without."""
    for delay in DELAYS:
        with_it, without = (
            answers(delay, gated, SECONDS / 30 if quick else SECONDS) for gated in (True, False)
        )
        for name, part in (("p50", 0.5), ("p95", 0.95)):
            here, there = (found[int(len(found) * part)] * 1000 for found in (with_it, without))
            yield Row(f"answer of a VM at a gate, delay {delay} ms, {name}", here, "ms", "no gate", there)


def answers(delay: int, gated: bool, seconds: float) -> list[float]:
    """Seconds to each answer, from the shortest to the longest."""
    with tempfile.TemporaryDirectory(prefix="gate-") as name, contextlib.closing(Asker(free_port())) as asker:
        folder = Path(name)
        options, filters = (gates(folder), gate_filter(folder)) if gated else ([], ())
        with (
            StandbyProcess(folder, *options) as standby,
            answering_vm(folder, *user_netdev(asker.port), filters=filters) as primary,
        ):
            asker.ask()
            primary.replicate(standby.uri, delay)
            asker.latencies.clear()
            asker.asks_for(seconds)
    return sorted(asker.latencies)
