"""What every store promises: one checkpoint, whole, whatever its caller does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from replicas import descriptors
from store_process import (
    BLOCKS,
    commit,
    content,
    delta,
    device,
    expected,
    initial,
    place,
    whole,
)

from colo_fsm.replica.store import MemoryStore, Store
from colo_fsm.replica.store.directory import DirectoryStore
from colo_fsm.stream.memory import PAGE_SIZE, Delta, Sink

PAGE = b"\x5a" * PAGE_SIZE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    with MemoryStore() if request.param == "memory" else DirectoryStore(path) as store:
        yield store


class TestBoth:
    """What every store promises."""

    def test_new_store_is_empty(self, store: Store) -> None:
        assert store.newest is None

    def test_initial_state_and_rounds(self, store: Store) -> None:
        initial(store, 1)
        assert whole(store) == (1, 0)
        for number in range(1, 11):
            commit(store, 1, number)
            assert whole(store) == (1, number)

    def test_untouched_pages_are_zero(self, store: Store) -> None:
        store.begin(BLOCKS).put("high", PAGE_SIZE, PAGE)
        store.complete(1, b"")
        assert store.newest is not None
        assert bytes(store.newest.blocks["low"]) == bytes(BLOCKS["low"])
        assert bytes(store.newest.blocks["high"][: 2 * PAGE_SIZE]) == bytes(PAGE_SIZE) + PAGE

    def test_a_page_that_comes_twice_counts_once(self, store: Store) -> None:
        sink = store.begin({"ram": PAGE_SIZE})
        for _ in range(2):
            sink.put("ram", 0, bytes(PAGE_SIZE))
            sink.put("ram", 0, memoryview(bytearray(PAGE)))
        store.complete(1, b"")
        assert store.newest is not None
        assert store.newest.blocks["ram"] == PAGE

    def test_pages_and_zeros_in_any_order(self, store: Store) -> None:
        """In a first copy and in rounds, as plain memory would have them."""
        chance = random.Random(1)
        blocks = {"low": 40 * PAGE_SIZE, "high": 3000 * PAGE_SIZE}
        memory = {name: bytearray(size) for name, size in blocks.items()}

        def change(sink: Sink) -> None:
            for _ in range(chance.randint(0, 12)):
                block = chance.choice(list(blocks))
                count = blocks[block] // PAGE_SIZE
                first = chance.randrange(count)
                length = min(chance.choice((1, 2, 9, 1500)), count - first)
                at, end = first * PAGE_SIZE, (first + length) * PAGE_SIZE
                pages = [chance.randbytes(8) * (PAGE_SIZE // 8) for _ in range(length)]
                if chance.random() < 0.5:
                    sink.put_zeros(block, at, length)
                    memory[block][at:end] = bytes(end - at)
                else:
                    sink.put_pages(block, at, pages)
                    memory[block][at:end] = b"".join(pages)

        for _ in range(3):
            change(store.begin(blocks))
            memory = {name: bytearray(size) for name, size in blocks.items()}
            change(store.begin(blocks))  # another, in place of that
            store.complete(1, b"")
            for _ in range(12):
                delta = Delta()
                change(delta)
                store.commit(delta, b"")
                assert store.newest is not None
                for name, view in store.newest.blocks.items():
                    assert bytes(view) == memory[name]

    def test_old_checkpoint_stays_until_the_new_one_is_complete(self, store: Store) -> None:
        initial(store, 1)
        commit(store, 1, 1)
        sink = store.begin(BLOCKS)
        for index in range(4):
            sink.put(*place(index), PAGE)
            assert whole(store) == (1, 1)
        store.abort()
        assert whole(store) == (1, 1)
        commit(store, 1, 2)
        initial(store, 2)
        assert whole(store) == (2, 0)

    def test_nothing_is_left_of_what_was_aborted(self, store: Store, path: Path) -> None:
        """Neither a file nor a descriptor."""
        initial(store, 1)
        before = descriptors(), sorted(path.rglob("*"))
        for _ in range(3):
            store.begin(BLOCKS).put("low", 0, PAGE)
            store.abort()
        assert (descriptors(), sorted(path.rglob("*"))) == before

    def test_begin_drops_what_was_begun(self, store: Store) -> None:
        store.begin(BLOCKS).put("low", 0, PAGE)
        initial(store, 1)
        assert whole(store) == (1, 0)

    def test_views_are_read_only(self, store: Store) -> None:
        initial(store, 1)
        assert store.newest is not None
        assert all(view.readonly for view in store.newest.blocks.values())

    def test_empty_delta_is_a_round(self, store: Store) -> None:
        store.begin({"ram": PAGE_SIZE})
        store.complete(1, b"a")
        store.commit(Delta(), b"b")
        assert store.newest is not None
        assert (store.newest.number, store.newest.device) == (1, b"b")

    @pytest.mark.parametrize("blocks", [{}, {"none": 0}], ids=["no blocks", "empty block"])
    def test_a_guest_without_memory(self, store: Store, blocks: dict[str, int]) -> None:
        store.begin(blocks)
        store.complete(1, b"device")
        store.commit(Delta(), b"later")
        assert store.newest is not None
        assert (list(store.newest.blocks), store.newest.device) == (list(blocks), b"later")

    @pytest.mark.parametrize(
        ("page", "message"),
        [
            (("disk", 0, PAGE), "block 'disk' is not declared"),
            (("low", 1, PAGE), "no page starts at 1"),
            (("low", -PAGE_SIZE, PAGE), "no page starts at -4096"),
            (("low", BLOCKS["low"], PAGE), "no page starts at 16384"),
            (("low", 0, PAGE[1:]), "4095 bytes at 0 are not a page"),
            (("low", 0, PAGE * 2), "8192 bytes at 0 are not a page"),
        ],
    )
    def test_no_such_page(self, store: Store, page: tuple[str, int, bytes], message: str) -> None:
        initial(store, 1)
        with pytest.raises(ValueError, match=message):
            store.commit(delta(("high", 0, PAGE), page), b"")
        assert whole(store) == (1, 0)
        sink = store.begin(BLOCKS)
        with pytest.raises(ValueError, match=message):
            sink.put(*page)

    @pytest.mark.parametrize("size", [1, PAGE_SIZE + 1, -PAGE_SIZE])
    def test_capacity_is_in_pages(self, store: Store, size: int) -> None:
        with pytest.raises(ValueError, match=f"{size} bytes is not a multiple of 4096"):
            store.begin({"ram": size})

    def test_steps_out_of_order(self, store: Store) -> None:
        store.abort()
        with pytest.raises(ValueError, match="no image to complete"):
            store.complete(1, b"")
        with pytest.raises(ValueError, match="no checkpoint to change"):
            store.commit(Delta(), b"")
        initial(store, 1)
        store.begin(BLOCKS)
        with pytest.raises(ValueError, match="an image is begun"):
            store.commit(Delta(), b"")
        assert whole(store) == (1, 0)

    @pytest.mark.parametrize(
        "end", [lambda store: store.complete(1, b""), lambda store: store.abort()], ids=["complete", "abort"]
    )
    def test_a_sink_ends_with_its_image(self, store: Store, end: Callable[[Store], None]) -> None:
        sink = store.begin(BLOCKS)
        end(store)
        with pytest.raises(ValueError, match="completed or dropped"):
            sink.put("low", 0, PAGE)

    def test_closed(self, store: Store) -> None:
        initial(store, 1)
        store.close()
        store.close()
        for use in (lambda: store.newest, store.abort, lambda: store.begin({}), lambda: commit(store, 1, 1)):
            with pytest.raises(ValueError, match="closed"):
                use()


def test_what_the_tests_expect_differs_from_round_to_round() -> None:
    assert expected(1, 3) != expected(1, 4)
    assert content(1, 2, 3) != content(1, 3, 3)
    assert device(1, 2) != device(2, 2)
