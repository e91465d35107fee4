"""Whose stream is taken where QEMU migrates to, and how a link ends."""

from __future__ import annotations

import socket
import threading

from colo_fsm.qemu.listening import shut_down, vms


def test_any_vm_of_qemus_is_taken_and_no_guest_of_our_own() -> None:
    assert vms("pc-i440fx-7.2") is None
    assert vms("microvm") is None
    assert "needs colo-fsm secondary" in str(vms("colo-fsm"))


def test_a_link_ends_for_who_waits_on_it() -> None:
    ours, theirs = socket.socketpair()
    found: list[bytes] = []
    with ours, theirs:
        thread = threading.Thread(target=lambda: found.append(ours.recv(1)))
        thread.start()
        shut_down(ours)
        thread.join(20)
        assert (found, theirs.recv(1)) == ([b""], b"")
    shut_down(ours)
