"""Faults for tests/third_party/secondary.py, each a change of one line, and how a report has to name it."""

from __future__ import annotations

import attrs


@attrs.frozen
class Change:
    """A fault: what it is, the line that it changes, what stands there then, and words of the report."""

    name: str
    old: str
    new: str
    words: tuple[str, ...]


CHANGES = (
    Change("never ready", "self.link.sendall(READY)", "pass", ()),
    Change("ready twice", "self.link.sendall(READY)", "self.link.sendall(READY + READY)", ()),
    Change(
        "ready again in every round", "self.next(REQUEST)", "self.next(REQUEST); self.link.sendall(READY)", ()
    ),
    Change(
        "ready before the state is there",
        "        self.memory, self.device = self.initial()",
        "        self.link.sendall(READY); self.memory, self.device = self.initial()",
        (),
    ),
    Change(
        "ready before the state is there, once",
        "        self.next(START)",
        "        self.link.sendall(READY); READY = b''; self.next(START)",
        (),
    ),
    Change("wrong reply", "self.link.sendall(REPLY)", "self.link.sendall(RECEIVED)", ()),
    Change("no reply", "self.link.sendall(REPLY)", "pass", ()),
    Change("loaded before received", "self.link.sendall(RECEIVED)", "self.link.sendall(LOADED)", ()),
    Change("loaded is missing", "self.link.sendall(LOADED)", "pass", ()),
    Change(
        "loaded before the next round only",
        "self.next(REQUEST)",
        "self.next(REQUEST); hasattr(self, 'old') and self.link.sendall(LOADED); self.old=1",
        (),
    ),
    Change("little-endian messages", '(n.to_bytes(4, "big") for n', '(n.to_bytes(4, "little") for n', ()),
    Change("messages of eight bytes", '(n.to_bytes(4, "big") for n', '(n.to_bytes(8, "big") for n', ()),
    Change("messages of two bytes", '(n.to_bytes(4, "big") for n', '(n.to_bytes(2, "big") for n', ()),
    Change("numbers from one", "for n in range(7))", "for n in range(1, 8))", ()),
    Change("any message begins a round", "self.next(REQUEST)", "self.take(4)", ()),
    Change("any message for the live state", "self.next(SEND)", "self.take(4)", ()),
    Change("any message for the state", "self.next(SIZE)", "self.take(4)", ()),
    Change(
        "only the last byte of a message", "self.next(REQUEST)", "self.take(3); self.next(REQUEST[3:])", ()
    ),
    Change(
        "request within a round begins anew",
        "self.next(SEND)",
        "[self.link.sendall(REPLY) for _ in iter(lambda: self.next(SEND, REQUEST), SEND)]",
        (),
    ),
    Change(
        "invalid value ignored",
        "self.next(REQUEST)",
        "[0 for _ in iter(lambda: self.next(REQUEST, bytes((0, 0, 0, 7))), REQUEST)]",
        (),
    ),
    Change(
        "out of order is ignored",
        "            raise ValueError(f\"{found.hex()} in place of {' or",
        "            return self.next(*known); (f\"{found.hex()} in place of {' or",
        (),
    ),
    Change(
        "error message to the peer",
        'print(f"gives up: {error}", file=sys.stderr, flush=True)',
        "link.sendall(READY)",
        (),
    ),
    Change(
        "the link stays open",
        '        with link, link.makefile("rb") as file:',
        "        if (links := [*globals().get('links', ()), link]) and (file := link.makefile(\"rb\")):",
        (),
    ),
    Change(
        "end of the link is overlooked",
        "            raise EOFError(",
        "            return bytes(size); (",
        (),
    ),
    Change("live state unread", "changed = self.pages(PART, LAST, END)", "changed = {}", ()),
    Change("live state ends with RAM", "self.pages(PART, LAST, END)", "self.pages(PART, LAST)", ()),
    Change("size of four bytes", "self.state(self.number(8))", "self.state(self.number(4))", ()),
    Change(
        "size little-endian",
        "self.state(self.number(8))",
        "self.state(int.from_bytes(self.take(8), 'little'))",
        (),
    ),
    Change("size off by one", "self.state(self.number(8))", "self.state(self.number(8) - 1)", ()),
    Change(
        "received before the state is there",
        "device = self.state(self.number(8))",
        "self.link.sendall(RECEIVED); device = self.state(self.number(8))",
        (),
    ),
    Change(
        "received early, once",
        "self.next(SIZE)",
        "self.next(SIZE); self.link.sendall(RECEIVED); RECEIVED = b''",
        (),
    ),
    Change(
        "state unlooked at",
        "            device = self.state(self.number(8))",
        "            device = self.take(self.number(8))",
        (),
    ),
    Change("state not bounded by size", "io.BytesIO(self.take(size))", "self.file", ()),
    Change(
        "one round only",
        "        while True:\n            self.next(REQUEST)",
        "        for _ in (1,):\n            self.next(REQUEST)",
        (),
    ),
    Change(
        "fault in round three",
        "        while True:\n            self.next(REQUEST)",
        "        for _ in (1,2):\n            self.next(REQUEST)",
        (),
    ),
    Change(
        "fault in round ten",
        "        while True:\n            self.next(REQUEST)",
        "        for _ in range(9):\n            self.next(REQUEST)",
        (),
    ),
    Change(
        "a page without its contents",
        "self.take(PAGE_SIZE) if flags & PAGE",
        "bytes(PAGE_SIZE) if flags & PAGE",
        (),
    ),
    Change("a zero page without its byte", "self.take(1) * PAGE_SIZE", "bytes(PAGE_SIZE)", ()),
    Change(
        "name of the block in every record",
        "self.block if flags & CONTINUE else self.name()",
        "self.name()",
        (),
    ),
    Change("one block", "while left > 0:", "for _ in (1,):", ()),
    Change("no footers", "            self.expect(FOOTER + self.ram)\n        return", "        return", ()),
    Change("no description", "        self.take(self.number(4))\n        return", "        return", ()),
    Change("live state needs pages", "self.pages(PART, LAST, END)", "self.pages(LAST, END)", ()),
    Change("garbage for pages", "self.next(*kinds)) != END", "self.take(1)) != END", ()),
    Change(
        "idle for a second and dead",
        "        with link, link",
        "        link.settimeout(1)\n        with link, link",
        (),
    ),
    Change("bytes left behind", "self.file.read(size) if", "self.link.recv(size) if", ()),
    Change(
        "crash",
        "            raise ValueError(f\"{found.hex()} in place of {' or",
        "            __import__('os').abort(); (f\"{found.hex()} in place of {' or",
        (),
    ),
)
