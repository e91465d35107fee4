"""What works with which version of QEMU, and which of its machines: each cell is a real run.

The VMs have no disks. Those with PCI have their firmware behind them: what it sets up is what makes a
Secondary of some versions abort.

python tests/matrix.py [PAGE]      print the table (`make matrix`), and put it into PAGE
"""

from __future__ import annotations

import logging
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import qemus
from click.testing import CliRunner
from qemu import Qemu
from standby_process import StandbyProcess

from colo_fsm.cli.app import cli
from colo_fsm.qemu import VmCheckpoint
from colo_fsm.qemu.watch.replay import Replay, Stored
from colo_fsm.qemu.watch.rounds import Kind
from colo_fsm.qemu.watch.tap import Tap
from colo_fsm.replica import Address, DirectoryStore

MACHINES = ("pc", "q35", "microvm")
ROUNDS = 5
YES = "yes"
SECONDARY_ENDS = "no: QEMU's own Secondary aborts"
WITH_PCI = ("pc", "q35")
BOOTED, BOOT_TIME = b"No bootable device", 300.0
"""What it says last; in seconds, against hanging."""
MARKS = re.compile(r"(<!-- generated: matrix -->\n).*?(<!-- end -->)", re.DOTALL)

Row = tuple[str, ...]


def vm(folder: Path, machine: str, name: str, **more: Any) -> Qemu:
    """Its firmware writes to the file `name`.bios."""
    said = ("-chardev", f"file,id=bios,path={folder}/{name}.bios")
    return Qemu(
        folder,
        name,
        machine=machine,
        extra=(*said, "-device", "isa-debugcon,iobase=0x402,chardev=bios"),
        **more,
    )


def boot(machine: str, primary: Qemu) -> None:
    """Let its firmware come to its end."""
    said = primary.log.with_name(f"{primary.name}.bios")
    if machine in WITH_PCI:
        primary.until(lambda: BOOTED in said.read_bytes() or None, "end of the firmware", BOOT_TIME)


def standby(machine: str, folder: Path) -> str:
    """A standby holds ROUNDS rounds of a Primary that is killed then; the store stays in `folder`."""
    with StandbyProcess(folder) as holding, vm(folder, machine, "primary") as primary:
        boot(machine, primary)
        primary.replicate(holding.uri)
        for _ in range(ROUNDS):
            primary.checkpoint()
        primary.kill()
        status = holding.wait()
        held = holding.objects[-1]
    right = (status, held["won"], held["rounds"]) == (0, True, ROUNDS)
    return YES if right else f"no: {holding.said.strip()}"


def tap(machine: str, folder: Path) -> str:
    """ROUNDS rounds between two QEMUs: all of them seen, and both sides kept to the protocol."""
    with (
        vm(folder, machine, "secondary", incoming="tcp:127.0.0.1:0") as secondary,
        Tap("tcp:127.0.0.1:0", secondary.uri) as tapping,
        vm(folder, machine, "primary") as primary,
    ):
        boot(machine, primary)
        secondary.enable_colo()
        primary.replicate(str(tapping.address))
        for number in range(1, ROUNDS + 1):
            primary.ask_checkpoint()
            primary.until(lambda: primary.resumes > number or not secondary.alive or None, "a round")  # noqa: B023
            if not secondary.alive:
                return SECONDARY_ENDS
        primary.kill()
        verdict = tapping.wait(20)
    right = verdict.kind is Kind.OK and str(ROUNDS) in verdict.text
    return YES if right else f"no: {verdict.text}"


def replay(machine: str, folder: Path) -> str:
    """What `standby` has kept is played to a QEMU that waits as a Secondary, ROUNDS rounds long."""
    with (
        DirectoryStore(folder / "vm") as store,
        vm(folder, machine, "replayed", incoming="tcp:127.0.0.1:0") as secondary,
    ):
        secondary.enable_colo()
        assert store.newest is not None
        link = Address.parse(secondary.uri).connect()
        outcome = Replay(Stored(VmCheckpoint.of(store.newest)), link, ROUNDS).run()
        if outcome.ended and outcome.rounds == ROUNDS:
            secondary.lost_heartbeat()  # it has loaded the last round, and runs
            return YES
        try:
            secondary.qmp("query-status")
        except ConnectionError:
            return SECONDARY_ENDS
        return f"no: {outcome.error}"


def restore_check(machine: str, folder: Path) -> str:
    """A QEMU loads what `standby` has kept."""
    arguments = vm(folder, machine, "asked").arguments
    command = shlex.join([qemus.PROGRAM, *arguments])
    result = CliRunner().invoke(cli, ["restore", str(folder / "vm"), "--check", command])
    return (
        YES if (result.exit_code, result.stderr.count("loads")) == (0, 1) else f"no: {result.stderr.strip()}"
    )


COLUMNS: dict[str, Callable[[str, Path], str]] = {
    "standby": standby,
    "tap": tap,
    "replay": replay,
    "restore --check": restore_check,
}


def rows(version: qemus.Version) -> Iterator[Row]:
    """A row for each machine of this version, which has to be there."""
    with qemus.use(version):
        for machine in MACHINES:
            with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
                yield version.name, machine, *(run(machine, Path(folder)) for run in COLUMNS.values())


def table(found: list[Row]) -> str:
    head = ("QEMU", "machine", *(f"`{name}`" for name in COLUMNS))
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *found))


def read(page: str) -> list[Row]:
    """The rows that the page holds, without its head."""
    marked = MARKS.search(page)
    assert marked is not None, "the page has no place for the table"
    return [tuple(row.strip("| ").split(" | ")) for row in marked[0].splitlines()[3:-1]]


def main(arguments: list[str]) -> int:
    if missing := [version.missing for version in qemus.VERSIONS if version.binary is None]:
        print("\n".join(missing), file=sys.stderr)
        return 1
    logging.disable()
    made = table([row for version in qemus.VERSIONS for row in rows(version)])
    print(made, end="")
    for page in map(Path, arguments):
        page.write_text(MARKS.sub(lambda found: found[1] + made + found[2], page.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
