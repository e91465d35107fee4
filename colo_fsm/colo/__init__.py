"""COLO: its words and its two tables. Start reading at `primary.py` and `secondary.py`."""

from .primary import PRIMARY
from .secondary import SECONDARY
from .sessions import TABLES, PrimarySession, SecondarySession, colo_machine
from .words import COLO, COLOMessage, Mode, Profile, ReleaseOn, ResumeOn, State, Variant

__all__ = [
    "COLO",
    "PRIMARY",
    "SECONDARY",
    "TABLES",
    "COLOMessage",
    "Mode",
    "PrimarySession",
    "Profile",
    "ReleaseOn",
    "ResumeOn",
    "SecondarySession",
    "State",
    "Variant",
    "colo_machine",
]
