"""docs/qemu-versions.md says what was run."""

from __future__ import annotations

from pathlib import Path

import matrix
import pytest
import qemus
from qemu import needs_kvm

PAGE = Path(__file__).parent.parent / "docs" / "qemu-versions.md"


def test_the_page_has_every_version_machine_and_column() -> None:
    found = matrix.read(PAGE.read_text())
    assert [row[:2] for row in found] == [(v.expected, m) for v in qemus.VERSIONS for m in matrix.MACHINES]
    assert matrix.table(found) in PAGE.read_text()
    assert {cell.partition(":")[0] for row in found for cell in row[2:]} <= {matrix.YES, "no"}
    for column in matrix.COLUMNS:
        assert f"- `{column}`: " in PAGE.read_text()


@pytest.mark.soak
@needs_kvm
def test_the_page_says_what_happens(qemu_version: qemus.Version) -> None:
    wanted = [row for row in matrix.read(PAGE.read_text()) if row[0] == qemu_version.name]
    assert list(matrix.rows(qemu_version)) == wanted
