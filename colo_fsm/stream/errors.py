"""The one error of a stream: where it goes wrong, and how."""

from __future__ import annotations


class StreamError(ValueError):
    """The stream is malformed, or holds what this decoder does not read.

    `offset` counts bytes from the start of the stream (of the round's part of it, in a round) to
    the field at fault. There is no way to go on: drop what has arrived of this checkpoint.
    """

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(offset, problem)
        self.offset = offset
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem} (at byte {self.offset})"


def capability_error(offset: int, what: str, capability: str) -> StreamError:
    """The error for `what`, which QEMU sends only while `capability` is on."""
    return StreamError(offset, f"{what} is not read here: switch {capability} off at the Primary")
