"""The description says how long each device section is; the sizes themselves are checked with real QEMU."""

from __future__ import annotations

import json
from typing import Any

import pytest

from colo_fsm.stream import layout


def device(name: Any = "timer", instance: int = 0, **state: Any) -> dict[str, Any]:
    return {"name": name, "instance_id": instance, "vmsd_name": name, "version": 1, **state}


def laid_out(*devices: Any) -> Any:
    return layout(json.dumps({"page_size": 4096, "devices": devices}).encode())


def field(size: Any, **more: Any) -> dict[str, Any]:
    return {"name": "f", "type": "uint64", "size": size, **more}


def test_fields_arrays_and_subsections_add_up() -> None:
    """A struct's size counts what is in it; a subsection has its type, name and version on top."""
    inner = {"vmsd_name": "cpu/msr", "version": 1, "fields": [field(8)]}
    outer = {"vmsd_name": "cpu/x", "version": 1, "fields": [field(2)], "subsections": [inner]}
    fields = [field(8), field(4, array_len=3), field(6, struct={"fields": [field(6)]})]
    found = laid_out(device("cpu", 1, fields=fields, subsections=[outer]))
    assert found == {("cpu", 1): [26 + (6 + 5 + 2) + (6 + 7 + 8)]}


def test_two_of_one_name_are_both_there_and_one_without_fields_is_empty() -> None:
    assert laid_out(device(fields=[field(5)]), device(fields=[field(6)]), device("apic", 3)) == {
        ("timer", 0): [5, 6],
        ("apic", 3): [0],
    }
    assert laid_out() == {}


@pytest.mark.parametrize(
    "described",
    [
        [], 7, None, {}, {"devices": 3}, {"devices": [3]}, {"devices": [{"name": "timer"}]},
        {"devices": [device(fields=7)]}, {"devices": [device(fields=[field("8")])]},
        {"devices": [device(fields=[field(-8)])]}, {"devices": [device(fields=[field(8.5)])]},
        {"devices": [device(fields=[field("x", array_len=1 << 60)])]}, {"devices": [device([])]},
        {"devices": [device(subsections=[{"fields": []}])]},
    ],
)  # fmt: skip
def test_what_says_it_in_another_way_says_nothing(described: Any) -> None:
    assert layout(json.dumps(described).encode()) is None


@pytest.mark.parametrize("text", [b"", b"{", b"\xff{}"])
def test_what_is_not_json_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting|codec can't decode"):
        layout(text)
