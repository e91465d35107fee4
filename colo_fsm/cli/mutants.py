"""`colo-fsm mutants`: would the checks notice a wrong table?"""

from __future__ import annotations

import json
import sys

import click

from colo_fsm.check.mutation.judge import check
from colo_fsm.check.mutation.report import as_json, lines

EXIT_CODES = """
\b
Exit status:
  0  every mutant that is not equivalent is killed
  1  some survive
  2  bad usage
"""


@click.command(epilog=EXIT_CODES)
@click.option("--json", "as_data", is_flag=True, help="Print one JSON object.")
@click.option(
    "--sample", type=click.IntRange(1), metavar="N", help="Judge about N of them, always the same ones."
)
@click.option("--jobs", type=click.IntRange(1), metavar="J", help="Processes. Default: one a core.")
def mutants(as_data: bool, sample: int | None, jobs: int | None) -> None:
    """Put one slip into the tables, every one there is, and see whether a property breaks.

    Prints how many are killed, which property kills them, and the list of those that are equivalent: the
    same reachable graph, which is checked for each.

    \b
    Example:
      colo-fsm mutants --sample 1000
    """
    quiet = as_data or not sys.stderr.isatty()
    report = check(
        sample=sample, jobs=jobs, progress=lambda text: None if quiet else click.echo(text, err=True)
    )
    if as_data:
        click.echo(json.dumps(as_json(report), indent=2))
    else:
        click.echo("\n".join(lines(report)))
    sys.exit(0 if report.ok else 1)
