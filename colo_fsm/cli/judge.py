"""Who decides which side goes on alone, and what stops the other, on the command line."""

from __future__ import annotations

import click

from colo_fsm.arbiter import Arbiter, Fenced, Unarbitrated, open_arbiter

from .shown import shown

LONGEST_FENCE = 30.0
"""Seconds that a fencing command has, or half a hook's deadline: the claim that comes before needs some."""

arbiter_option = click.option(
    "--arbiter",
    metavar="URL",
    help="Who answers claims: sqlite:PATH (one machine), etcd://HOST,HOST,HOST/PREFIX or exec:COMMAND "
    "(generation and side are appended; exit 0 won, 10 lost, all else is no answer).",
)


fence_option = click.option(
    "--fence",
    metavar="COMMAND",
    help="Stops the peer once the claim is won, before anything runs alone (generation, this side and token "
    f"are appended). Exit 0 done; all else, or {LONGEST_FENCE:g} s, is tried again: twice must do no harm.",
)


def judge(arbiter: str | None, no_arbiter: bool, fence: str | None, hook_deadline: float) -> Arbiter:
    """Who answers the claims. Raises click.UsageError."""
    if (arbiter is None) is not no_arbiter:
        raise click.UsageError("say who answers claims: --arbiter URL, or --no-arbiter")
    try:
        chosen: Arbiter = Unarbitrated() if arbiter is None else open_arbiter(arbiter)
        return chosen if fence is None else Fenced(chosen, fence, min(LONGEST_FENCE, hook_deadline / 2))
    except (ValueError, OSError) as error:
        raise click.UsageError(shown(error)) from None
