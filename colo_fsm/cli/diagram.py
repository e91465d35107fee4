"""`colo-fsm diagram`: the machines as pictures, drawn from the tables."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from colo_fsm import draw
from colo_fsm.colo import TABLES, Mode, Profile, ReleaseOn, ResumeOn, Variant
from colo_fsm.fsm import CompleteTable, Side, TableError, complete

from .load import table_named
from .status import exit_codes

WHAT = ("primary", "secondary", "pair", "checkpoint", "member", "watch-primary")


@click.command(epilog=exit_codes("drawn", "it could not be drawn or written"))
@click.argument("what", required=False, type=click.Choice(WHAT))
@click.option("--primary", metavar="MODULE:TABLE", help="A Table of yours for the Primary.")
@click.option("--secondary", metavar="MODULE:TABLE", help="A Table of yours for the Secondary.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to FILE.")
@click.option(
    "--format", "chosen", type=click.Choice(list(draw.FORMATS)), help="Default: by FILE's ending, else dot."
)
@click.option("--profile", type=click.Choice([*map(str, Profile)]), default="qemu", show_default=True)
@click.option("--mode", type=click.Choice([*map(str, Mode)]), default="periodic", show_default=True)
@click.option("--release-on", type=click.Choice([*map(str, ReleaseOn)]), default="loaded", show_default=True)
@click.option("--resume-on", type=click.Choice([*map(str, ResumeOn)]), default="loaded", show_default=True)
def diagram(
    what: str | None,
    primary: str | None,
    secondary: str | None,
    output: Path | None,
    chosen: str | None,
    profile: str,
    mode: str,
    release_on: str,
    resume_on: str,
) -> None:
    """Draw one side, both with the messages between them, one checkpoint on a time axis, or rows of ours.

    Drawn is what you name tables for, else COLO's pair. A side without a table of yours has COLO's.

    \b
    Example:
      colo-fsm diagram pair -o pair.svg
      colo-fsm diagram checkpoint --resume-on saved -o checkpoint.svg
      colo-fsm diagram --primary mymodule:PRIMARY --secondary mymodule:SECONDARY -o mine.svg
    """
    specs = {side: spec for side, spec in zip(Side, (primary, secondary), strict=True) if spec}
    what = what or (str(*specs) if len(specs) == 1 else "pair")
    chosen = chosen or _by_ending(output) or "dot"
    try:
        variant = Variant(Profile(profile), Mode(mode), ReleaseOn(release_on), ResumeOn(resume_on))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if what in ("member", "watch-primary"):
        if specs:
            raise click.UsageError(f"a {what} has its own rows: leave --primary and --secondary out")
        picture = draw.pictures()[what]
    else:
        picture = _picture(what, {side: _table(side, specs.get(side), variant) for side in Side})
    if chosen not in picture.formats:
        raise click.UsageError(f"a {what} can be had as {', '.join(picture.formats)}; name one with --format")
    try:
        drawn = picture.to(chosen)
        if output is not None:
            output.write_bytes(drawn)
            return
    except (draw.DrawError, TableError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if chosen == "png" and sys.stdout.isatty():
        raise click.UsageError("a PNG is nothing for a terminal: name a file with -o FILE")
    sys.stdout.buffer.write(drawn)


def _picture(what: str, tables: dict[Side, CompleteTable]) -> draw.Picture:
    try:
        match what:
            case "pair":
                return draw.pair(*tables.values())
            case "checkpoint":
                return draw.checkpoint(*tables.values())
            case _:
                return draw.side(tables[Side(what)])
    except TableError as error:
        raise click.BadParameter(str(error), param_hint="--primary, --secondary") from None


def _table(side: Side, spec: str | None, variant: Variant) -> CompleteTable:
    """This side's table, of this variant if its rows have choices."""
    hint = f"--{side}"
    table = TABLES[side] if spec is None else table_named(spec, hint, side)
    parts = (table.rows, table.begins_with, table.on_error)
    try:
        return complete(table, variant if any(part(variant) != part(()) for part in parts) else ())
    except TableError as error:
        raise click.BadParameter(f"'{spec}': {error}", param_hint=hint) from None


def _by_ending(output: Path | None) -> str | None:
    ending = output.suffix.removeprefix(".") if output else ""
    formats = {known: name for name, known in draw.FORMATS.items()}
    if ending and ending not in formats:
        raise click.UsageError(f"'{output}': give --format, or an ending among {', '.join(formats)}")
    return formats.get(ending)
