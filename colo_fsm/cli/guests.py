"""What is replicated, as the options of `primary`, `secondary` and `member` say it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click

from colo_fsm.replica import AsyncGuest, Guest
from colo_fsm.services.sqlite_server import CAPACITY, described

from .load import named
from .shown import shown

Command = Callable[..., Any]


@attrs.frozen
class Wanted:
    """What these options say, as click hands them over."""

    guest_spec: str
    serve: str | None
    schema: Path | None
    capacity: int | None
    max_clients: int | None

    def made(self) -> Guest | AsyncGuest:
        """The guest. Raises click.UsageError."""
        guest = self._sqlite() if self.guest_spec == "sqlite" else self._own()
        if self.max_clients is not None:
            _limit_clients(guest, self.max_clients)
        return guest

    def _own(self) -> Guest | AsyncGuest:
        options = (("--serve", self.serve), ("--schema", self.schema), ("--capacity", self.capacity))
        if given := [option for option, value in options if value]:
            raise click.UsageError(f"{', '.join(given)}: for --guest sqlite; your own guest has its own ways")
        return load_guest(self.guest_spec)

    def _sqlite(self) -> Guest:
        if self.serve is None:
            raise click.UsageError("say where the sqlite guest answers its clients: --serve ADDR")
        try:
            return described(self.serve, self.capacity or CAPACITY, self.schema)
        except ValueError as error:
            raise click.UsageError(shown(error)) from None


def guest_options(command: Command) -> Command:
    """The options that say it; the command is given a `guest`, which is a `Wanted`."""

    @functools.wraps(command)
    def wanting(**options: Any) -> Any:
        fields = {field.name: options.pop(field.name) for field in attrs.fields(Wanted)}
        return command(guest=Wanted(**fields), **options)

    made: Command = wanting
    for option in reversed(OPTIONS):
        made = option(made)
    return made


OPTIONS = (
    click.option(
        "--guest",
        "guest_spec",
        required=True,
        metavar="sqlite|MODULE:FACTORY",
        help="What is replicated. Its coroutine `serve(pair)`, if any, runs where the guest runs.",
    ),
    click.option("--serve", metavar="ADDR", help="Where the sqlite guest answers its clients."),
    click.option(
        "--schema",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="SQL that makes the sqlite guest's tables.",
    ),
    click.option(
        "--capacity",
        type=click.IntRange(min=1),
        metavar="BYTES",
        help="What the sqlite guest may grow to; the same on both sides. [default: 16 MiB]",
    ),
    click.option(
        "--max-clients",
        type=click.IntRange(min=1),
        metavar="N",
        help="How many clients the guest's service takes at a time; one more is told so. "
        "[default: 1000, or what `ulimit -n` has room for]",
    ),
)


def load_guest(spec: str) -> Guest | AsyncGuest:
    """What `module:factory` makes. Raises click.BadParameter."""
    guest = named(spec, "MODULE:FACTORY", "my_service:guest", make=lambda factory: factory())
    if not isinstance(guest, Guest):
        raise click.BadParameter(f"'{spec}' made a {type(guest).__name__}, which is no Guest")
    return guest


def _limit_clients(guest: Any, most: int) -> None:
    """Serve so many at a time. Raises click.BadParameter."""
    if not hasattr(guest, "max_clients"):
        raise click.BadParameter("--max-clients is for a guest that serves clients, and this one does not")
    try:
        guest.max_clients = most
    except ValueError as error:
        raise click.BadParameter(f"--max-clients: {error}") from None
