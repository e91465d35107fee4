"""The Secondary's last complete checkpoint: what it loads when it takes over.

A store holds one checkpoint, whole. A round becomes the newest checkpoint in one step or not at all,
and the initial state of a new generation is built beside the old checkpoint, which stays the newest
until the new one is complete:

    sink = store.begin(blocks)              # an image of zero bytes
    sink.put("ram", 4096, page)             # as pages arrive, in any order
    store.complete(generation, device)      # checkpoint 0
    store.commit(delta, device)             # checkpoint 1, and so on

`MemoryStore` here keeps it in memory; `DirectoryStore` (in `directory`) survives its process. Both are
an `ImageStore`, which holds all the rules. A store is used by one thread at a time.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import attrs

from colo_fsm.stream.memory import PAGE_SIZE, ZERO_PAGE, Blocks, Buffer, Delta, PatchSink, Run

from .disk import Range

NO_META: Mapping[str, str] = MappingProxyType({})


class StoreError(Exception):
    """A directory cannot serve as a store: in use, damaged, or not one. The text says what to do.

    What the operating system refuses (a full disk, missing rights) is an `OSError`, as it comes.
    """


class StoreInUse(StoreError):
    """Another store, of this process or another one, has the directory open."""


@attrs.frozen(eq=False)
class Checkpoint:
    """One complete checkpoint.

    `number` is 0 for the initial state of `generation`, then counts its rounds. `blocks` are read-only
    views of the image, valid until the next `commit`, `complete` or `close`: copy what must live longer.
    `device` is the device state, `meta` what was given to `complete`. `changed`, for a guest that loads it:
    by block, the (offset, length) ranges in which it differs from the checkpoint that this guest has loaded
    last, in rising order and apart from each other; None: it may differ everywhere.
    """

    generation: int
    number: int
    blocks: Mapping[str, memoryview] = attrs.field(repr=False)
    device: bytes = attrs.field(repr=False)
    meta: Mapping[str, str]
    changed: Mapping[str, Sequence[Range]] | None = attrs.field(default=None, repr=False)


class Store(Protocol):
    """Where a Secondary keeps its checkpoint. Every method but `close` is a ValueError once closed."""

    @property
    def newest(self) -> Checkpoint | None:
        """The last complete checkpoint, None before the first."""

    def begin(self, blocks: Blocks) -> PatchSink:
        """Start the image of an initial state, all zero; one begun before and not completed is dropped.

        The sink's `put` raises ValueError for what is no page of `blocks`, and once the image is completed
        or dropped; an OSError drops it. OSError, here too: no room. The newest checkpoint stays.
        """

    def complete(
        self, generation: int, device: bytes, meta: Mapping[str, str] = NO_META, *, provisional: bool = False
    ) -> None:
        """Make the image begun checkpoint 0 of `generation`, in place of the checkpoint before it.

        `provisional`: that one is kept until the next commit, and is the newest again after an `abort`, a
        `close`, or when the process is killed. Without one before it this makes no difference.
        """

    def commit(self, delta: Delta, device: bytes, meta: Mapping[str, str] | None = None) -> None:
        """Make the newest checkpoint, changed by `delta`, the next one; None keeps its `meta`.

        ValueError: a page that the image has not, nothing to change, or an image is begun (complete or
        abort it first). OSError: the newest checkpoint is what it was; if the fault came after the new
        one was safe, the store is closed and `newest` is that one once the store is opened again.
        """

    def renew(self, generation: int, delta: Delta, device: bytes) -> None:
        """Make the newest checkpoint, changed by `delta`, checkpoint 0 of `generation`: without a new image.

        Raises what `commit` does.
        """

    def abort(self) -> None:
        """Drop an image begun and not completed, or provisional; without one, nothing happens."""

    def close(self) -> None:
        """Let go of everything; closing again does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Placed(NamedTuple):
    """A `Run` in an image: `place` counts pages from its start."""

    place: int
    length: int
    pages: Sequence[Buffer] | None


