"""Every single slip in the tables is noticed, but for those that stand here, each with the reason.

The list is strict: a slip that nothing notices must be in it, and one in it that is noticed must go.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from zlib import crc32

import pytest

from colo_fsm.colo import COLO, TABLES
from colo_fsm.fsm import Do, Side, always

from .judging import noticed_by
from .slips import Mutant, mutants

SURVIVORS: dict[str, tuple[str, ...]] = {
    "What waits for nobody happens in one step with its row: nothing can come between the two.": (
        r"primary (error|init/ready/loaded begin_leave): stop_comparing \(hybrid\) before disconnect",
        r"primary (error|init/ready/loaded begin_leave): suspend before stop_comparing \(hybrid\)",
        r"primary ready/loaded begin_checkpoint: send checkpoint-request before stop_comparing \(hybrid\)",
        r"primary received recv_vmstate_loaded: resume \(loaded\) before release \(loaded\)",
        r"primary (sized|sending) recv_vmstate_received .*: resume \(received\) before release \(received\)",
        r"primary replied done_save: send vmstate-send before resume \(saved\)",
        r"secondary received done_load: resume \(hybrid\) before send vmstate-loaded",
        r"(primary|secondary) init otherwise: discard before disconnect",
    ),
    "In periodic mode nobody compares: there is nothing to stop.": (
        r"primary (error|ready/loaded begin_checkpoint|init/ready/loaded begin_leave): "
        r"stop_comparing in every variant",
    ),
    "Hybrid mode without comparing: what the Secondary says is held, and each round suspends it first.": (
        r"secondary received done_load: resume in every variant",
    ),
    "Packets leave one message later than they may, or what is out is let out again.": (
        r"primary (sized|sending) recv_vmstate_received .*: "
        r"release \(received\) goes (first|last) in primary received recv_vmstate_loaded",
        r"primary received recv_vmstate_loaded: release in every variant",
    ),
    "The guest may run on anywhere from the save to `loaded`: what it says then waits for the next round.": (
        r"primary (replied|sized|sending|received) \S+.*: resume in every variant",
        r"primary (replied|sized|sending|received) \S+.*: resume \((saved|received|loaded)\) goes last in "
        r"primary requested recv_checkpoint_reply",
        r"primary (sized|sending|received) \S+.*: resume \((received|loaded)\) goes (first|last) in "
        r"primary replied done_save",
        r"primary sized \S+.*: resume \(received\) goes (first|last) in primary sending done_send_live .*",
        r"primary (replied|sized|sending) \S+.*: resume \((saved|received)\) goes first in "
        r"primary received recv_vmstate_loaded",
    ),
    "The guest stands still longer than it must: from the request on, or until the first round is over.": (
        r"primary requested recv_checkpoint_reply: "
        r"suspend goes last in primary ready/loaded begin_checkpoint",
        r"primary init recv_checkpoint_ready: resume goes first in primary error",
    ),
    "Said before it is true, but what comes next is read only when it is, and no packet leaves before.": (
        r"secondary init done_receive_initial: send checkpoint-ready goes first in secondary start",
    ),
    "While a load is finished nothing else comes but a request to fail over, and it stays by either word.": (
        r"secondary finishing otherwise: (to finishing|on fault_failover_request)",
    ),
    "What stands behind `claim` is never begun, and where it stood nothing is held (see below).": (
        r"primary (alone fault_guest_failed|init otherwise): discard goes last in primary error",
    ),
    "Nothing is held: alone packets leave at once, and before `ready` the guest has said nothing.": (
        r"primary (alone fault_guest_failed|init otherwise): no discard",
        r"primary (alone fault_guest_failed|init otherwise): "
        r"discard goes (first|last) in primary (init otherwise|failover lost|failover begin_leave)",
        r"primary (alone fault_guest_failed|init otherwise): discard goes last in primary "
        r"(init/ready/loaded begin_leave|alone begin_leave|alone fault_guest_failed)",
    ),
}
"""Why it does no harm, and the slips of which that is true, as patterns."""

ONE_IN = 40
"""What part of them `make test` judges."""


@cache
def every() -> tuple[Mutant, ...]:
    return tuple(mutant for table in TABLES.values() for mutant in mutants(table))


def listed(mutant: Mutant) -> bool:
    return any(re.fullmatch(pattern, str(mutant)) for patterns in SURVIVORS.values() for pattern in patterns)


def misjudged(judged: list[Mutant]) -> list[str]:
    """Where the list is wrong."""
    found = {mutant: noticed_by(mutant.table) for mutant in judged}
    missing = [f"nothing notices {mutant}" for mutant, by in found.items() if not by and not listed(mutant)]
    return missing + [f"{by} notices {mutant}" for mutant, by in found.items() if by and listed(mutant)]


LINES = tuple(dict.fromkeys(mutant.line for mutant in every()))


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("line", LINES)
def test_every_slip_is_noticed_or_listed(line: str) -> None:
    assert misjudged([mutant for mutant in every() if mutant.line == line]) == []


def test_a_sample_of_them_is() -> None:
    assert misjudged([mutant for mutant in every() if crc32(str(mutant).encode()) % ONE_IN == 0]) == []


def test_the_list_names_slips_that_there_are_and_each_once() -> None:
    names = list(map(str, every()))
    matched = Counter(
        name for patterns in SURVIVORS.values() for pattern in patterns for name in _matched(pattern, names)
    )
    assert [name for name, count in matched.items() if count > 1] == []


def _matched(pattern: str, names: list[str]) -> list[str]:
    found = [name for name in names if re.fullmatch(pattern, name)]
    assert found, f"no slip is {pattern}"
    return found


# -- what is made -----------------------------------------------------------------------------------


def test_a_line_is_slipped_in_every_way() -> None:
    """One line, by hand: secondary, failover, lost: to stopped, with `discard`."""
    whats = [mutant.what for mutant in every() if mutant.line == "secondary failover lost"]
    places = len(TABLES[Side.SECONDARY].lines) + 2 - 1
    assert whats[0] == "removed"
    assert sum(what.startswith("to ") for what in whats) == len(COLO.states)  # and nowhere, but for itself
    assert sum(what.startswith("on ") for what in whats) == len(always(COLO)) + len(Do)  # and otherwise
    assert "no discard" in whats
    assert sum("goes first" in what for what in whats) == places


def test_several_sources_and_conditions_are_slipped_too() -> None:
    names = set(map(str, every()))
    assert "secondary sized/received otherwise (qemu): not in sized" in names
    assert "secondary sized/received otherwise (qemu): in every variant" in names
    assert "primary received recv_vmstate_loaded: compare in every variant" in names
    assert "primary start: no send_initial (qemu)" in names
    assert "secondary error: suspend before disconnect" in names


def test_no_two_slips_are_one() -> None:
    assert len({str(mutant) for mutant in every()}) == len(every())
    written = {(m.table.side, m.table.lines, m.table.start, m.table.error) for m in every()}
    assert len(written) == len(every())
    assert not written & {(t.side, t.lines, t.start, t.error) for t in TABLES.values()}
