"""Who goes on alone: a one-shot claim per generation, behind one small interface.

Build one with `open_arbiter`. The Primary opens a generation and sends it to the Secondary, each side
checks it at start, and a side that meets the end of the replication claims it before it runs alone.
"""

from __future__ import annotations

from .base import (
    Arbiter,
    ArbiterError,
    ArbiterUnreachable,
    Claim,
    GenerationClaimed,
    UnknownGeneration,
)
from .cluster import FORM as _ETCD_FORM
from .etcd import EtcdArbiter, EtcdRegister
from .exec import ExecArbiter
from .fence import Fenced, NotFenced
from .none import Unarbitrated
from .register import Entry, Register, SqliteRegister, open_register
from .sqlite import SqliteArbiter

__all__ = [
    "Arbiter",
    "ArbiterError",
    "ArbiterUnreachable",
    "Claim",
    "Entry",
    "EtcdArbiter",
    "EtcdRegister",
    "ExecArbiter",
    "Fenced",
    "GenerationClaimed",
    "NotFenced",
    "Register",
    "SqliteArbiter",
    "SqliteRegister",
    "Unarbitrated",
    "UnknownGeneration",
    "open_arbiter",
    "open_register",
]


def open_arbiter(url: str) -> Arbiter:
    """The arbiter that `url` names: `sqlite:PATH` (one machine), `etcd://HOST,HOST,HOST/PREFIX` or
    `exec:COMMAND ARGS...`.

    Raises:
        ValueError: the URL has another form, or names what cannot be an arbiter.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        return SqliteArbiter(rest)
    if scheme == "exec" and rest:
        return ExecArbiter(rest)
    if scheme == "etcd" and rest.startswith("//"):
        return EtcdArbiter(rest[2:])
    raise ValueError(f"'{url}' names no arbiter: write sqlite:PATH, {_ETCD_FORM} or exec:COMMAND ARGS...")
