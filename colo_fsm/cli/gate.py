"""The options of a standby that lets a VM's packets out, and how its network works again behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any

import attrs
import click

from colo_fsm.qemu import PacketGate
from colo_fsm.qemu.free.monitor import MonitorError, connected, open_gate
from colo_fsm.qemu.hold.gate import LIMIT
from colo_fsm.replica import Address, AddressError

from .shown import shown

Place = tuple[Address, Address]


class _Places(click.ParamType[Place]):
    name = "OUT,IN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """Addresses; what is none of QEMU's two kinds is the path of a Unix socket."""
        parts = str(value).split(",")
        if len(parts) != 2 or not all(parts):
            self.fail(f"'{value}' is not two addresses: write OUT.sock,IN.sock", param, ctx)
        try:
            out, into = map(_address, parts)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return out, into


def _address(text: str) -> Address:
    return Address.parse(text if text.startswith(("tcp:", "unix:")) else f"unix:{text}")


@attrs.frozen
class Gate:
    """What the options say. `objects`: QOM ids of the filters, for a monitor at `qmp`."""

    places: tuple[Place, ...]
    limit: int
    qmp: Address | None
    objects: tuple[str, ...]

    def listening(self, tell: Callable[[str], object]) -> PacketGate | nullcontext[None]:
        """A gate for a `with` block, or nothing."""
        return PacketGate(self.places, limit=self.limit, tell=tell) if self.places else nullcontext()

    def open(self, tell: Callable[[str], object]) -> None:
        """The Primary goes on, or may: its packets are not to come here any more."""
        if not self.places:
            return
        if self.qmp is None:
            tell(
                "the gate is shut: where the VM goes on, `object_del` of its filter-redirector in QEMU's "
                "monitor opens its network (`colo-fsm watch-primary --gate-object` does, behind a claim)"
            )
            return
        try:
            asyncio.run(_opened(self.qmp, self.objects))
        except MonitorError as error:
            tell(f"the gate is shut, and could not be opened: {error}")
        else:
            tell(f"the gate is open: {', '.join(self.objects)} deleted")


async def _opened(qmp: Address, objects: Sequence[str]) -> None:
    async with connected(qmp) as monitor:
        for each in objects:
            await open_gate(monitor, each)


def gate_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options, given to the command as `gate`."""

    @wraps(command)
    def with_gate(
        places: tuple[Place, ...],
        gate_limit: int,
        qmp: str | None,
        gate_objects: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        if (gate_objects or qmp) and not (gate_objects and qmp and places):
            raise click.UsageError("--qmp and --gate-object open a --gate: give all three, or --gate alone")
        try:
            monitor = Address.parse(qmp) if qmp else None
        except AddressError as error:
            raise click.UsageError(shown(error)) from None
        return command(gate=Gate(places, gate_limit, monitor, gate_objects), **rest)

    made: Callable[..., Any] = with_gate
    for option in reversed(_OPTIONS):
        made = option(made)
    return made


_OPTIONS = (
    click.option(
        "--gate", "places", multiple=True, type=_Places(),
        help="Hold the VM's packets until the checkpoint that covers them is in DIR: where the outdev and "
        "the indev of its filter-redirector connect to, paths or addresses. Once a card (docs/gate.md).",
    ),
    click.option(
        "--gate-limit", type=click.IntRange(min=1), default=LIMIT, metavar="BYTES",
        help="The most that waits for each card; what comes beyond it is dropped.  [default: 64 MiB]",
    ),
    click.option(
        "--qmp", metavar="ADDR",
        help="The Primary's QMP, to delete --gate-object there when this ends, but not where it takes over.",
    ),
    click.option(
        "--gate-object", "gate_objects", multiple=True, metavar="ID",
        help="The filter-redirector of a --gate. Once for each.",
    ),
)  # fmt: skip
