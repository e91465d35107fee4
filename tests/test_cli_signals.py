"""^C and SIGTERM end a command in order, whatever its main thread waits for."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from colo_fsm.cli.signals import NUMBERS, ended_by_signals


@pytest.mark.parametrize("number", NUMBERS)
def test_the_end_is_called_from_a_thread_of_its_own(number: signal.Signals) -> None:
    """Python runs a handler only when the main thread comes to it: here it cannot, for it waits."""
    called = threading.Event()
    callers: list[threading.Thread] = []

    def end() -> None:
        callers.append(threading.current_thread())
        called.set()

    before = [signal.getsignal(n) for n in NUMBERS]
    with ended_by_signals(end):
        os.kill(os.getpid(), number)
        assert called.wait(20)
    assert threading.main_thread() not in callers
    assert [signal.getsignal(n) for n in NUMBERS] == before


def test_an_error_inside_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever listens for signals may not have begun to by then. A hundred times: half fell into it."""
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    for _ in range(100):
        with pytest.raises(LookupError), ended_by_signals(lambda: None):
            raise LookupError
    assert raised == []


def test_another_signal_is_not_the_end() -> None:
    called = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with ended_by_signals(called.set):
            os.kill(os.getpid(), signal.SIGUSR1)
        assert not called.is_set()
    finally:
        signal.signal(signal.SIGUSR1, before)
