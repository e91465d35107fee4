"""What clients of the members were told, and what must be true because of that."""

from __future__ import annotations

import struct

KEY = struct.Struct(">H")


class Ledger:
    """`known`: the keys that a client was told of, in that order; no later read may be without them.

    A tenure is one member's time at work, numbered as they begin.
    """

    def __init__(self) -> None:
        self.known: list[bytes] = []
        self.acknowledged: list[bytes] = []
        self.problems: list[str] = []
        self._seen: set[bytes] = set()
        self._keys = 0
        self._tenures: list[tuple[int, int]] = []
        """Of each tenure the first and the last turn that was answered, by their steps."""

    def new_key(self) -> bytes:
        """One that nobody has written yet."""
        self._keys += 1
        return KEY.pack(self._keys)

    def begin_tenure(self) -> int:
        """Another member begins to work, or the same again."""
        self._tenures.append((1 << 62, -1))
        return len(self._tenures) - 1

    def wrote(self, key: bytes, tenure: int, at: int) -> None:
        """A client is told that its key is kept; its turn was at this step."""
        self.acknowledged.append(key)
        self._tell({key})
        self._answered(tenure, at)

    def read(self, state: bytes, expected: int, tenure: int, at: int) -> None:
        """A client is told of this state; when it asked, so many keys were known."""
        found = keys_in(state)
        if missing := [key for key in self.known[:expected] if key not in found]:
            self.problems.append(f"a read went back: tenure {tenure} is without {_named(missing)}")
        self._tell(found)
        self._answered(tenure, at)

    def compare(self, state: bytes, where: str) -> None:
        """This must hold all of it."""
        found = keys_in(state)
        if missing := [key for key in self.known if key not in found]:
            self.problems.append(f"lost: {where} is without {_named(missing)}")

    def _tell(self, keys: set[bytes]) -> None:
        new = sorted(keys - self._seen)
        self._seen.update(new)
        self.known += new

    def _answered(self, tenure: int, at: int) -> None:
        """No work of an older tenure is answered that was done after a newer one had begun its own."""
        first, last = self._tenures[tenure]
        self._tenures[tenure] = min(first, at), max(last, at)
        later = min((t[0] for t in self._tenures[tenure + 1 :]), default=1 << 62)
        earlier = max((t[1] for t in self._tenures[:tenure]), default=-1)
        if at > later or at < earlier:
            self.problems.append(f"two are active: tenure {tenure} at step {at}, of {self._tenures}")


def keys_in(state: bytes) -> set[bytes]:
    return {state[at : at + KEY.size] for at in range(0, len(state), KEY.size)}


def _named(keys: list[bytes]) -> str:
    numbers = [str(KEY.unpack(key)[0]) for key in keys]
    return f"{len(numbers)} ({', '.join(numbers[:5])})"
