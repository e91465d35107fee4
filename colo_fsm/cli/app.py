"""The commands of `colo-fsm`. Chosen for this: click, for its help pages and its one-line errors."""

from __future__ import annotations

import click

from .conformance import conformance
from .ctl import ctl
from .demo import demo
from .diagram import diagram
from .export import export
from .inspect import inspect
from .learn import learn
from .member import member
from .output import Commands
from .restore import restore
from .side import primary, secondary
from .simulate import simulate
from .standby import standby
from .verify import verify
from .watch import replay, tap, trace


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="colo-fsm")
def cli() -> None:
    """Keep a second machine ready to take over from a first (COLO checkpointing).

    \b
    Start here:
      colo-fsm demo              a replicated database survives the SIGKILL of its Primary
      colo-fsm demo --kill link  a cut link, and still only one side goes on
    """


for _command in (
    demo,
    primary,
    secondary,
    member,
    ctl,
    standby,
    restore,
    inspect,
    export,
    tap,
    replay,
    trace,
    diagram,
    verify,
    simulate,
    conformance,
    learn,
):
    cli.add_command(_command)
