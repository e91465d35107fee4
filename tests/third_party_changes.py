"""Faults for what is in tests/third_party/, a change of one line each, and how a report names them."""

from __future__ import annotations

from pathlib import Path

import attrs

from colo_fsm.colo import Profile
from colo_fsm.fsm import Side

FOLDER = Path(__file__).parent / "third_party"
SECONDARY, PRIMARY = FOLDER / "secondary.py", FOLDER / "primary.py"
OF_PATCH = FOLDER / "patch_secondary.py"
"""Of the patch's own profile: messages, and nothing else."""


@attrs.frozen
class Change:
    """A fault: in the one line that has `old`, that is replaced by `new`.

    The report of the first case that fails names it with `words`, and begins to say with `got` what was
    seen. `silent`: only waiting shows that.
    """

    name: str
    old: str
    new: str
    words: tuple[str, ...]
    got: str
    silent: bool = False
    file: Path = SECONDARY
    only: str = ""
    """The end of the id of the one case that is asked, where others see it too on a machine that is slow."""

    @property
    def profile(self) -> Profile:
        return Profile.PATCH if self.file == OF_PATCH else Profile.QEMU

    @property
    def side(self) -> Side:
        return Side.PRIMARY if self.file == PRIMARY else Side.SECONDARY

    def applied(self) -> str:
        """The file with this fault."""
        lines = self.file.read_text().split("\n")
        found = [number for number, line in enumerate(lines) if self.old in line]
        assert len(found) == 1, (
            f"{len(found)} lines of {self.file.name} have {self.old!r}: see to {self.name!r}"
        )
        lines[found[0]] = lines[found[0]].replace(self.old, self.new)
        return "\n".join(lines)


READY = ("MUST say checkpoint-ready once it has the initial state", "init --done_receive_initial--> ready")
REPLY = ("MUST answer checkpoint-request", "ready --recv_checkpoint_request--> requested")
STATE = ("MUST say vmstate-received and then vmstate-loaded", "sending --recv_vmstate_size--> sized")

