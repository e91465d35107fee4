"""What is tested, as the options of `conformance` and `learn` say it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from colo_fsm.colo import Mode, Profile
from colo_fsm.conform import plan as plans
from colo_fsm.fsm import Side

from .numbers import SECONDS

Command = Callable[..., Any]

OPTIONS = (
    click.option("--side", type=click.Choice([*map(str, Side)]), help="Which side the target is."),
    click.option("--profile", type=click.Choice([*map(str, Profile)]), default="qemu", show_default=True),
    click.option("--mode", type=click.Choice([*map(str, Mode)]), default="periodic", show_default=True),
    click.option("--primary", metavar="MODULE:TABLE", help="A Table of yours for the Primary."),
    click.option("--secondary", metavar="MODULE:TABLE", help="A Table of yours for the Secondary."),
    click.option(
        "--guest", metavar="MODULE:FACTORY", help="A Secondary gets the state of this guest of yours."
    ),
    click.option(
        "--capture", metavar="DIR", help="A Secondary gets the state of the VM in this recording of a tap."
    ),
    click.option(
        "--listen", is_flag=True, help="An address is where the side connects to; a Primary always does."
    ),
    click.option("--ready", metavar="TEXT", help="A cmd: is ready when it has said a line with this text."),
    click.option(
        "--timeout",
        type=SECONDS,
        default=plans.TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="How long an answer may take; a side that is started, 6 times as long.",
    ),
)
NAMES = ("side", "profile", "mode", "primary", "secondary", "guest", "capture", "listen", "ready", "timeout")


def plan_options(command: Command) -> Command:
    """The options that say how targets are tested; the command is given a `plan`."""

    @functools.wraps(command)
    def planning(**options: Any) -> Any:
        chosen = {name: options.pop(name) for name in NAMES}
        with usage():
            made = plans.plan(chosen.pop("side"), **chosen)
        return command(plan=made, **options)

    made: Command = planning
    for option in reversed(OPTIONS):
        made = option(made)
    return made


class usage:
    """What is wrong in a plan is bad usage: a context manager that says so in one line."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, plans.PlanError):
            raise click.UsageError(str(error)) from None


def given(context: click.Context) -> dict[str, object]:
    """The options of the plan that were written, by their names."""
    said = ParameterSource.COMMANDLINE
    return {name: context.params[name] for name in NAMES if context.get_parameter_source(name) is said}
