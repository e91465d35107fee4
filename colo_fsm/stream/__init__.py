"""The migration stream: a guest's memory and device state as bytes, and back (see `format`).

`InitialDecoder`, `LiveDecoder`, `initial` and `live` are for guests of our own, `VmInitialDecoder`,
`VmLiveDecoder`, `device_sections` and `vm` for virtual machines of a real QEMU.

Knows no socket, clock or protocol state: bytes in, pages out, and the other way round.
"""

from __future__ import annotations

from .decode import DEFAULT_LIMIT, InitialDecoder, LiveDecoder, decode_device_state
from .description import Layout, layout
from .devices import DeviceSection, RoundSections, device_sections
from .encode import device_state, greeting, initial, initial_steps, live, vm
from .head import Greeting
from .memory import PAGE_SIZE, ZERO_PAGE, Blocks, Buffer, Delta, Page, PatchSink, Sink
from .ram import Ram
from .sections import pong, shut
from .source import Decoder, StreamError
from .vm_decode import DEVICE_LIMIT, DescriptionDecoder, VmInitialDecoder, VmLiveDecoder

__all__ = [
    "DEFAULT_LIMIT",
    "DEVICE_LIMIT",
    "PAGE_SIZE",
    "ZERO_PAGE",
    "Blocks",
    "Buffer",
    "Decoder",
    "Delta",
    "DescriptionDecoder",
    "DeviceSection",
    "Greeting",
    "InitialDecoder",
    "Layout",
    "LiveDecoder",
    "Page",
    "PatchSink",
    "Ram",
    "RoundSections",
    "Sink",
    "StreamError",
    "VmInitialDecoder",
    "VmLiveDecoder",
    "decode_device_state",
    "device_sections",
    "device_state",
    "greeting",
    "initial",
    "initial_steps",
    "layout",
    "live",
    "pong",
    "shut",
    "vm",
]