CHANGES = (
    Change("is never ready", "self.link.sendall(READY)", "pass", READY, "nothing", True),
    Change(
        "is ready twice", "self.link.sendall(READY)", "self.link.sendall(READY * 2)",
        READY, "checkpoint-ready, checkpoint-ready",
    ),
    Change("counts from one", "for n in range(7)", "for n in range(1, 8)", READY, "checkpoint-request"),
    Change(
        "messages of two bytes", '(n.to_bytes(4, "big")', '(n.to_bytes(2, "big")',
        READY, "2 bytes that are no whole message", True,
    ),
    Change(
        "messages of eight bytes", '(n.to_bytes(4, "big")', '(n.to_bytes(8, "big")',
        READY, "checkpoint-ready, checkpoint-ready",
    ),
    Change(
        "little-endian messages", '(n.to_bytes(4, "big")', '(n.to_bytes(4, "little")',
        REPLY, "gives up",
    ),
    Change(
        "a zero page without its byte", "self.take(1) * PAGE_SIZE", "bytes(PAGE_SIZE)",
        READY, "gives up",
    ),
    Change(
        "every record names its block", "self.block if flags & CONTINUE else self.name()", "self.name()",
        READY, "gives up",
    ),
    Change(
        "knows one block of memory", "while left > 0:", "for _ in range(1):", READY, "gives up",
    ),
    Change(
        "leaves the description behind", "self.expect(END + DESCRIPTION)", "return memory, device",
        READY, "gives up",
    ),
    Change(
        "answers with another message", "self.link.sendall(REPLY)", "self.link.sendall(RECEIVED)",
        REPLY, "vmstate-received",
    ),
    Change("does not answer", "self.link.sendall(REPLY)", "pass", REPLY, "nothing", True),
    Change(
        "is ready again in every round", "self.next(REQUEST)", "self.next(REQUEST), self.link.sendall(READY)",
        REPLY, "checkpoint-ready",
    ),
    Change(
        "begins a round with any message", "self.next(REQUEST)", "self.take(4)",
        ("MUST NOT take vmstate-send before a checkpoint-request",), "checkpoint-reply",
    ),
    Change(
        "looks at a message's last byte", "self.next(REQUEST)", "self.take(3), self.next(REQUEST[3:])",
        ("MUST look at all four bytes of a message", "-> invalid value 0x101"), "checkpoint-reply",
    ),
    Change(
        "passes over the value 7", "self.next(REQUEST)",
        r'while self.next(REQUEST, b"\0\0\0\7") != REQUEST: pass',
        ("MUST NOT take the value 7 for a message",), "checkpoint-reply",
    ),
    Change(
        "answers a request in a round", "self.next(SEND)",
        "while self.next(SEND, REQUEST) != SEND: self.link.sendall(REPLY)",
        ("MUST NOT answer a second checkpoint-request inside a checkpoint",), "checkpoint-reply",
    ),
    Change(
        "takes any message for vmstate-send", "self.next(SEND)", "self.take(4)",
        ("MUST NOT take another message for vmstate-send",), "vmstate-received",
    ),
    Change(
        "takes any message for vmstate-size", "self.next(SIZE)", "self.take(4)",
        ("MUST NOT take another message for vmstate-size",), "vmstate-received",
    ),
    Change(
        "reads no live state", "changed = self.pages(PART, LAST, END)", "changed: Pages = {}",
        ("MUST say nothing between vmstate-send and vmstate-size",), "gives up",
    ),
    Change(
        "a size of four bytes", "self.state(self.number(8))", "self.state(self.number(4))",
        STATE, "gives up",
    ),
    Change(
        "a size that is off by one", "self.state(self.number(8))", "self.state(self.number(8) - 1)",
        STATE, "gives up",
    ),
    Change(
        "does not look at the device state", "self.state(self.number(8))", "self.take(self.number(8))",
        ("MUST NOT say vmstate-loaded of a device state of no bytes",), "vmstate-received, vmstate-loaded",
    ),
    Change(
        "loaded in place of received", "self.link.sendall(RECEIVED)", "self.link.sendall(LOADED)",
        STATE, "vmstate-loaded",
    ),
    Change(
        "never says that it has loaded", "self.link.sendall(LOADED)", "pass", STATE, "vmstate-received", True
    ),
    Change(
        "takes nine checkpoints", "while True:  # a checkpoint", "for _ in range(9):",
        ("MUST take 10 checkpoints, one after the other",), "gives up",
    ),
    Change(
        "does not wait for long", "Secondary(link, file).run()",
        "link.settimeout(1), Secondary(link, file).run()",
        ("MUST wait between two checkpoints for as long as its Primary asks for none",), "gives up",
        only="/9.6",
    ),
    Change(
        "answers a fault", "{error}", "{error}{isinstance(error, ValueError) and link.sendall(REPLY)}",
        ("MUST give up without checkpoint-ready when what comes is no initial state",), "checkpoint-reply",
    ),
)  # fmt: skip

SENDING = ("MUST send its state behind checkpoint-reply", "requested --recv_checkpoint_reply--> replied")
OF_THE_PRIMARY = (
    Change(
        "does not wait for checkpoint-ready", "self.hear(READY)", "pass",
        ("expected   nothing", "init, where the side begins"), "checkpoint-request", file=PRIMARY,
    ),
    Change(
        "asks twice", "self.say(REQUEST)", "self.say(REQUEST, REQUEST)",
        ("MUST ask for a checkpoint behind checkpoint-ready, and only once",),
        "checkpoint-request, checkpoint-request", file=PRIMARY,
    ),
    Change(
        "takes any message for a reply", "self.hear(REPLY)", "self.file.read(4)",
        ("MUST NOT take a second checkpoint-ready",), "vmstate-send", file=PRIMARY,
    ),
    Change("no size", "self.say(SIZE, u64(len(state)), state)", "self.say(SIZE, state)",
        SENDING, "a device state of 288230376202397557 bytes", file=PRIMARY,
    ),
    Change(
        "a size that is off by one", "u64(len(state))", "u64(len(state) + 1)",
        SENDING, "42 bytes that are no whole message", file=PRIMARY,
    ),
    Change(
        "does not wait for vmstate-loaded", "self.hear(LOADED)", "pass",
        ("MUST NOT ask for the next checkpoint before vmstate-loaded",), "checkpoint-request", file=PRIMARY,
    ),
    Change(
        "no live state", "self.say(SEND, self.memory(), END)", "self.say(SEND)",
        SENDING, "a subsection (section type 0x05) is not read here", file=PRIMARY,
    ),
)  # fmt: skip

