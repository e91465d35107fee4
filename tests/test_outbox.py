"""Output commit: what leaves when, and that everything held is settled once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from replicas import PATIENCE, Broken

from colo_fsm.replica import Outbox


class Log(list[str]):
    def hold(self, outbox: Outbox, name: str) -> None:
        outbox.hold(lambda: self.append(f"+{name}"), lambda: self.append(f"-{name}"))


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_release_covers_what_was_held_before_the_seal(log: Log) -> None:
    outbox = Outbox()
    log.hold(outbox, "a")
    outbox.release()
    assert log == []
    log.hold(outbox, "b")
    outbox.seal()
    log.hold(outbox, "c")
    assert (log, len(outbox)) == ([], 3)
    outbox.release()
    assert (log, len(outbox)) == (["+a", "+b"], 1)
    outbox.release()
    assert log == ["+a", "+b"]
    outbox.seal()
    outbox.release()
    assert log == ["+a", "+b", "+c"]


def test_the_first_that_waits_says_so_once_until_the_next_seal(log: Log) -> None:
    asked: list[str] = []
    outbox = Outbox(lambda: asked.append("please"))

    def now() -> tuple[int, bool]:
        return len(asked), outbox.wants

    assert now() == (0, False)
    log.hold(outbox, "a")
    log.hold(outbox, "b")
    outbox.promise(lambda: None, lambda: None)
    assert now() == (1, True)
    outbox.seal()
    assert now() == (1, False)
    log.hold(outbox, "c")
    assert now() == (2, True)
    outbox.release()
    assert now() == (2, True)
    outbox.release_all()
    log.hold(outbox, "d")
    assert now() == (2, False)


def test_alone_everything_leaves_now_and_from_now_on(log: Log) -> None:
    outbox = Outbox()
    log.hold(outbox, "a")
    outbox.seal()
    log.hold(outbox, "b")
    outbox.release_all()
    log.hold(outbox, "c")
    assert (log, len(outbox)) == (["+a", "+b", "+c"], 0)


def test_held_back_again_what_comes_waits_for_its_checkpoint(log: Log) -> None:
    outbox = Outbox()
    log.hold(outbox, "a")
    outbox.release_all()
    outbox.hold_back()
    log.hold(outbox, "b")
    outbox.release()
    assert log == ["+a"]
    outbox.seal()
    outbox.release()
    assert log == ["+a", "+b"]


def test_a_promise_is_kept_by_a_checkpoint_whatever_leaves_at_once(log: Log) -> None:
    outbox = Outbox()
    outbox.promise(lambda: log.append("+first"), lambda: log.append("-first"))
    outbox.release_all()
    outbox.promise(lambda: log.append("+promise"), lambda: log.append("-promise"))
    log.hold(outbox, "a")
    outbox.release()
    assert log == ["+a"]
    outbox.seal()
    outbox.release()
    assert log == ["+a", "+first", "+promise"]
    outbox.promise(lambda: log.append("+late"), lambda: log.append("-late"))
    outbox.discard()
    outbox.promise(lambda: log.append("+no"), lambda: log.append("-no"))
    assert log == ["+a", "+first", "+promise", "-late", "-no"]


def test_stopped_everything_is_dropped_now_and_from_now_on(log: Log) -> None:
    outbox = Outbox()
    log.hold(outbox, "a")
    outbox.seal()
    outbox.discard()
    log.hold(outbox, "b")
    outbox.release()
    outbox.release_all()
    log.hold(outbox, "c")
    outbox.hold(lambda: log.append("+d"))
    assert log == ["-a", "-b", "-c"]


def test_stopped_after_alone(log: Log) -> None:
    outbox = Outbox()
    outbox.release_all()
    outbox.discard()
    log.hold(outbox, "a")
    assert log == ["-a"]


@pytest.mark.parametrize("end", ["release", "release_all", "discard"])
def test_one_that_raises_does_not_take_the_others_with_it(log: Log, end: str) -> None:
    outbox = Outbox()
    log.hold(outbox, "a")
    outbox.hold(broken, broken)
    log.hold(outbox, "b")
    outbox.seal()
    with pytest.raises(Broken):
        getattr(outbox, end)()
    sign = "-" if end == "discard" else "+"
    assert log == [sign + "a", sign + "b"]


def broken() -> None:
    raise Broken


def test_an_action_may_hold_more(log: Log) -> None:
    """It runs without the lock; what it holds belongs to the next checkpoint."""
    outbox = Outbox()
    outbox.hold(lambda: log.hold(outbox, "b"))
    outbox.seal()
    outbox.release()
    assert (log, len(outbox)) == ([], 1)
    outbox.seal()
    outbox.release()
    assert log == ["+b"]


def test_from_many_threads_each_is_settled_once() -> None:
    outbox = Outbox()
    lock = threading.Lock()
    settled: list[int] = []

    def settle(n: int) -> None:
        with lock:
            settled.append(n)

    def hold(start: int) -> None:
        for n in range(start, start + 500):
            outbox.hold(lambda n=n: settle(n), lambda n=n: settle(n))  # type: ignore[misc]

    with ThreadPoolExecutor() as pool:
        held = [pool.submit(hold, start) for start in range(0, 2000, 500)]
        while not all(h.done() for h in held):
            outbox.seal()
            outbox.release()
        for done in held:
            done.result(PATIENCE)
        outbox.discard()
    assert sorted(settled) == list(range(2000))
