"""Where QEMU migrates to: whose stream is taken there, and how a link is ended for all who wait on it."""

from __future__ import annotations

import contextlib
import socket

from colo_fsm.stream.format import MACHINE


def vms(machine: str) -> str | None:
    """Why a stream of this machine is not a VM of QEMU's; see `Door`."""
    if machine != MACHINE:
        return None
    return "only a VM of QEMU's is taken here: a guest of our own needs colo-fsm secondary"


def shut_down(link: socket.socket) -> None:
    """End this connection for whoever waits on it, too; close it later."""
    with contextlib.suppress(OSError):  # it is not connected any more
        link.shutdown(socket.SHUT_RDWR)
