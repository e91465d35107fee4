"""Pairs of real QEMUs that fail over, as QEMU's own tests of COLO do it (`colo-tests.c`, since 11.1).

Either side survives, between two checkpoints or inside one, without multifd and with it. QEMU's test cuts the
link first (`yank`), then says x-colo-lost-heartbeat, and looks whether the guest goes on; here the guest is
one that counts, so that its memory is seen to be whole.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import qemus
from qemu import Qemu, colo_pair, each_version, needs_kvm
from qemu_guest import count, counting_guest, runs_on

from colo_fsm.fsm import Side

pytestmark = needs_kvm
ROUNDS = 3
"""Checkpoints before it: as many as QEMU waits for."""
DELAY = 20


def with_multifd() -> tuple[bool, ...]:
    """Whether or not: QEMU has tests of such pairs since 11.1."""
    return (False, True) if qemus.current().number >= (11,) else (False,)


def wait_inside(secondary: Qemu) -> None:
    """Until the Secondary's guest is stopped for a checkpoint that begins after this."""
    secondary.wait_event("STOP", start=len(secondary.events))


@each_version
@pytest.mark.parametrize("inside", [False, True], ids=["between", "inside"])
@pytest.mark.parametrize("survivor", Side)
def test_either_side_survives(survivor: Side, inside: bool, tmp_path: Path) -> None:
    for multifd in with_multifd():
        fails_over(survivor, inside, multifd, tmp_path)


def fails_over(survivor: Side, inside: bool, multifd: bool, folder: Path) -> None:
    guest = counting_guest(folder)
    pair = colo_pair(folder, checkpoint_delay_ms=DELAY, extra=guest, multifd=multifd)
    with pair as (primary, secondary):
        primary.until(lambda: primary.resumes > ROUNDS or None, f"{ROUNDS} rounds")
        if inside:
            wait_inside(secondary)
        it = primary if survivor is Side.PRIMARY else secondary
        it.yank()
        it.lost_heartbeat()
        assert it.colo_status()["last-mode"] == survivor
        it.qmp("stop")
        runs_on(it, count(it.read))
