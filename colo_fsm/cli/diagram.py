"""`colo-fsm diagram`: the machines as pictures, drawn from the tables."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from colo_fsm.colo import Mode, Profile, ReleaseOn, Variant
from colo_fsm.draw import FORMATS, DrawError, pictures


@click.command(epilog="\b\nExit status:\n  0  drawn\n  1  it could not be drawn or written\n  2  bad usage")
@click.argument("what", type=click.Choice(["primary", "secondary", "pair"]))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to FILE.")
@click.option(
    "--format", "chosen", type=click.Choice(list(FORMATS)), help="Default: by FILE's ending, else dot."
)
@click.option("--profile", type=click.Choice([*map(str, Profile)]), default="qemu", show_default=True)
@click.option("--mode", type=click.Choice([*map(str, Mode)]), default="periodic", show_default=True)
@click.option(
    "--release-on", type=click.Choice([*map(str, ReleaseOn)]), default="received", show_default=True
)
def diagram(
    what: str, output: Path | None, chosen: str | None, profile: str, mode: str, release_on: str
) -> None:
    """Draw one side, or both with the messages between them, from the tables that run.

    \b
    Example:
      colo-fsm diagram pair -o pair.svg
    """
    chosen = chosen or _by_ending(output) or "dot"
    variant = Variant(Profile(profile), Mode(mode), ReleaseOn(release_on))
    try:
        drawn = pictures(variant)[what].to(chosen)
        if output is not None:
            output.write_bytes(drawn)
            return
    except (DrawError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if chosen == "png" and sys.stdout.isatty():
        raise click.UsageError("a PNG is nothing for a terminal: name a file with -o FILE")
    sys.stdout.buffer.write(drawn)


def _by_ending(output: Path | None) -> str | None:
    ending = output.suffix.removeprefix(".") if output else ""
    formats = {known: name for name, known in FORMATS.items()}
    if ending and ending not in formats:
        raise click.UsageError(f"'{output}': give --format, or an ending among {', '.join(formats)}")
    return formats.get(ending)
