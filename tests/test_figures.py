"""What is known of a pair: its figures, the pages made of them, and what a supervisor is told."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

import pytest
from handles import Supervisor
from replicas import GENERATION, NEVER, PATIENCE, Counting, OneShot

import colo_fsm
from colo_fsm.arbiter import ArbiterUnreachable, Claim
from colo_fsm.cli.control import Control
from colo_fsm.cli.ctl import in_lines
from colo_fsm.cli.figures import Figures, MemberFigures
from colo_fsm.cli.health import METRICS, answer, metrics
from colo_fsm.cli.notify import Notifier
from colo_fsm.fsm import Side
from colo_fsm.membership.machine import S
from colo_fsm.replica import ClaimUnanswered, MemberMoved, NotServing, Options, Pair

OPTIONS = Options(interval=0.01, claim_retry=0.01)


def page(figures: Figures, request: str) -> tuple[int, str]:
    """Status and body of the reply to this request line."""
    reply = answer(figures, f"{request}\r\nHost: x\r\n\r\n".encode())
    assert reply is not None
    head, _, body = reply.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


def pages(figures: Figures) -> list[int]:
    return [page(figures, f"GET {path} HTTP/1.0")[0] for path in ("/primary", "/secondary", "/health")]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def unused(side: str = "secondary") -> Figures:
    """Of a side that has not begun."""
    guest, where = Counting(), "tcp:127.0.0.1:1"
    if side == "primary":
        return Figures(guest, colo_fsm.primary(guest, arbiter=OneShot(), peer=where))
    return Figures(guest, colo_fsm.secondary(guest, arbiter=OneShot(), listen=where))


async def taken(figures: Figures, count: int) -> None:
    await figures.until(lambda: figures.status()["checkpoints"] == count)


def test_a_pair_from_its_beginning_to_one_that_is_alone() -> None:
    async def story() -> None:
        a, b = colo_fsm.link_pair()
        arbiter, clock = OneShot(), Clock()
        guests = Counting(), Counting()
        asked = Options(interval=NEVER)
        secondary = colo_fsm.secondary(guests[1], listen=b, arbiter=arbiter, options=asked)
        primary = colo_fsm.primary(guests[0], peer=a, arbiter=arbiter, options=asked)
        ours, its = Figures(guests[0], primary), Figures(guests[1], secondary, clock=clock)
        tasks = [asyncio.create_task(f.follow(p.events())) for f, p in ((ours, primary), (its, secondary))]
        await asyncio.sleep(0)
        assert pages(ours) == pages(its) == [503, 503, 503]
        async with secondary:
            async with primary:
                for count in (1, 2):
                    primary.request_checkpoint()
                    await asyncio.gather(taken(ours, count), taken(its, count))
                assert pages(ours) == [200, 503, 200]
                assert pages(its) == [503, 200, 200]
                assert (ours.status()["protected"], its.status()["protected"]) == (True, True)
                assert 0 < ours.status()["pause"] <= ours.status()["paused"]
                primary.outbox.hold(lambda: None)
                assert ours.status()["waiting_replies"] >= 1
                clock.now = 5.0
                assert its.status()["unprotected_seconds"] == 0
                arbiter.claim(GENERATION, Side.SECONDARY)  # else the Primary may claim before it leaves
                secondary.request_failover()
                primary.request_leave()
                await secondary.running()
                await its.until(lambda: its.status()["failovers"] == 1)
            assert pages(ours) == [503, 503, 503]
            assert pages(its) == [200, 503, 200]
            since = its.status()["unprotected_seconds"]
            clock.now = 12.0
            known = its.status()
            assert known["unprotected_seconds"] == since + 7.0
            assert (known["state"], known["token"], known["protected"]) == ("alone", secondary.token, False)
            assert known["claim_seconds"] is not None
            assert known["checkpoint_age"] == 12.0
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)

    asyncio.run(story())


def test_a_claim_that_nobody_answers_is_what_it_waits_for() -> None:
    class Silent(OneShot):
        def claim(self, generation: int, side: Any) -> Claim:
            raise ArbiterUnreachable("the arbiter", "it is on fire")

    async def story() -> None:
        a, b = colo_fsm.link_pair()
        guest = Counting()
        arbiter = Silent()
        secondary = colo_fsm.secondary(Counting(), listen=b, arbiter=OneShot(), options=OPTIONS)
        primary = colo_fsm.primary(guest, peer=a, arbiter=arbiter, options=OPTIONS)
        figures = Figures(guest, primary)
        task = asyncio.create_task(figures.follow(primary.events()))
        async with secondary, primary:
            primary.request_failover()
            await figures.until(lambda: "it is on fire" in figures.waits_for)
            assert pages(figures) == [503, 503, 503]
            assert not figures.runs
        await task

    asyncio.run(story())


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_the_requests_of_load_balancers(method: str, version: str) -> None:
    """haproxy asks `OPTIONS / HTTP/1.0` when it was told nothing."""
    for path in ("/", "/primary", "/primary?x=1"):
        status, body = page(unused(), f"{method} {path} {version}")
        assert (status, bool(body)) == (503, method == "GET")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /nothing HTTP/1.1", 404),
        ("POST /primary HTTP/1.1", 405),
        ("GET /primary HTTP/2.0", 505),
        ("GET /primary", 400),
        ("GET  /primary HTTP/1.1", 400),
        ("GÉT /primary HTTP/1.1", 400),
        ("", 400),
    ],
)
def test_what_is_no_request_is_said(request_line: str, status: int) -> None:
    assert page(unused(), request_line)[0] == status


def test_a_request_is_answered_once_it_is_whole() -> None:
    request = b"GET /health HTTP/1.0\r\nHost: x\r\n\r\n"
    figures = unused()
    assert [answer(figures, request[:n]) for n in range(len(request))] == [None] * len(request)
    assert answer(figures, request) is not None
    assert answer(figures, b"GET /health HTTP/1.0\n\n") is not None


def test_metrics_are_prometheus_text() -> None:
    known = {**unused().status(), "name": 'a "quoted"\\\nname', "pause": 1e-9, "generation": 1795709621882815}
    text = metrics(known)
    number = r"-?[0-9.]+(e-?[0-9]+)?"
    for line in text.splitlines():
        assert re.fullmatch(
            rf'# (HELP|TYPE) colo_fsm_\w+ .+|colo_fsm_\w+(\{{(\w+="([^"\\\n]|\\.)*",?)+\}})? {number}', line
        ), line
    assert 'member="a \\"quoted\\"\\\\\\nname"' in text
    assert "\ncolo_fsm_generation 1795709621882815\n" in text
    assert "claim_seconds" not in text  # what is not known is left out
    assert {key for key, *_ in METRICS} <= known.keys()


def test_a_service_that_cannot_answer_is_no_healthy_side() -> None:
    figures = unused()
    assert isinstance(figures.host, Pair)
    figures.host.announce_trouble("tcp:127.0.0.1:1", OSError("in use"), 1.0)
    figures.event(NotServing("tcp:127.0.0.1:1", OSError("in use"), 1.0))
    assert figures.status()["why"] == "cannot serve at tcp:127.0.0.1:1: in use"


def test_what_is_known_fits_lines_for_people() -> None:
    lines = in_lines({**unused().status(), "why": "a\x1b[31m"}).splitlines()
    assert lines[:2] == ["state        init", "why          a\\x1b[31m"]


def test_nonsense_at_the_control_socket_is_answered_in_one_line() -> None:
    control = Control(unused())
    assert control.answer(b'{"do": "status"}') is None
    for line in (b"", b"{", b"[]", b"1", b"null", b'{"do": []}', b'{"do": "x"}', b"[" * 4000, b"\xff"):
        reply = control.answer(line + b"\n")
        assert isinstance(reply, bytes)
        assert reply.startswith(b'{"ok": false, "why": "write ')
        assert reply.count(b"\n") == 1


def test_one_thing_at_a_time() -> None:
    async def story() -> None:
        control = Control(unused("primary"))
        first = control.answer(b'{"do": "switchover"}\n')
        second = control.answer(b'{"do": "checkpoint"}\n')
        assert not isinstance(first, bytes)
        assert first is not None
        assert second == b'{"ok": false, "why": "a switchover is under way: ask when it is over"}\n'
        assert b"only a member" in await first
        third = control.answer(b'{"do": "checkpoint"}\n')
        assert not isinstance(third, bytes)
        assert third is not None
        assert b"the guest does not run here" in await third

    asyncio.run(story())


class TestNotifier:
    def test_an_abstract_name(self) -> None:
        with Supervisor("@colo-fsm test") as supervisor:
            notifier = Notifier({"NOTIFY_SOCKET": "@colo-fsm test", "WATCHDOG_USEC": "3000000"})
            assert notifier.every == 1.5
            assert notifier.status("a:\nline", True, False)
            assert supervisor.until("STATUS=") == ["READY=1", "STATUS=a:\\nline"]
            notifier.close()

    def test_without_a_supervisor_nobody_is_told(self) -> None:
        notifier = Notifier({"WATCHDOG_USEC": "3000000"})
        assert notifier.every is None
        assert notifier.status("x", True, False)
        notifier.close()

    def test_a_watchdog_that_is_another_process_is_not_fed(self) -> None:
        notifier = Notifier({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"})
        assert notifier.every is None
        notifier.close()

    def test_a_full_queue_is_not_waited_for(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
            deaf.bind("\0colo-fsm deaf")
            notifier = Notifier({"NOTIFY_SOCKET": "@colo-fsm deaf"})
            while notifier.status("x", True, False):
                pass
            deaf.recv(100)
            assert notifier.status("x", True, False)
            notifier.close()


def test_a_claim_that_is_not_answered_yet_is_said_by_the_event() -> None:
    figures = unused()
    figures.event(ClaimUnanswered(TimeoutError("no answer"), 1.0))
    assert "no answer" in figures.waits_for


def test_what_a_member_waits_for_is_the_same_while_it_looks_again() -> None:
    """And it is over once the member has become something else."""

    class Waiting:
        name, state, active, pair = "a", S.LOOKING, None, None

    member: Any = Waiting()
    figures = MemberFigures(Counting(), member)

    def moves(state: S, why: str = "") -> str:
        member.state = state
        figures.event(MemberMoved("a", state, why))
        return figures.waits_for

    assert moves(S.WAITING) == "it is waiting"
    assert moves(S.WAITING, "no arbiter") == "no arbiter"
    assert [moves(s) for s in (S.LOOKING, S.WAITING)] == ["no arbiter"] * 2
    assert figures.line == "a: waiting, no arbiter"
    assert moves(S.OFFERING) == "no Secondary has come yet"
    assert figures.status()["moves"] == 4
