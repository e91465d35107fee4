"""The pages of a round are kept apart: one each, with its last content."""

from __future__ import annotations

from colo_fsm.stream import PAGE_SIZE, ZERO_PAGE, Delta, Page

A = b"A" * PAGE_SIZE


def test_a_page_that_comes_twice_counts_once_with_its_last_content() -> None:
    delta = Delta()
    assert (len(delta), list(delta)) == (0, [])
    delta.put("low", 0, A)
    delta.put("hi", 0, A)
    delta.put("low", 0, ZERO_PAGE)
    assert len(delta) == 2
    assert list(delta) == [Page("low", 0, ZERO_PAGE), Page("hi", 0, A)]
    assert delta.kept("low", 0) == ZERO_PAGE
    assert delta.kept("low", PAGE_SIZE) is None


def test_where_its_pages_lie_is_told_by_the_run() -> None:
    delta = Delta()
    assert delta.ranges() == {}
    for block, number in (("hi", 3), ("low", 7), ("hi", 1), ("hi", 2), ("low", 9)):
        delta.put(block, number * PAGE_SIZE, A)
    low = [(7 * PAGE_SIZE, PAGE_SIZE), (9 * PAGE_SIZE, PAGE_SIZE)]
    assert delta.ranges() == {"hi": [(PAGE_SIZE, 3 * PAGE_SIZE)], "low": low}


def test_what_is_kept_is_a_copy() -> None:
    buffer = bytearray(A)
    delta = Delta()
    delta.put("low", 0, buffer)
    buffer[:] = ZERO_PAGE
    assert delta.kept("low", 0) == A


def test_a_page_of_zeroes_is_4_kib() -> None:
    assert bytes(4096) == ZERO_PAGE