class Layout:
    """Where the pages of `blocks` lie in an image: one block behind the other, in their order."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = dict(blocks)
        self._starts: dict[str, int] = {}
        self.size = 0
        for name, size in self.blocks.items():
            if size < 0 or size % PAGE_SIZE:
                raise ValueError(
                    f"block {name!r}: a capacity of {size} bytes is not a multiple of {PAGE_SIZE}"
                )
            self._starts[name] = self.size
            self.size += size

    def place(self, run: Run) -> Placed:
        """Where these pages lie; ValueError if they are not all pages of this image."""
        block, offset, length, pages = run
        if block not in self.blocks:
            raise ValueError(f"block {block!r} is not declared (there are: {list(self.blocks)})")
        for at in (offset, offset + (length - 1) * PAGE_SIZE):
            if at % PAGE_SIZE or not 0 <= at < self.blocks[block]:
                raise ValueError(
                    f"block {block!r}: no page starts at {at}"
                    f" (pages of {PAGE_SIZE} bytes, {self.blocks[block]} bytes in all)"
                )
        for data in pages or ():
            if len(data) != PAGE_SIZE:
                raise ValueError(
                    f"block {block!r}: {len(data)} bytes at {offset} are not a page of {PAGE_SIZE}"
                )
        return Placed((self._starts[block] + offset) // PAGE_SIZE, length, pages)

    def views(self, image: memoryview) -> dict[str, memoryview]:
        """The blocks' parts of `image`."""
        return {name: image[start : start + self.blocks[name]] for name, start in self._starts.items()}


class Image(Protocol):
    """The pages of one checkpoint, as a kind of store keeps them."""

    layout: Layout
    views: Mapping[str, memoryview]

    def write(self, run: Placed) -> None:
        """Replace these pages. Raises OSError."""

    def settle(self) -> None:
        """It has all the pages that it will begin with. Raises OSError."""

    def drop(self) -> None:
        """Free what the image occupies, now; never fails."""


ImageT = TypeVar("ImageT", bound=Image)


@attrs.frozen(eq=False)
class _ImageSink:
    """A `PatchSink` for as long as its store is still building `image`."""

    store: ImageStore[Any]
    image: Image

    def put(self, block: str, offset: int, data: Buffer) -> None:
        self._write(Run(block, offset, 1, (data,)))

    def put_pages(self, block: str, offset: int, pages: Sequence[Buffer]) -> None:
        self._write(Run(block, offset, len(pages), pages))

    def put_zeros(self, block: str, offset: int, count: int) -> None:
        self._write(Run(block, offset, count, None))

    def _write(self, run: Run) -> None:
        if self.store.begun is not self.image:
            raise ValueError("this image is completed or dropped: begin() another")
        placed = self.image.layout.place(run)
        try:
            self.image.write(placed)
        except BaseException:
            self.store.abort()  # a page half written must not be completed
            raise

    def get(self, block: str, offset: int) -> Buffer:
        return self.image.views[block][offset : offset + PAGE_SIZE]


