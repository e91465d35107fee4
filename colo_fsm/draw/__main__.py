"""`python -m colo_fsm.draw FOLDER` writes the pictures; with `--check` it only says which are stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import DrawError, stale, write_all


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 if a checked file is stale or nothing can draw, else 0."""
    parser = argparse.ArgumentParser(prog="python -m colo_fsm.draw", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    options = parser.parse_args(arguments)
    try:
        if not options.check:
            for path in write_all(options.folder):
                print(f"written: {path}")
            return 0
        found = stale(options.folder)
    except DrawError as e:
        print(e, file=sys.stderr)
        return 1
    for path in found:
        print(f"stale: {path}")
    if found:
        print("the tables have changed since these were drawn: run `make diagrams`")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
