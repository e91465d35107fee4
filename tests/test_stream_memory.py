"""The pages of a round are kept apart: one each, with its last content."""

from __future__ import annotations

from colo_fsm.stream import PAGE_SIZE, ZERO_PAGE, Delta, Page
from colo_fsm.stream.memory import Run

A = b"A" * PAGE_SIZE
B = b"B" * PAGE_SIZE


def test_a_page_that_comes_twice_counts_once_with_its_last_content() -> None:
    delta = Delta()
    assert (len(delta), list(delta)) == (0, [])
    delta.put("low", 0, A)
    delta.put("hi", 0, A)
    delta.put("low", 0, ZERO_PAGE)
    assert len(delta) == 2
    assert sorted(delta) == [Page("hi", 0, A), Page("low", 0, ZERO_PAGE)]
    assert delta.kept("low", 0) == ZERO_PAGE
    assert delta.kept("low", PAGE_SIZE) is None


def test_where_its_pages_lie_is_told_by_the_run() -> None:
    delta = Delta()
    assert delta.ranges() == {}
    for block, number in (("hi", 3), ("low", 7), ("hi", 1), ("hi", 2), ("low", 9)):
        delta.put(block, number * PAGE_SIZE, A)
    low = [(7 * PAGE_SIZE, PAGE_SIZE), (9 * PAGE_SIZE, PAGE_SIZE)]
    assert delta.ranges() == {"hi": [(PAGE_SIZE, 3 * PAGE_SIZE)], "low": low}


def at(block: str, first: int, length: int, pages: list[bytes] | None = None) -> Run:
    return Run(block, first * PAGE_SIZE, length, pages)


def test_runs_of_zeros_stay_runs_and_what_came_last_counts() -> None:
    delta = Delta()
    for number in (2, 3, 4):
        delta.put("low", number * PAGE_SIZE, A)
    delta.put("hi", 3 * PAGE_SIZE, A)
    delta.put_zeros("low", 3 * PAGE_SIZE, 1000)  # over pages
    delta.put_zeros("low", 900 * PAGE_SIZE, 200)  # over zeros
    delta.put("low", 10 * PAGE_SIZE, A)  # over zeros
    delta.put_zeros("low", 10 * PAGE_SIZE, 1)
    delta.put("low", 20 * PAGE_SIZE, B)
    low = [at("low", 3, 17), at("low", 21, 1079), at("low", 2, 1, [A]), at("low", 20, 1, [B])]
    assert list(delta.runs()) == [*low, at("hi", 3, 1, [A])]
    assert len(delta) == len(list(delta)) == 1099
    assert delta.ranges() == {"hi": [(3 * PAGE_SIZE, PAGE_SIZE)], "low": [(2 * PAGE_SIZE, 1098 * PAGE_SIZE)]}
    assert (delta.kept("low", 4 * PAGE_SIZE), delta.kept("low", 20 * PAGE_SIZE)) == (ZERO_PAGE, B)
    delta.put_zeros("hi", 4 * PAGE_SIZE, 2)  # short: by the page
    delta.put_zeros("hi", 0, 1)
    assert list(delta.runs())[4:] == [at("hi", 0, 1), at("hi", 4, 2), at("hi", 3, 1, [A])]
    delta.put("hi", 5 * PAGE_SIZE, A)
    assert list(delta.runs())[4:] == [
        at("hi", 0, 1),
        at("hi", 4, 1),
        at("hi", 3, 1, [A]),
        at("hi", 5, 1, [A]),
    ]
    assert (delta.kept("low", 1100 * PAGE_SIZE), delta.kept("hi", 6 * PAGE_SIZE)) == (None, None)


def test_what_is_kept_is_a_copy() -> None:
    buffer = bytearray(A)
    delta = Delta()
    delta.put("low", 0, buffer)
    buffer[:] = ZERO_PAGE
    assert delta.kept("low", 0) == A


def test_a_page_of_zeroes_is_4_kib() -> None:
    assert bytes(4096) == ZERO_PAGE
