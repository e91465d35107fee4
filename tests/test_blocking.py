"""What only threads ask of a pair: time limits, signals, forks, the end of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from replicas import NEVER, PATIENCE, Counting, OneShot, descriptors, unix

from colo_fsm.colo import State
from colo_fsm.replica import Options, blocking, link_pair


def entered(options: Options | None = None) -> tuple[blocking.Pair, blocking.Pair]:
    """A Primary that runs, and its Secondary."""
    left, right = link_pair()
    there = blocking.secondary(Counting(), listen=right, arbiter=OneShot(), options=options)
    there.__enter__()
    here = blocking.primary(
        Counting(),
        peer=left,
        arbiter=OneShot(),
        options=options or Options(interval=NEVER, min_interval=NEVER),
    )
    here.__enter__()
    return here, there


def test_waiting_has_a_limit() -> None:
    here, there = entered()
    with pytest.raises(TimeoutError):
        here.committed(0.01)
    with pytest.raises(TimeoutError):
        here.wait(0.01)
    for pair in (there, here):
        pair.request_leave()
        assert pair.wait(PATIENCE) is State.ENDED


def test_waiting_for_ever_may_be_said_as_a_number() -> None:
    here, there = entered(Options(interval=0.0))
    here.committed(1e12)
    for pair in (there, here):
        pair.request_leave()
        pair.wait(1e12)


def test_ctrl_c_while_it_connects_leaves_nothing_behind(tmp_path: Path) -> None:
    before = descriptors()
    here = blocking.primary(
        Counting(), peer=unix(tmp_path), arbiter=OneShot(), options=Options(connect_timeout=NEVER)
    )
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    timer.start()
    main = threading.get_ident()
    timer.function = lambda _: signal.pthread_kill(main, signal.SIGINT)  # where Python handles it
    with pytest.raises(KeyboardInterrupt):
        here.__enter__()
    timer.join()
    assert descriptors() == before
    with blocking.secondary(Counting(), listen=unix(tmp_path), arbiter=OneShot()) as there:
        assert there.state is State.INIT


def test_a_signal_handler_may_ask_while_its_thread_asks() -> None:
    """A handler runs between any two lines of the main thread, also of `wake`."""
    here, there = entered()
    handled: list[int] = []

    def handler(number: int, _: object) -> None:
        there.request_checkpoint()
        here.request_leave()
        handled.append(number)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with here._driver._lock:  # type: ignore[union-attr]
            signal.raise_signal(signal.SIGUSR1)
        assert handled
        assert here.wait(PATIENCE) is State.ENDED
    finally:
        signal.signal(signal.SIGUSR1, before)
        there.request_leave()
        there.wait(PATIENCE)


PROGRAM = """
import asyncio, os, signal, sys, threading, time
sys.path.insert(0, {tests!r})
from replicas import Counting, OneShot
from colo_fsm.replica import Options, blocking, link_pair, primary, secondary

class Hanging(Counting):
    def save(self, full):
        if not full:
            print("inside", flush=True)
            while True:
                time.sleep(3600)
        return super().save(full)

def both(make_primary, make_secondary):
    left, right = link_pair()
    arbiter = OneShot()
    return make_secondary(Counting(), listen=right, arbiter=arbiter), make_primary(
        Hanging(), peer=left, arbiter=arbiter, options=Options(interval=0.0)
    )
"""

ENDS = {
    "blocking": """
there, here = both(blocking.primary, blocking.secondary)
there.__enter__()
here.__enter__()
sys.stdin.readline()
""",
    "asyncio": """
async def main():
    there, here = both(primary, secondary)
    await there.__aenter__()
    await here.__aenter__()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
asyncio.run(main())
""",
}


@pytest.mark.parametrize("driver", ENDS)
def test_a_hook_that_hangs_does_not_keep_the_process(driver: str) -> None:
    program = PROGRAM.format(tests=str(Path(__file__).parent)) + ENDS[driver]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "inside\n"
        process.communicate("\n", timeout=PATIENCE)
    assert process.returncode == 0


def test_the_peer_sees_a_primary_die_whose_forked_child_lives_on(tmp_path: Path) -> None:
    program = (
        PROGRAM.format(tests=str(Path(__file__).parent))
        + f"""
here = blocking.primary(Counting(), peer={unix(tmp_path)!r}, arbiter=OneShot())
here.__enter__()
child = os.fork()
if not child:
    time.sleep(3600)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    there = blocking.secondary(Counting(), listen=unix(tmp_path), arbiter=OneShot())
    there.__enter__()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
    try:
        alone = threading.Event()
        there.on_transition(lambda _: alone.set(), State.ALONE)
        assert there.state is State.ALONE or alone.wait(PATIENCE)
    finally:
        os.kill(child, signal.SIGKILL)
        there.request_leave()
        there.wait(PATIENCE)
