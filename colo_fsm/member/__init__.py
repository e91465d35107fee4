"""The life of a data set over its machines: who has the newest state, who runs, who joins."""

from __future__ import annotations
