"""A QEMU's monitor, over QMP. Chosen for it: qemu.qmp, the library of QEMU's own project (extra `qemu`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from colo_fsm.replica import Address

PATIENCE = 60.0
"""Seconds for an answer. A QEMU that is busy with a round may take some."""

TRIES = 20
"""To be greeted first."""


class MonitorError(OSError):
    """QEMU refuses a command; the text is QEMU's."""


class MonitorGone(MonitorError):
    """Nobody answers there, or not any more."""


class Monitor(Protocol):
    """What a watch needs of a QEMU."""

    async def ask(self, command: str, **arguments: object) -> Any:
        """What QEMU returns; dashes stand for the underscores of names. Raises MonitorError, MonitorGone."""

    async def event(self, timeout: float) -> str | None:
        """The name of the next event, or None after `timeout` seconds. Raises MonitorGone."""


async def shut_gate(monitor: Monitor, gates: Sequence[str]) -> str | None:
    """One of these filters whose packets go to nobody any more. Raises MonitorError."""
    if not gates:
        return None
    gone = {
        chardev["label"]
        for chardev in await monitor.ask("query-chardev")
        if chardev["filename"].startswith("disconnected:")
    }
    for gate in (await _objects(monitor)).intersection(gates):
        ends = [
            await monitor.ask("qom-get", path=f"/objects/{gate}", property=end) for end in ("outdev", "indev")
        ]
        if gone.intersection(ends):
            return gate
    return None


async def open_gate(monitor: Monitor, gate: str) -> None:
    """Delete the filter of this QOM id; one that is not there holds nothing. Raises MonitorError."""
    if gate in await _objects(monitor):
        await monitor.ask("object-del", id=gate)


async def _objects(monitor: Monitor) -> set[str]:
    return {child["name"] for child in await monitor.ask("qom-list", path="/objects")}


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Monitor]:
    """The monitor that listens at `address`; it takes one visitor at a time. Raises MonitorError."""
    try:
        from qemu.qmp import ConnectError
    except ImportError:
        raise MonitorError("QMP needs pip install 'colo-fsm[qemu]'") from None
    where: Any = address.path or (address.host, address.port)
    try:
        client, heard = await asyncio.wait_for(_greeted(where), PATIENCE)
    except (ConnectError, TimeoutError) as error:
        raise MonitorGone(
            f"no QMP at {address}: {error or 'no greeting, another one is connected'}"
        ) from None
    ended = asyncio.create_task(_end(client))
    try:
        yield _Monitor(client, heard, ended)
    finally:
        ended.cancel()
        with suppress(Exception):  # it has gone, whatever it was
            await client.disconnect()


async def _greeted(where: Any) -> tuple[Any, Any]:
    """A client, and what hears its events. Raises ConnectError.

    A QEMU whose guest stops or runs on at that moment may tell of it before it greets: then we come again.
    """
    from qemu.qmp import ConnectError, EventListener, QMPClient

    for left in reversed(range(TRIES)):
        client = QMPClient("colo-fsm")
        heard = EventListener(("COLO_EXIT", "STOP", "RESUME"))
        client.register_listener(heard)
        try:
            await client.connect(where)
        except ConnectError as error:
            if isinstance(error.exc, OSError | EOFError) or not left:
                raise
        else:
            break
    return client, heard


async def _end(client: Any) -> None:
    """Until the connection is not up any more."""
    while client.runstate.name == "RUNNING":
        await client.runstate_changed()


class _Monitor:
    def __init__(self, client: Any, heard: Any, ended: asyncio.Task[None]) -> None:
        self._client = client
        self._heard = heard
        self._ended = ended

    async def ask(self, command: str, **arguments: object) -> Any:
        from qemu.qmp import ExecuteError, QMPError

        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return await asyncio.wait_for(self._client.execute(command, named), PATIENCE)
        except ExecuteError as error:
            raise MonitorError(f"{command}: {error}") from None
        except TimeoutError:
            raise MonitorError(f"{command}: no answer in {PATIENCE:g} s") from None
        except (QMPError, OSError, EOFError) as error:
            raise MonitorGone(f"its QMP has ended: {error}") from None

    async def event(self, timeout: float) -> str | None:
        getting = asyncio.create_task(self._heard.get())
        try:
            await asyncio.wait((getting, self._ended), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return str(getting.result()["event"])
        finally:
            getting.cancel()
        if self._ended.done():
            raise MonitorGone("its QMP has ended")
        return None
