"""Print the figures of this machine. Absolute ones drift; quote the ratios.

    python -m benchmarks [--only PART]... [--quick] [--json FILE]
    python -m benchmarks --write docs/performance.md docs/performance.json

FILE keeps the parts that are not run again, if they are of this machine. The second command only writes.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

from . import page
from .table import HEAD, TARGETS, Part, Row, line, title

PARTS = (
    "machine", "explore", "rounds", "orderbook", "memory", "sqlite", "sqlite_service", "growth", "members",
    "qemu", "standby", "gate",
)  # fmt: skip


def part(name: str) -> Part:
    """The module of this name, which may need the extra `bench`."""
    return cast(Part, import_module(f"{__package__}.{name}"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, whatever is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="PART", action="append", choices=PARTS, help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="the smallest sample: shows only that it runs")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows there, too")
    parser.add_argument("--write", metavar=("PAGE", "FILE"), nargs=2, type=Path, help="PAGE from such a FILE")
    options = parser.parse_args(arguments)
    if options.write:
        page.write(*options.write)
        return 0
    measured = set[str]()
    print(line(HEAD))
    for name in options.only or PARTS:
        module, rows = part(name), list[Row]()
        print(f"\n{title(module)}")
        try:
            for row in module.rows(options.quick):
                print("  " + line(row.cells), flush=True)
                rows.append(row)
        finally:
            if options.json:
                page.keep(options.json, getattr(module, "KEPT_AS", name), title(module), rows)
        measured |= {row.work for row in rows}
    if not options.only and (unmet := TARGETS.keys() - measured):
        print("\nnot measured: " + "; ".join(sorted(unmet)))
    return 0


if __name__ == "__main__":
    logging.getLogger("colo_fsm").setLevel(logging.CRITICAL)  # that a side is killed is how most parts end
    sys.exit(main())
