"""`colo-fsm ctl`: ask a side or a member that runs, at its control socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import click

from .control import COVERED, DEEDS
from .shown import shown
from .status import exit_codes

PATIENCE = 5.0
"""Seconds without an answer after which its event loop stands still."""

LONGEST = 2 * COVERED
"""The same for what takes its time."""

EXIT_CODES = exit_codes("done", "it cannot be now, or nobody answers there; the last line says why")


@click.command(epilog=EXIT_CODES)
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("do", metavar="|".join(DEEDS), type=click.Choice(DEEDS))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def ctl(path: Path, do: str, as_json: bool) -> None:
    """Ask the member, primary or secondary whose `--control` is PATH.

    \b
    status      what it is, and its figures
    failover    the other side is gone, whatever the link says: claim, and go on alone if that is won
    switchover  let the other member go on, in order (a member that is a protected Primary)
    checkpoint  take one now, and wait for it
    leave       end in order, as SIGTERM does

    \b
    Example:
      colo-fsm ctl /run/colo-fsm/a.ctl switchover
    """
    reply = asked(path, do)
    if as_json:
        known = reply["status"] if do == "status" and reply["ok"] else reply
        click.echo(json.dumps(known))
    elif reply["ok"]:
        click.echo(in_lines(reply["status"]) if do == "status" else shown(reply["said"]))
    if not reply["ok"]:
        if as_json:
            sys.exit(1)
        raise click.ClickException(shown(reply["why"]))


def asked(path: Path, deed: str) -> dict[str, Any]:
    """What is answered there. Raises click.ClickException when nothing is."""
    patience = PATIENCE if deed in ("status", "leave") else LONGEST
    try:
        return _reply(path, json.dumps({"do": deed}).encode() + b"\n", patience)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        why = f"nobody listens at {path}: name the --control of a member or a side that runs"
    except PermissionError:
        why = f"{path} is another user's: ask as the one whose process it is"
    except TimeoutError:
        why = f"whoever listens at {path} does not answer in {patience:g} s: its event loop stands still"
    except (OSError, ValueError, LookupError, TypeError) as error:
        why = f"{path} does not answer as a control socket does: {error}"
    raise click.ClickException(why)


def _reply(path: Path, request: bytes, patience: float) -> dict[str, Any]:
    heard, end = b"", time.monotonic() + patience
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(patience)
        link.connect(os.fspath(path))
        link.sendall(request)
        while not heard.endswith(b"\n"):
            link.settimeout(max(0.001, end - time.monotonic()))
            with contextlib.suppress(ConnectionResetError):
                if data := link.recv(1 << 16):
                    heard += data
                    continue
            raise ValueError("it has hung up")
    reply: dict[str, Any] = json.loads(heard)
    if not isinstance(reply["ok"], bool):
        raise TypeError("another program listens there")
    return reply


def in_lines(known: dict[str, Any]) -> str:
    """A status for people."""
    state = known["state"]
    if known["runs"]:
        state += ", protected" if known["protected"] else ", unprotected"
    elif known["ready"]:
        state += ", ready to take over"
    lines = [
        ("member", known["name"]),
        ("state", state),
        ("why", known["why"]),
        ("serving at", known["service"]),
        ("generation", known["generation"]),
        ("token", known["token"] or None),
        ("checkpoint", _checkpoint(known)),
        ("replies", f"{known['waiting_replies']} waiting for a checkpoint" if known["runs"] else None),
        ("capacity", _capacity(known)),
        ("unprotected", _seconds(known["unprotected_seconds"]) if known["unprotected_seconds"] else None),
        ("claim took", None if known["claim_seconds"] is None else _seconds(known["claim_seconds"])),
    ]
    return "\n".join(f"{name:<12} {shown(value)}" for name, value in lines if value is not None)


def _checkpoint(known: dict[str, Any]) -> str | None:
    if known["checkpoint_age"] is None:
        return None
    pause = "" if known["pause"] is None else f", paused {known['pause'] * 1000:.1f} ms"
    return f"{known['checkpoint']}, {_seconds(known['checkpoint_age'])} ago{pause}"


def _capacity(known: dict[str, Any]) -> str | None:
    used, capacity = known["capacity_used"], known["capacity"]
    return None if used is None else f"{used} of {capacity} bytes used ({used / capacity:.0%})"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s"