LOADED = ("MUST say vmstate-received and then vmstate-loaded", "replied --recv_vmstate_send--> sending")

OF_THE_PATCH = tuple(
    Change(name, old, new, words, got, silent, OF_PATCH)
    for name, old, new, words, got, silent in (
        ("is never ready", "link.sendall(READY)", "pass", READY, "nothing", True),
        (
            "is ready twice", "link.sendall(READY)", "link.sendall(READY * 2)",
            READY, "checkpoint-ready, checkpoint-ready", False,
        ),
        ("counts from one", "for n in range(7)", "for n in range(1, 8)", READY, "checkpoint-request", False),
        (
            "messages of two bytes", '(n.to_bytes(4, "big")', '(n.to_bytes(2, "big")',
            READY, "2 bytes that are no whole message", True,
        ),
        (
            "messages of eight bytes", '(n.to_bytes(4, "big")', '(n.to_bytes(8, "big")',
            READY, "checkpoint-ready, checkpoint-ready", False,
        ),
        (
            "little-endian messages", '(n.to_bytes(4, "big")', '(n.to_bytes(4, "little")',
            REPLY, "gives up", False,
        ),
        (
            "answers with another message", "link.sendall(REPLY)", "link.sendall(RECEIVED)",
            REPLY, "vmstate-received", False,
        ),
        ("does not answer", "link.sendall(REPLY)", "pass", REPLY, "nothing", True),
        (
            "answers twice", "link.sendall(REPLY)", "link.sendall(REPLY * 2)",
            REPLY, "checkpoint-reply, checkpoint-reply", False,
        ),
        (
            "is ready again in every round", "expect(link, REQUEST)",
            "expect(link, REQUEST), link.sendall(READY)", REPLY, "checkpoint-ready", False,
        ),
        (
            "begins a round with any message", "expect(link, REQUEST)", "take(link)",
            ("MUST NOT take vmstate-send before a checkpoint-request",), "checkpoint-reply", False,
        ),
        (
            "looks at a message's last byte", "if found != known:", "if found[3:] != known[3:]:",
            ("MUST look at all four bytes of a message",), "checkpoint-reply", False,
        ),
        (
            "passes over the value 7", "    found = take(link)",
            r'    while (found := take(link)) == b"\0\0\0\7": pass',
            ("MUST NOT take the value 7 for a message",), "checkpoint-reply", False,
        ),
        (
            "passes over the largest value", "    found = take(link)",
            r'    while (found := take(link)) == b"\xff" * 4: pass',
            ("MUST NOT take the largest value there is for a message",), "checkpoint-reply", False,
        ),
        (
            "takes any message for vmstate-send", "expect(link, SEND)", "take(link)",
            ("MUST NOT answer a second checkpoint-request inside a checkpoint",), "vmstate-received", False,
        ),
        (
            "answers a second request in a round", "expect(link, SEND)",
            "while take(link) == REQUEST: link.sendall(REPLY)",
            ("MUST NOT answer a second checkpoint-request inside a checkpoint",), "checkpoint-reply", False,
        ),
        ("has received nothing", "link.sendall(RECEIVED)", "pass", LOADED, "vmstate-loaded", True),
        ("loads nothing", "link.sendall(LOADED)", "pass", LOADED, "vmstate-received", True),
        (
            "has loaded before it has received", "link.sendall(RECEIVED)", "link.sendall(LOADED)",
            LOADED, "vmstate-loaded", False,
        ),
        (
            "has loaded twice", "link.sendall(LOADED)", "link.sendall(LOADED * 2)",
            LOADED, "vmstate-received, vmstate-loaded, vmstate-loaded", False,
        ),
        (
            "a message is what comes in one piece", "while len(message) < 4:", "for _ in range(1):",
            ("ready --recv_checkpoint_request--> requested",), "gives up", False,
        ),
        (
            "ten rounds and no more", "while True:  # a checkpoint", "for _ in range(10):",
            ("MUST take 10 checkpoints, one after the other",), "gives up", False,
        ),
    )
)  # fmt: skip
"""Of a Secondary of 40 lines."""
