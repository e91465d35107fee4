"""A COLO Primary in plain sockets, from docs/protocol.md: `python primary.py ADDRESS`.

ADDRESS is unix:PATH or tcp:HOST:PORT, where a Secondary listens. Its guest counts checkpoints, in one page of
memory. It takes one after the other, and closes the link at anything out of order.
"""

import io
import socket
import sys

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = (n.to_bytes(4, "big") for n in range(7))
END, START, PART, LAST, DEVICE, DESCRIPTION, CONFIGURATION = (bytes([n]) for n in (0, 1, 2, 3, 4, 6, 7))
ZERO, MEM_SIZE, PAGE, EOS, PAGE_SIZE = 0x02, 0x04, 0x08, 0x10, 4096


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def name(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def framed(kind: bytes, number: int, body: bytes) -> bytes:
    return kind + u32(number) + body + b"\x7e" + u32(number)


def device(number: int, title: bytes, body: bytes) -> bytes:
    return framed(DEVICE, number, name(title) + u32(0) + u32(1) + body)


class Primary:
    """One guest, and what is written of it, in the order in which it stands on the wire."""

    def __init__(self, link: socket.socket, file: io.BufferedReader) -> None:
        self.link, self.file, self.count = link, file, 0

    def run(self) -> None:
        start = name(b"ram") + u32(0) + u32(4) + u64(PAGE_SIZE | MEM_SIZE) + name(b"ram") + u64(PAGE_SIZE)
        head = u32(0x5145564D) + u32(3) + CONFIGURATION + u32(8) + b"colo-fsm"
        generation = device(2, b"colo-fsm/generation", u64(1))
        end = END + DESCRIPTION + u32(2) + b"{}"
        self.say(head, framed(START, 1, start + u64(EOS)), self.memory(), generation, self.state(), end)
        self.hear(READY)
        while True:
            self.say(REQUEST)
            self.hear(REPLY)
            self.count += 1
            self.say(SEND, self.memory(), END)
            state = self.state() + END
            self.say(SIZE, u64(len(state)), state)
            self.hear(RECEIVED)
            self.hear(LOADED)

    def memory(self) -> bytes:
        """RAM sections with the only page: zeroes at first, then contents."""
        page = u64(self.count).ljust(PAGE_SIZE, b"\xee")
        record = u64(PAGE) + name(b"ram") + page if self.count else u64(ZERO) + name(b"ram") + b"\0"
        return framed(PART, 1, record + u64(EOS)) + framed(LAST, 1, u64(EOS))

    def state(self) -> bytes:
        body = b"%d" % self.count
        return device(3, b"guest", u32(len(body)) + body)

    def say(self, *pieces: bytes) -> None:
        self.link.sendall(b"".join(pieces))

    def hear(self, expected: bytes) -> None:
        found = self.file.read(4)
        while found == b"LIFE":  # its Secondary is at work
            found = self.file.read(4)
        if found != expected:
            raise ValueError(f"{found.hex() or 'nothing more'} in place of {expected.hex()}")


def connect(kind: str, where: str) -> socket.socket:
    if kind == "tcp":
        host, _, port = where.rpartition(":")
        return socket.create_connection((host, int(port)))
    link = socket.socket(socket.AF_UNIX)
    link.connect(where)
    return link


if __name__ == "__main__":
    with connect(*sys.argv[1].split(":", 1)) as link, link.makefile("rb") as file:
        try:
            Primary(link, file).run()
        except (ValueError, OSError) as error:
            sys.exit(f"gives up: {error}")
