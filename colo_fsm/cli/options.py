"""Options that several commands have, each written once."""

from __future__ import annotations

from typing import TypedDict

import click

from .numbers import MILLISECONDS, SECONDS

interval = click.option(
    "--interval-ms",
    type=MILLISECONDS,
    default=100,
    show_default=True,
    help="From the moment that the guest runs on to the next checkpoint while no answer waits for it.",
)
min_interval = click.option(
    "--min-interval-ms",
    type=MILLISECONDS,
    default=0,
    show_default=True,
    help="The same at least, however many answers wait: it bounds the load.",
)
deadline = click.option(
    "--deadline",
    type=SECONDS,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the link may stand still inside a checkpoint.",
)
hook_deadline = click.option(
    "--hook-deadline",
    type=SECONDS,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the guest, the store or a turn may keep a checkpoint waiting.",
)
greeting_deadline = click.option(
    "--greeting-deadline",
    type=SECONDS,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a connection has to show the first bytes of a Primary's stream.",
)
"""Of whoever listens for a Primary: `secondary`, `standby` and `tap`."""
fsync = click.option("--fsync", is_flag=True, help="The store survives power loss, too.")
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line for every event.")


class Intervals(TypedDict):
    """Two of `Options`, in seconds."""

    interval: float
    min_interval: float


def intervals(interval_ms: float, min_interval_ms: float) -> Intervals:
    """What these two options say. Raises click.UsageError."""
    if min_interval_ms > interval_ms:
        raise click.UsageError(
            f"--min-interval-ms {min_interval_ms:g} is more than --interval-ms {interval_ms:g}"
        )
    return {"interval": interval_ms / 1000, "min_interval": min_interval_ms / 1000}
