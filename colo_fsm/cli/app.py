"""The commands of `colo-fsm`. Chosen for this: click, for its help pages and its one-line errors."""

from __future__ import annotations

import importlib

import click

from .output import Commands

MODULES = {
    "conformance": "conformance",
    "ctl": "ctl",
    "demo": "demo",
    "diagram": "diagram",
    "export": "export",
    "inspect": "inspect",
    "learn": "learn",
    "member": "member",
    "primary": "side",
    "replay": "watch",
    "restore": "restore",
    "secondary": "side",
    "simulate": "simulate",
    "standby": "standby",
    "tap": "watch",
    "trace": "watch",
    "verify": "verify",
    "watch-primary": "watch_primary",
}
"""Where each command is."""


class LoadedOnes(Commands):
    """A command's module is loaded when somebody asks for it: with all of them each would start later."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click."""
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click."""
        if cmd_name not in MODULES:
            return None
        module = importlib.import_module(f".{MODULES[cmd_name]}", __package__)
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command


@click.group(
    cls=LoadedOnes, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="colo-fsm")
def cli() -> None:
    """Keep a second machine ready to take over from a first (COLO checkpointing).

    \b
    Start here:
      colo-fsm demo              a replicated database survives the SIGKILL of its Primary
      colo-fsm demo --kill link  a cut link, and still only one side goes on
    """


def load(name: str = "") -> None:
    """Load the command of this name, if there is one."""
    cli.get_command(click.Context(cli), name)
