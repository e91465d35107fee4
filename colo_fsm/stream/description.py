"""The description that QEMU sends behind a stream: JSON that names every device's fields, and their sizes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .format import U8, U32

Layout = Mapping[tuple[str, int], Sequence[int]]
"""By name and instance, the bytes that a device's body has; several, in their order, if two have one name."""

_SUBSECTION_HEAD = 2 * U8.size + U32.size  # type, length of the name, version; the name comes on top


def layout(description: bytes) -> Layout | None:
    """How long each device section is; None if it does not say so in the way that QEMU does.

    Raises ValueError or RecursionError if it is not JSON.
    """
    described = json.loads(description)
    found: dict[tuple[str, int], list[int]] = {}
    try:
        for device in described["devices"]:
            found.setdefault((device["name"], device["instance_id"]), []).append(_size(device))
    except (TypeError, KeyError, AttributeError):
        return None
    return found


def _size(state: Mapping[str, Any]) -> int:
    """The bytes of a device's body, or of a subsection's: its fields, which count what is in them."""
    fields = sum(
        _number(each["size"]) * _number(each.get("array_len", 1)) for each in state.get("fields", ())
    )
    inner = state.get("subsections", ())
    return fields + sum(_SUBSECTION_HEAD + len(each["vmsd_name"]) + _size(each) for each in inner)


def _number(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError(value)
    return value
