"""What the clients of the demo were told, kept so that all of it can be checked at the end.

The database has a fixed capacity, and how many rows a run writes depends on the machine. So the log keeps its
newest rows, and forgets an older one together with the remembered reply of its key. Nothing that is lost
escapes by that: ids are given once, in order. A lost row is missing where it must still be, or its id is
given to another row, which somebody is told in the end: two rows under one id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import attrs

KEPT = 4096
"""Rows: with the longest values and SQLite's own needs about half of the capacity of 16 MiB."""

SCHEMA = f"""
CREATE TABLE log (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
CREATE TRIGGER forget AFTER INSERT ON log BEGIN
  DELETE FROM colo_fsm_replies WHERE key = (SELECT key FROM log WHERE id = new.id - {KEPT});
  DELETE FROM log WHERE id = new.id - {KEPT};
END;
"""  # noqa: S608 - a number of ours


@attrs.define
class _Told:
    """A row as clients know it."""

    key: str
    value: str | None = None
    """Of an acknowledged one."""
    read: bool = False


class Ledger:
    """The rows that were acknowledged or read. It forgets what the log has forgotten long ago."""

    def __init__(self) -> None:
        self.acknowledged = self.reads = 0
        self.lost = self.reads_lost = 0
        self._rows: dict[int, _Told] = {}
        self._newest = 0

    def acknowledge(self, number: int, key: str, value: str) -> None:
        """A client was told that its row has this id; a retry tells it again."""
        row = self._told(number, key)
        self.acknowledged += row.value is None
        row.value = value

    def read(self, number: int, key: str) -> None:
        """A client was shown this row."""
        row = self._told(number, key)
        self.reads += not row.read
        row.read = True

    def check(self, rows: Collection[tuple[int, str, str]]) -> None:
        """Count as lost what is not there exactly once, unchanged. `rows`: all that the survivor holds."""
        there = {number: (key, value) for number, key, value in rows}
        times = Counter(key for _, key, _ in rows)
        for number, row in self._rows.items():
            if number > max(there, default=0) - KEPT:
                key, value = there.get(number, ("", ""))
                if key != row.key or times[key] != 1 or row.value not in (None, value):
                    self._lose(row)

    def _told(self, number: int, key: str) -> _Told:
        row = self._rows.get(number)
        if row is not None and row.key == key:
            return row
        if row is not None:
            self._lose(row)
        elif number <= self._newest - 2 * KEPT:
            self.lost += 1  # whoever had this id is forgotten, and so should the id be
        self._rows[number] = row = _Told(key)
        self._newest = max(number, self._newest)
        if len(self._rows) > 4 * KEPT:
            self._rows = {n: r for n, r in self._rows.items() if n > self._newest - 2 * KEPT}
        return row

    def _lose(self, row: _Told) -> None:
        self.lost += row.value is not None
        self.reads_lost += row.read
