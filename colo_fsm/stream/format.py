"""The migration stream on the wire: what our own guests use of QEMU's format, and what QEMU uses.

All numbers are big-endian. A `name` is a u8 length and as many bytes of UTF-8.

Initial stream of our own guests, once, before `checkpoint-ready`::

    head            u32 "QEVM", u32 3
    configuration   07, u32 length, machine name
    sign of life    "LIFE"                           between sections, as many as needed
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

Read here but not written by us: fill bytes other than zero; any number of ends in a round.

A real QEMU sends more (see `vm_decode`); what changes the stream by a capability is refused by its name::

    subsection      05, name, u32 version, body     behind the configuration, see `head`
    device          as above, but the body is opaque and has no length: see `devices`
    command         08, u16 command, u16 length, data       between sections, see `sections`
    040  XBZRLE     [name], u8 1, u16 length, what changed in the page: see `ram`

Its "description" may be missing; the next COLO message begins with 00, which tells them apart.

Source: QEMU's docs/devel/migration/main.rst, "Stream structure"; the RAM records, commands and
subsections were checked against streams of QEMU 7.2 and of a 10.2 development tree.
"""

from __future__ import annotations

from struct import Struct

U8 = Struct(">B")
U16 = Struct(">H")
U32 = Struct(">I")
U64 = Struct(">Q")

MAGIC = 0x5145564D
VERSION = 3
MACHINE = "colo-fsm"
MAX_NAME = 255
MAX_DESCRIPTION = 16 << 20
"""Bytes of description to accept: it is passed over, so this only bounds a wrong length."""

MAX_SUBSECTIONS = 4096
MAX_BLOCKS = 4096
MULTIFD_MAGIC = 0x11223344
"""What the further connections of a Primary with multifd begin with."""

# What stands at the start of each part of the stream.
END_OF_STREAM = 0x00
SECTION_START = 0x01
SECTION_PART = 0x02
SECTION_END = 0x03
SECTION_FULL = 0x04
SUBSECTION = 0x05
DESCRIPTION = 0x06
CONFIGURATION = 0x07
COMMAND = 0x08
FOOTER = 0x7E

UNREAD_SECTIONS = {
    SUBSECTION: "a subsection",
    DESCRIPTION: "a description",
    CONFIGURATION: "a second configuration",
    COMMAND: "a command",
}

# Commands: how many bytes of data has each that is read here; what the others are called, and which
# capability they belong to.
OPEN_RETURN_PATH = 1
PING = 2
ENABLE_COLO = 8
SWITCHOVER_START = 11
COMMAND_SIZES = {OPEN_RETURN_PATH: 0, PING: U32.size, ENABLE_COLO: 0, SWITCHOVER_START: 0}
RETURN_PATH = "return-path (and postcopy-ram, switchover-ack)"
_POSTCOPY = "postcopy-ram"
UNREAD_COMMANDS = {
    3: ("POSTCOPY_ADVISE", "postcopy-ram (and dirty-bitmaps)"),
    4: ("POSTCOPY_LISTEN", _POSTCOPY),
    5: ("POSTCOPY_RUN", _POSTCOPY),
    6: ("POSTCOPY_RAM_DISCARD", _POSTCOPY),
    7: ("PACKAGED", _POSTCOPY),
    9: ("POSTCOPY_RESUME", _POSTCOPY),
    10: ("RECV_BITMAP", _POSTCOPY),
}
SHUT = 1
PONG = 2
"""Messages of the return path, with a u32 each: its end (0: all went well), and the answer to a PING."""

# Flags of a RAM record.
FLAGS = 0xFFF
ZERO = 0x002
MEM_SIZE = 0x004
PAGE = 0x008
EOS = 0x010
CONTINUE = 0x020
XBZRLE = 0x040

XBZRLE_ENCODING = 0x01

# What belongs to a capability that is not read here, and which one that is.
UNREAD_RECORDS = {XBZRLE: "xbzrle", 0x080: "rdma", 0x100: "compress", 0x200: "multifd"}
UNREAD_NAMES = {"block": "block", "dirty-bitmap": "dirty-bitmaps"}

# Our sections: name, version, and the ids that our encoder gives them.
RAM = "ram"
GENERATION = "colo-fsm/generation"
GUEST = "guest"
INSTANCE = 0
VERSIONS = {RAM: 4, GENERATION: 1, GUEST: 1}
SECTION_IDS = {RAM: 1, GENERATION: 2, GUEST: 3}
