"""What happens to two simulated members, drawn by their world's chance."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from colo_fsm.arbiter import ArbiterUnreachable
from colo_fsm.check.simulate.disk import Killed
from colo_fsm.membership.machine import S

if TYPE_CHECKING:
    from member_process import Process
    from member_world import World


class Fault:
    """One thing that happens, to whom it strikes by chance."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random

    def strike(self) -> None:
        """Draw it, and let it happen; to nobody, if nobody is up."""
        kinds: dict[Callable[[Process], None], int] = {
            self.crash: 25,
            self.crash_both: 15,
            self.die_in_a_write: 15,
            self.die_at_the_arbiter: 12,
            self.lose_an_answer: 5,
            self.arbiter_away: 5,
            self.break_link: 12,
            self.freeze: 10,
            self.switch_over: 15,
            self.leave: 8,
        }
        up = sorted(self._world.processes.items())
        (kind,) = self._random.choices(list(kinds), list(kinds.values()))
        if up:
            kind(self._random.choice(up)[1])

    def _struck(self, what: str) -> None:
        self._world.counts[what] += 1

    def crash(self, process: Process) -> None:
        """Killed between two steps. Perhaps what it has sent is lost, as when its machine goes too."""
        self._struck("crashes")
        self._struck(f"crashes while {process.member.state}")
        self._world.down(process.name, f"crashes while {process.member.state}")
        self._lose_what_is_under_way()

    def crash_both(self, process: Process) -> None:
        """A power cut."""
        for each in list(self._world.processes.values()):
            self.crash(each)

    def _lose_what_is_under_way(self) -> None:
        if self._random.random() < 0.5:
            for process in self._world.processes.values():
                for sock in process.links():
                    with contextlib.suppress(OSError):
                        while sock.recv(1 << 18):
                            pass

    def die_in_a_write(self, process: Process) -> None:
        """One of the next calls of its disk is its last; it may be in the middle of that."""
        process.disk.left = self._random.randrange(self._random.choice((3, 10, 100)))

    def die_at_the_arbiter(self, process: Process) -> None:
        """The next change that it makes to the record is its last deed."""

        def die() -> None:
            self._world.note(f"{process.name}: dies at the arbiter")
            self._struck("crashes at the arbiter")
            process.disk.die()
            raise Killed

        process.register.next_swap = die

    def lose_an_answer(self, process: Process) -> None:
        """The next change is made, and it does not hear of it."""

        def lost() -> None:
            self._struck("answers of the arbiter lost")
            raise ArbiterUnreachable("the register", "the answer was lost")

        process.register.next_swap = lost

    def arbiter_away(self, process: Process) -> None:
        """Nobody reaches it for a while."""
        self._struck("arbiter away")
        self._world.register.away_until = self._world.clock.now + self._random.uniform(0.1, 4.0)

    def break_link(self, process: Process) -> None:
        """What connects the two ends, with or without what is under way."""
        for sock in process.links():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
                self._struck("links broken")
        self._world.note(f"{process.name}: its links break")
        self._lose_what_is_under_way()

    def freeze(self, process: Process) -> None:
        """It does not go on for a while: shorter or longer than its peer's patience."""
        self._struck("freezes")
        seconds = self._random.uniform(0.1, 6.0)
        process.frozen_until = self._world.clock.now + seconds
        self._world.note(f"{process.name}: frozen for {seconds:.3f} s")

    def switch_over(self, process: Process) -> None:
        """Whoever is the Primary is asked for it; perhaps it is killed in the middle."""
        for each in self._world.processes.values():
            if each.member.state is S.PRIMARY:
                self._struck("switchovers asked for")
                self._world.note(f"{each.name}: is to switch over")
                self._world.switch_over(each)

    def leave(self, process: Process) -> None:
        """It is stopped in order."""
        self._struck("stopped in order")
        self._world.note(f"{process.name}: is to leave")
        with process.loop.running():
            process.member.request_leave()
