"""A COLO Secondary of the patch's own profile, in plain sockets: `python patch_secondary.py unix:PATH`.

Nothing but the seven messages is on the wire, so what it would hold comes by another way. It serves
whoever connects, one after the other, and closes the link at anything out of order.
"""

import socket
import sys

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = (n.to_bytes(4, "big") for n in range(7))


class OutOfOrder(Exception):
    """The Primary has said something else, or nothing more."""


def take(link: socket.socket) -> bytes:
    """The next message."""
    message = b""
    while len(message) < 4:
        more = link.recv(4 - len(message))
        if not more:
            raise OutOfOrder("the link has ended")
        message += more
    return message


def expect(link: socket.socket, known: bytes) -> None:
    found = take(link)
    if found != known:
        raise OutOfOrder(f"{found.hex()} in place of {known.hex()}")


def run(link: socket.socket) -> None:
    link.sendall(READY)
    while True:  # a checkpoint
        expect(link, REQUEST)
        link.sendall(REPLY)
        expect(link, SEND)
        link.sendall(RECEIVED)
        link.sendall(LOADED)


if __name__ == "__main__":
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1].removeprefix("unix:"))
    listener.listen()
    while True:
        with listener.accept()[0] as link:
            try:
                run(link)
            except (OutOfOrder, OSError) as error:
                print(f"gives up: {error}", file=sys.stderr, flush=True)
