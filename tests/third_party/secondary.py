"""A COLO Secondary in plain sockets, from docs/protocol.md: `python secondary.py ADDRESS`.

ADDRESS is unix:PATH or tcp:HOST:PORT. It holds the guest of whoever connects, one after the other, and
closes the link at anything out of order.
"""

import io
import socket
import sys

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = (n.to_bytes(4, "big") for n in range(7))
END, START, PART, LAST, DEVICE, DESCRIPTION, FOOTER = b"\0", b"\1", b"\2", b"\3", b"\4", b"\6", b"\x7e"
ZERO, MEM_SIZE, PAGE, EOS, CONTINUE, FLAGS, PAGE_SIZE = 0x02, 0x04, 0x08, 0x10, 0x20, 0xFFF, 4096
LIFE, MOST = b"LIFE", 1 << 30

Pages = dict[tuple[bytes, int], bytes]


class Secondary:
    """One guest: what it reads, in the order in which it stands on the wire."""

    def __init__(self, link: socket.socket, file: io.BufferedIOBase) -> None:
        self.link, self.file, self.signs = link, file, False

    def run(self) -> None:
        self.expect(bytes.fromhex("5145564d 00000003 07"))
        self.signs = self.take(self.number(4)) == b"colo-fsm"
        self.memory, self.device = self.initial()
        self.link.sendall(READY)
        while True:  # a checkpoint
            self.next(REQUEST)
            self.link.sendall(REPLY)
            self.next(SEND)
            changed = self.pages(PART, LAST, END)
            self.next(SIZE)
            device = self.state(self.number(8))
            self.link.sendall(RECEIVED)
            self.memory, self.device = self.memory | changed, device
            self.link.sendall(LOADED)

    def initial(self) -> tuple[Pages, bytes]:
        self.next(START)
        self.ram, self.block, self.blocks = self.take(4), b"", dict[bytes, int]()
        self.expect(b"\3ram" + bytes.fromhex("00000000 00000004"))
        left = self.number(8) - MEM_SIZE
        while left > 0:
            name = self.name()
            self.blocks[name] = self.number(8)
            left -= self.blocks[name]
        self.expect(EOS.to_bytes(8, "big") + FOOTER + self.ram)
        memory = self.pages(PART, LAST)
        self.section(b"colo-fsm/generation", 8)
        device = self.section(b"guest")
        self.expect(END + DESCRIPTION)
        self.take(self.number(4))
        return memory, device

    def pages(self, *kinds: bytes) -> Pages:
        """Those of RAM sections, up to and with one of the last kind."""
        pages: Pages = {}
        kind = PART
        while kind != kinds[-1] and (kind := self.next(*kinds)) != END:
            self.expect(self.ram)
            while (word := self.number(8)) != EOS:
                at, flags = word & ~FLAGS, word & FLAGS
                self.block = self.block if flags & CONTINUE else self.name()
                if flags & ~CONTINUE not in (PAGE, ZERO) or at >= self.blocks.get(self.block, 0):
                    raise ValueError(f"record {word:#x} of block {self.block!r}")
                pages[self.block, at] = self.take(PAGE_SIZE) if flags & PAGE else self.take(1) * PAGE_SIZE
            self.expect(FOOTER + self.ram)
        return pages

    def state(self, size: int) -> bytes:
        link, self.file = self.file, io.BytesIO(self.take(size))
        device = self.section(b"guest")
        self.expect(END)
        if behind := self.file.read():
            raise ValueError(f"{len(behind)} bytes behind the state")
        self.file = link
        return device

    def section(self, name: bytes, size: int | None = None) -> bytes:
        self.next(DEVICE)
        number = self.take(4)
        self.expect(bytes([len(name)]) + name + bytes.fromhex("00000000 00000001"))
        body = self.take(self.number(4) if size is None else size)
        self.expect(FOOTER + number)
        return body

    def next(self, *known: bytes) -> bytes:
        """One of these messages or types of sections, behind signs of life: its Primary is at work."""
        found = self.take(len(known[0]))
        while self.signs and found == LIFE[: len(found)]:
            self.expect(LIFE[len(found) :])
            found = self.take(len(known[0]))
        if found not in known:
            raise ValueError(f"{found.hex()} in place of {' or '.join(one.hex() for one in known)}")
        return found

    def expect(self, known: bytes) -> None:
        if (found := self.take(len(known))) != known:
            raise ValueError(f"{found.hex()} in place of {known.hex()}")

    def name(self) -> bytes:
        return self.take(self.number(1))

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        data = self.file.read(size) if size <= MOST else b""
        if len(data) != size:
            raise EOFError(f"{size} bytes do not come")
        return data


def listen(kind: str, where: str) -> socket.socket:
    if kind == "tcp":
        host, _, port = where.rpartition(":")
        return socket.create_server((host, int(port)))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
    listener.listen()
    return listener


if __name__ == "__main__":
    listener = listen(*sys.argv[1].split(":", 1))
    while True:
        link = listener.accept()[0]
        with link, link.makefile("rb") as file:
            try:
                Secondary(link, file).run()
            except (ValueError, OSError, EOFError) as error:
                print(f"gives up: {error}", file=sys.stderr, flush=True)
