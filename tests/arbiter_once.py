"""A command for `exec:`: the first side to link its claim file to the generation's name has won.

    arbiter_once.py DIRECTORY [--die-before | --die-after] GENERATION SIDE

`--die-...`: it is killed before or after the moment that decides.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import tempfile
from pathlib import Path


def once(directory: Path, *fault: str) -> str:
    """The URL of this command on this directory. `-S -E`: it starts twice as fast."""
    return "exec:" + shlex.join([sys.executable, "-S", "-E", __file__, str(directory), *fault])


def main(directory: Path, faults: list[str], generation: str, side: str) -> int:
    if "--die-before" in faults:
        os.kill(os.getpid(), signal.SIGKILL)
    with tempfile.NamedTemporaryFile("w", dir=directory) as mine:
        mine.write(side)
        mine.flush()
        with contextlib.suppress(FileExistsError):
            os.link(mine.name, directory / generation)
    if "--die-after" in faults:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0 if (directory / generation).read_text() == side else 10


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:-2], *sys.argv[-2:]))
