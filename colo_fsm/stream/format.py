"""The migration stream on the wire: the part of QEMU's format that our own guests use.

All numbers are big-endian. A `name` is a u8 length and as many bytes of UTF-8.

Initial stream, once, before `checkpoint-ready`::

    head            u32 "QEVM", u32 3
    configuration   07, u32 length, machine name
    RAM start       01, u32 section, name "ram", u32 instance 0, u32 version 4, block list, footer
    RAM part        02, u32 section, records, footer         as many as needed
    RAM end         03, u32 section, records, footer         once, the last of RAM
    device          04, u32 section, name, u32 instance 0, u32 version 1, body, footer
                        "colo-fsm/generation"   body: u64 generation
                        "guest"                 body: u32 length, device state
    end             00
    description     06, u32 length, JSON: the fields of the device sections and their sizes

    footer          7e, u32 section

Every round::

    live state      RAM part and RAM end sections with the dirty pages, then 00
    device state    the "guest" section, then 00         its length is what vmstate-size announces

Records of RAM are a u64 each: an address, which is a multiple of 4096, plus flags in the low 12
bits. The last one of every section has the flag EOS. ::

    004  MEM_SIZE   "address" is the memory's total; then per block: name, u64 capacity
    002  ZERO       [name of the block], u8: the byte that fills the page
    008  PAGE       [name of the block], 4096 bytes
    010  EOS        end of the section's body
    020  CONTINUE   added to ZERO or PAGE: no name, the block is that of the record before

"The record before" may stand in an earlier section or round. Our encoder names the block on the
first record of each section all the same; a decoder has to remember it.

Read here but not written by us: fill bytes other than zero; any number of ends in a round. Not
read: see UNREAD_SECTIONS and UNREAD_RECORDS. QEMU's own device sections carry no length (their
end is found by the footers); ours carry one, so that they need no search.

Source: QEMU's docs/devel/migration/main.rst, "Stream structure"; the RAM records were checked
against streams recorded from a QEMU 10.2 development tree.
"""

from __future__ import annotations

from struct import Struct

U8 = Struct(">B")
U32 = Struct(">I")
U64 = Struct(">Q")

MAGIC = 0x5145564D
VERSION = 3
MACHINE = "colo-fsm"
MAX_NAME = 255
MAX_DESCRIPTION = 16 << 20
"""Bytes of description to accept: it is passed over, so this only bounds a wrong length."""

# What stands at the start of each part of the stream.
END_OF_STREAM = 0x00
SECTION_START = 0x01
SECTION_PART = 0x02
SECTION_END = 0x03
SECTION_FULL = 0x04
DESCRIPTION = 0x06
CONFIGURATION = 0x07
FOOTER = 0x7E

UNREAD_SECTIONS = {
    0x05: "a subsection",
    DESCRIPTION: "a description",
    CONFIGURATION: "a second configuration",
    0x08: "a command",
}

# Flags of a RAM record.
FLAGS = 0xFFF
ZERO = 0x002
MEM_SIZE = 0x004
PAGE = 0x008
EOS = 0x010
CONTINUE = 0x020

UNREAD_RECORDS = {
    0x040: "an xbzrle page",
    0x080: "a hook",
    0x100: "a compressed page",
    0x200: "a multifd flush",
}

# Our sections: name, version, and the ids that our encoder gives them.
RAM = "ram"
GENERATION = "colo-fsm/generation"
GUEST = "guest"
INSTANCE = 0
VERSIONS = {RAM: 4, GENERATION: 1, GUEST: 1}
SECTION_IDS = {RAM: 1, GENERATION: 2, GUEST: 3}
