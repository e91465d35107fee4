"""Examples of the documentation, for tests that run them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"


def example(page: str, name: str) -> str:
    """The block behind `<!-- run: name -->`."""
    found = re.search(rf"<!-- run: {name} -->\n```\w+\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def memory_guest(size: int) -> Any:
    """A guest with dirty pages, as docs/embedding.md tells how to write one."""
    names: dict[str, Any] = {}
    exec(example("embedding.md", "dirty pages"), names)  # noqa: S102 - ours
    return names["Memory"](size)
