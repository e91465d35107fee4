"""What can be asked of a side or a member that runs, at its control socket: one line of JSON, one back.

`{"do": "status"}` is answered by `{"ok": true, "status": {...}}`, every other request by
`{"ok": true, "said": TEXT}`, or `{"ok": false, "why": TEXT}` where it cannot be; then nothing has changed.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

from colo_fsm.fsm import FailoverRequested, Fault, fault
from colo_fsm.membership import Active, Member, NotPossible
from colo_fsm.replica import NotCommitted, NotRunning
from colo_fsm.replica.pair import PairBase

from .figures import Figures

DEEDS = ("status", "failover", "switchover", "checkpoint", "leave")

DECIDED = 30.0
"""Seconds that whoever asked for a failover waits for the arbiter's answer; the side waits on."""

COVERED = 60.0
"""Seconds that whoever asked for a checkpoint waits for it."""


class Control:
    """Does what it is asked for, one thing at a time; `answer` is a desk's."""

    def __init__(self, figures: Figures, member: Member | None = None) -> None:
        self._figures = figures
        self._member = member
        self._busy = ""
        self._does: dict[str, Callable[[], Awaitable[str]]] = {
            "failover": self._failover,
            "switchover": self._switchover,
            "checkpoint": self._checkpoint,
        }

    def answer(self, heard: bytes) -> bytes | Awaitable[bytes] | None:
        """The reply to what has arrived, None while that is no whole line."""
        line, end, _ = heard.partition(b"\n")
        if not end:
            return None
        try:
            deed = json.loads(line)["do"]
        except (ValueError, LookupError, TypeError, RecursionError):
            deed = None
        if deed == "status":
            return _line({"ok": True, "status": self._figures.status()})
        if deed == "leave":
            # as the signal does it: also while it connects, and however often it is asked for
            signal.raise_signal(signal.SIGTERM)
            return _line({"ok": True, "said": "it ends in order"})
        if not isinstance(deed, str) or deed not in self._does:
            return _line({"ok": False, "why": f'write {{"do": ...}} with one of {", ".join(DEEDS)}'})
        if self._busy:
            return _line({"ok": False, "why": f"a {self._busy} is under way: ask when it is over"})
        self._busy = deed
        return self._done(deed)

    async def _done(self, deed: str) -> bytes:
        try:
            return _line({"ok": True, "said": await self._does[deed]()})
        except NotPossible as error:
            return _line({"ok": False, "why": str(error)})
        finally:
            self._busy = ""

    # -- what can be asked ----------------------------------------------------------------------

    async def _failover(self) -> str:
        """Give the pair up and claim. Whoever asks knows that the other side is gone; the arbiter decides."""
        figures = self._figures
        pair = self._breakable()
        pair.request_failover()
        try:
            async with asyncio.timeout(DECIDED):
                await figures.until(lambda: pair.token > 0 or pair.state in pair.session.table.final)
        except TimeoutError:
            raise NotPossible(f"asked for, and not decided yet: {figures.waits_for}") from None
        if not pair.token:
            error = pair.session.error
            lost = error is None or isinstance(error, FailoverRequested)
            raise NotPossible(
                "the claim was lost: the other side is there, and goes on" if lost else str(error)
            )
        return f"the claim was won (token {pair.token}): {figures.taken_over}"

    def _breakable(self) -> PairBase:
        """The pair that may be given up. Raises NotPossible."""
        figures, pair = self._figures, self._figures.pair
        if self._member is not None and figures.runs:
            raise NotPossible("this member runs the guest: switchover lets the other one have it")
        if pair is None or (figures.claims_if_ready and not figures.ready):
            raise NotPossible(f"there is no whole checkpoint to go on from: {figures.waits_for}")
        table = pair.session.table
        if pair.state in {table.initial, table.failover, *table.final}:
            raise NotPossible(f"there is no pair to give up: {figures.waits_for}")
        if pair.state in table.alone:
            raise NotPossible("this side runs alone already")
        if table.by_input[pair.state, fault(Fault.FAILOVER_REQUEST)].dest is None:
            raise NotPossible("a failover is under way already")
        return pair

    async def _switchover(self) -> str:
        if self._member is None:
            raise NotPossible("this is one side of a pair: only a member can be switched over")
        began = time.monotonic()
        await self._member.switchover()
        return f"the other member goes on; {time.monotonic() - began:.3f} s until the record said so"

    async def _checkpoint(self) -> str:
        figures, host = self._figures, self._figures.host
        pair = figures.pair
        if not figures.runs or pair is None or host is None:
            raise NotPossible(f"the guest does not run here: {figures.waits_for or 'ask the other side'}")
        if pair.state in pair.session.table.alone:
            raise NotPossible("this side runs alone: there is nobody to take a checkpoint")
        pair.request_checkpoint()
        try:
            async with asyncio.timeout(COVERED):
                await (host.stored() if isinstance(host, Active) else host.committed())
        except TimeoutError:
            raise NotPossible(f"asked for, and not taken in {COVERED:g} s") from None
        except (NotCommitted, NotRunning) as error:
            raise NotPossible(str(error)) from None
        return f"checkpoint {host.checkpoint} has all that was there when it was asked for"


def _line(reply: dict[str, Any]) -> bytes:
    return json.dumps(reply).encode() + b"\n"
