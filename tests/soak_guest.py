"""The guest of the soak: the SQLite service, whose hooks are slow at times, and whose data outlives a pair.

A side that has gone on alone writes its database to the file `data` when it ends in order; the next Primary
begins with it.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from colo_fsm.replica.guest import Saved
from colo_fsm.replica.store import Checkpoint
from colo_fsm.services.sqlite_server import ServedSqlite
from colo_fsm.services.wire import Host

CAPACITY = 16 << 20
DATA = Path("data")
SLOW = float(os.environ.get("SOAK_SLOW", "0"))
"""The longest that a slow hook takes, in seconds; one in twenty is slow."""


def _perhaps_wait() -> None:
    if random.random() < 0.05:
        time.sleep(random.uniform(0, SLOW))


class Kept(ServedSqlite):
    def save(self, full: bool) -> Saved:
        _perhaps_wait()
        return super().save(full)

    def load(self, checkpoint: Checkpoint) -> None:
        _perhaps_wait()
        super().load(checkpoint)

    async def serve(self, pair: Host) -> None:
        try:
            await super().serve(pair)
        finally:  # it is cancelled when the pair is over
            self._keep(pair.token)

    def _keep(self, token: int) -> None:
        if token:
            whole = DATA.with_suffix(".new")
            self.connection.execute("VACUUM INTO ?", [str(whole)])
            whole.rename(DATA)


def guest() -> Kept:
    made = Kept(CAPACITY, schema=Path("schema.sql").read_text(), listen=os.environ["SOAK_LISTEN"])
    if DATA.exists():
        with closing(sqlite3.connect(DATA)) as kept:
            kept.backup(made.connection)
    return made
