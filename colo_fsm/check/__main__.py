"""`python -m colo_fsm.check DOCS DIAGRAMS` writes the generated parts of the docs; `--check`: what is stale?

DOCS/verification.md gets its tables, DIAGRAMS/counterexamples the pictures that it shows.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from colo_fsm.draw import DrawError, dot_hash
from colo_fsm.draw.renderer import hash_of

from . import report
from .members.search import MemberProperty
from .model.properties import Property
from .report import Verdict
from .scenarios import MATRIX, MEMBERS, Documented

SHOWN = (
    ("plain-link", Property.NO_SPLIT),
    ("plain-all-breaks", Property.NO_STALE),
    ("claim-damaged", Property.LOADABLE),
    ("claim-injected", Property.OUTPUT_COMMIT),
    ("two-disturbed", Property.OUTPUT_COMMIT),
    ("members-plain", MemberProperty.KEPT),
)
"""The counterexamples that the docs show."""

PAGE = "verification.md"

Judge = Callable[[Documented[Any]], Verdict]


def stale(docs: Path, diagrams: Path, judge: Judge) -> list[Path]:
    """The generated files that are missing or out of date."""
    return [path for path, _ in _outdated(docs, diagrams, judge)]


def write_all(docs: Path, diagrams: Path, judge: Judge) -> list[Path]:
    """Write those that are not fresh; returns them. Raises DrawError where nothing can draw."""
    written = list(_outdated(docs, diagrams, judge))
    for path, content in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content())
    return [path for path, _ in written]


def _outdated(docs: Path, diagrams: Path, judge: Judge) -> Iterator[tuple[Path, Callable[[], bytes]]]:
    pairs, members = [judge(each) for each in MATRIX], [judge(each) for each in MEMBERS]
    verdicts = {verdict.documented.name: verdict for verdict in (*pairs, *members)}
    page = docs / PAGE
    before = page.read_text()
    after = _filled(before, "properties", report.properties_markdown(Property))
    after = _filled(after, "matrix", report.markdown(pairs))
    after = _filled(after, "members", report.properties_markdown(MemberProperty))
    after = _filled(after, "members-matrix", report.markdown(members))
    if after != before:
        yield page, after.encode
    for name, which in SHOWN:
        path = diagrams / "counterexamples" / f"{name}-{which}.svg"
        drawn = verdicts[name].exchange(which)
        if not path.is_file() or dot_hash(path.read_text()) != hash_of(drawn.dot):
            yield path, lambda drawn=drawn: drawn.to("svg")  # type: ignore[misc]


def _filled(page: str, name: str, content: str) -> str:
    """The page with this content between its marks. Raises ValueError where they are missing."""
    marks = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if len(marks.findall(page)) != 1:
        raise ValueError(f"{PAGE} has no place for '{name}': <!-- generated: {name} --> and <!-- end -->")
    return marks.sub(lambda found: found[1] + content + found[2], page)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 if a checked file is stale or nothing can draw, else 0."""
    parser = argparse.ArgumentParser(prog="python -m colo_fsm.check", description=__doc__)
    parser.add_argument("docs", type=Path)
    parser.add_argument("diagrams", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    options = parser.parse_args(arguments)
    try:
        changed = (stale if options.check else write_all)(options.docs, options.diagrams, report.judged)
    except DrawError as error:
        print(error, file=sys.stderr)
        return 1
    for path in changed:
        print(f"{'stale' if options.check else 'written'}: {path}")
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
