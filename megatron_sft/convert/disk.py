"""Large files: reading and writing them at the speed of the disk, and what goes wrong with disks.

Nothing here leaves a large file in the page cache. Memory that Linux takes for the cache for the first time must be
cleared, and in a virtual machine be got from the host. On one, reading 1.7 GB into the cache took 4 s, 2.8 s of them on
the processor; with each piece dropped again once it was read, 1 s and 0.15 s.
"""

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from megatron_sft.errors import ConversionError

BLOCK_BYTES = 8 << 20
ALIGNMENT = 4096
"""A multiple of every disk's block size, which going past the page cache asks for."""
_NUM_BUFFERS = 4


def read_into(descriptor: int, view: memoryview, offset: int, *, keep_cached: bool = False) -> None:
    """Fill `view` with a file's bytes from `offset` (bytes) on; the page cache drops them unless it is to keep them.

    Raises:
        EOFError: when the file ends before.
    """
    done = 0
    while done < len(view):
        count = os.preadv(descriptor, [view[done : done + BLOCK_BYTES]], offset + done)
        if count == 0:
            raise EOFError(f"the file ends at byte {offset + done}")
        if not keep_cached:
            forget(descriptor, offset + done, count)
        done += count


def forget(descriptor: int, offset: int = 0, num_bytes: int = 0) -> None:
    """Drop a part of a file (by default all of it) from the page cache, but what is still to be written."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, num_bytes, os.POSIX_FADV_DONTNEED)


def aligned(num_bytes: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT


def open_direct(path: Path, flags: int) -> int:
    """A descriptor that goes past the page cache, or through it where the file system has no other way (tmpfs)."""
    try:
        return os.open(path, flags | getattr(os, "O_DIRECT", 0), 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(path, flags, 0o666)


def write_at(descriptor: int, view: memoryview, offset: int) -> None:
    """Write all of `view` from byte `offset` on."""
    done = 0
    while done < len(view):
        try:
            done += os.pwrite(descriptor, view[done:], offset + done)
        except OSError as error:
            direct = getattr(os, "O_DIRECT", 0)
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            if error.errno != errno.EINVAL or not flags & direct:
                raise
            # An odd number of bytes was the last that fitted in, or the blocks are larger: the cache takes any number.
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~direct)


class HashedFile:
    """A file that is written from its first byte to its last, past the page cache. A context manager.

    The caller fills one block of memory while a thread hashes the one before, and another writes it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = open_direct(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._digest = hashlib.sha256()
        self._blocks = [memoryview(mmap.mmap(-1, BLOCK_BYTES)) for _ in range(_NUM_BUFFERS)]
        self._pending: list[list[Future[Any]]] = [[] for _ in self._blocks]
        self._hashing, self._writing = ThreadPoolExecutor(max_workers=1), ThreadPoolExecutor(max_workers=1)
        self._current = self._filled = self._size = 0

    def write(self, content: bytes) -> None:
        """Write a few bytes."""
        position = 0

        def take(view: memoryview) -> None:
            nonlocal position
            view[:] = content[position : position + len(view)]
            position += len(view)

        self.fill(len(content), take)

    def fill(self, num_bytes: int, source: Callable[[memoryview], None]) -> None:
        """Write the next `num_bytes`, which `source` puts into the memory it is given, one part after the other."""
        while num_bytes:
            part = min(num_bytes, BLOCK_BYTES - self._filled)
            source(self._blocks[self._current][self._filled : self._filled + part])
            self._filled += part
            num_bytes -= part
            if self._filled == BLOCK_BYTES:
                self._hand_on()

    def finish(self) -> str:
        """Write what is left, have the disk keep all of it, and return the sha256 (hex) of what was given to it."""
        size = self._size + self._filled
        self._hand_on()
        for number in range(len(self._blocks)):
            self._wait(number)
        os.ftruncate(self._descriptor, size)
        os.fsync(self._descriptor)
        return self._digest.hexdigest()

    def __enter__(self) -> "HashedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._hashing.shutdown()
        self._writing.shutdown()
        os.close(self._descriptor)

    def _hand_on(self) -> None:
        block, filled = self._blocks[self._current], self._filled
        written = block[: aligned(filled)]
        self._pending[self._current] = [
            self._hashing.submit(self._digest.update, block[:filled]),
            self._writing.submit(write_at, self._descriptor, written, self._size),
        ]
        self._size += filled
        self._current, self._filled = (self._current + 1) % len(self._blocks), 0
        self._wait(self._current)

    def _wait(self, number: int) -> None:
        pending, self._pending[number] = self._pending[number], []
        for future in pending:
            future.result()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the operating system says into an error that names the folder.

    Raises:
        ConversionError: for every OSError of the block.
    """
    try:
        yield
    except OSError as error:
        raise ConversionError(
            f"{folder}: cannot be written: {error.strerror or error}; nothing is left of it: see to the disk (space, "
            "quota, permissions) and start the same command again"
        ) from error


def sha256_on_disk(path: Path) -> str:
    """The sha256 (hex) of a file's bytes as the disk has them, not as memory remembers them."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        forget(file.fileno())
    descriptor = open_direct(path, os.O_RDONLY)
    blocks = [memoryview(mmap.mmap(-1, BLOCK_BYTES)) for _ in range(_NUM_BUFFERS)]
    try:
        with ThreadPoolExecutor(max_workers=2) as reading:
            starts = iter(range(0, path.stat().st_size, BLOCK_BYTES))

            def begin(block: memoryview) -> tuple[memoryview, Future[int]] | None:
                start = next(starts, None)
                return None if start is None else (block, reading.submit(_read_block, descriptor, block, start))

            # One block is hashed while the disk reads two more: with one alone it would wait for each request.
            running = [begin(block) for block in blocks[:3]]
            while (first := running.pop(0)) is not None:
                block, read = first
                digest.update(block[: read.result()])
                running.append(begin(block))
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _read_block(descriptor: int, block: memoryview, start: int) -> int:
    """Bytes read: fewer than asked for at the end of the file only."""
    done = 0
    while done < len(block) and (count := os.preadv(descriptor, [block[done:]], start + done)):
        done += count
        if count % ALIGNMENT:
            break
    return done