class ImageStore(ABC, Generic[ImageT]):
    """The rules of a `Store`; a subclass says what an image is, and how one becomes the newest."""

    def __init__(self) -> None:
        self.begun: ImageT | None = None
        self._current: tuple[Checkpoint, ImageT] | None = None
        self._kept: tuple[Checkpoint, ImageT] | None = None
        """What counts as long as `_current` is provisional."""
        self._closed = False

    @abstractmethod
    def _create(self, layout: Layout) -> ImageT:
        """An image of zero bytes."""

    @abstractmethod
    def _publish(self, checkpoint: Checkpoint, image: ImageT, runs: Sequence[Placed]) -> None:
        """Make `checkpoint`, which is `image` with `runs` written to it, the newest: whole or not."""

    @property
    def newest(self) -> Checkpoint | None:
        self._check_open()
        return self._current[0] if self._current else None

    def begin(self, blocks: Blocks) -> PatchSink:
        self.abort()
        self.begun = self._create(Layout(blocks))
        return _ImageSink(self, self.begun)

    def complete(
        self, generation: int, device: bytes, meta: Mapping[str, str] = NO_META, *, provisional: bool = False
    ) -> None:
        self._check_open()
        if self.begun is None:
            raise ValueError("no image to complete: begin() one and put() its pages first")
        image, previous = self.begun, self._current
        image.settle()
        checkpoint = Checkpoint(generation, 0, image.views, bytes(device), dict(meta))
        keep = previous if provisional else None
        if keep is None:
            self._publish(checkpoint, image, ())
        self.begun, self._current, self._kept = None, (checkpoint, image), keep
        if previous and keep is None:
            previous[1].drop()

    def commit(self, delta: Delta, device: bytes, meta: Mapping[str, str] | None = None) -> None:
        self._change(delta, device, meta, None)

    def renew(self, generation: int, delta: Delta, device: bytes) -> None:
        self._change(delta, device, None, generation)

    def _change(
        self, delta: Delta, device: bytes, meta: Mapping[str, str] | None, generation: int | None
    ) -> None:
        """Write `delta` over the newest checkpoint, as the next one, or as the first of a generation."""
        self._check_open()
        if self.begun is not None:
            raise ValueError("an image is begun: complete() or abort() it before the next commit()")
        if self._current is None:
            raise ValueError("no checkpoint to change: begin() and complete() the initial state first")
        newest, image = self._current
        runs = [image.layout.place(run) for run in delta.runs()]
        meta = newest.meta if meta is None else dict(meta)
        place = (newest.generation, newest.number + 1) if generation is None else (generation, 0)
        checkpoint = Checkpoint(*place, newest.blocks, bytes(device), meta)
        self._publish(checkpoint, image, runs)
        self._current = checkpoint, image
        if self._kept is not None:
            self._kept[1].drop()
            self._kept = None

    def abort(self) -> None:
        self._check_open()
        if self.begun is not None:
            self.begun.drop()
            self.begun = None
        if self._kept is not None:
            assert self._current is not None
            self._current[1].drop()
            self._current, self._kept = self._kept, None

    def close(self) -> None:
        if not self._closed:
            self.abort()
            self._let_go()

    def _let_go(self) -> None:
        """Close as things are: what is on disk is left for the next one who opens it."""
        self.begun = self._current = self._kept = None
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this store is closed: open another")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _MemoryImage:
    """Memory that the kernel gives a page at a time, when something is written to it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._map = mmap.mmap(-1, max(1, layout.size), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory = memoryview(self._map)[: layout.size]
        self.views: Mapping[str, memoryview] = layout.views(self._memory.toreadonly())

    def write(self, run: Placed) -> None:
        is_zero = ZERO_PAGE.startswith
        for place in range(run.place, run.place + run.length):
            page = self._memory[place * PAGE_SIZE : (place + 1) * PAGE_SIZE]
            data = ZERO_PAGE if run.pages is None else run.pages[place - run.place]
            if not (is_zero(data) and is_zero(page)):  # reading one that is not there yet takes no memory
                page[:] = data

    def settle(self) -> None:
        """As much as the kernel promises."""

    def drop(self) -> None:
        for view in (*self.views.values(), self._memory):
            view.release()
        with suppress(BufferError):  # whoever holds another view has all of it still
            self._map.close()


class MemoryStore(ImageStore[_MemoryImage]):
    """A `Store` that ends with its process: one image in memory, two while a new one is begun."""

    def _create(self, layout: Layout) -> _MemoryImage:
        return _MemoryImage(layout)

    def _publish(self, checkpoint: Checkpoint, image: _MemoryImage, runs: Sequence[Placed]) -> None:
        for run in runs:
            image.write(run)
