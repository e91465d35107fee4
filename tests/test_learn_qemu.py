"""Real QEMUs learned: a Secondary is what its table says; a Primary is not, and the page shows how."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
import qemus

from colo_fsm.colo import TABLES, Variant
from colo_fsm.conform.learn import Learned, learn
from colo_fsm.conform.picture import picture
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.targets.qemu import QemuTarget
from colo_fsm.draw import dot_hash
from colo_fsm.draw.renderer import hash_of
from colo_fsm.fsm import Side, complete

DOCS = Path(__file__).parents[1] / "docs"
PICTURE = DOCS / "learned-primary.svg"
TIMEOUT = 5.0
PATIENCE = 30.0
DRAWN = "QEMU 7.2.22, primary"


def learned(side: Side, extra: int = 0) -> Learned:
    with QemuTarget(None, complete(TABLES[side], Variant()), PATIENCE) as target:
        return learn(target, Pace(TIMEOUT), extra)


@pytest.mark.real_qemu
def test_a_secondary_is_what_its_table_says(qemu_version: qemus.Version) -> None:
    found = learned(Side.SECONDARY)
    assert found.equal
    assert str(found) == "answers like its table, if it has no more than 3 states"
    assert found.target.startswith(f"QEMU {qemu_version.found}")
    assert found.resets < 60


@pytest.mark.soak
@pytest.mark.real_qemu
@pytest.mark.parametrize("extra", [1, 6])
def test_a_secondary_may_have_more_states_than_its_table(extra: int, qemu_version: qemus.Version) -> None:
    assert str(learned(Side.SECONDARY, extra)).endswith(f"no more than {3 + extra} states")


@pytest.mark.soak
@pytest.mark.real_qemu(kvm=True)
def test_a_primary_drops_the_round_where_its_table_gives_up(qemu_version: qemus.Version) -> None:
    """So is every version here: a wrong reply inside a round is logged, and the next request is sent."""
    found = learned(Side.PRIMARY)
    assert found.difference is not None
    page = (DOCS / "learning.md").read_text()
    rows = [f"  {given or 'at first':17} " for given, _ in found.difference.seen.lines]
    told = re.findall(r"given             its table says              seen\n((?:  .*\n)+)", page)
    assert len(told) == 1
    assert [line[:20] for line in told[0].splitlines()] == rows
    assert [answer for _, answer in found.difference.seen.lines] == [
        line[48:] for line in told[0].splitlines()
    ]
    drawn = picture(attrs.evolve(found, target=DRAWN)).dot
    assert dot_hash(PICTURE.read_text()) == hash_of(drawn), f"draw it anew: colo-fsm learn … --draw {PICTURE}"
