"""A command run on a terminal, as a person has it."""

from __future__ import annotations

import os
import pty
import subprocess
from contextlib import suppress


def run(command: list[str]) -> str:
    """All that it shows, control sequences too, until it ends."""
    ours, theirs = pty.openpty()
    try:
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment):
            os.close(theirs)
            shown = b""
            with suppress(OSError):  # on Linux, a terminal whose other end is closed says EIO
                while data := os.read(ours, 1 << 16):
                    shown += data
    finally:
        os.close(ours)
    return shown.decode(errors="replace")
