"""Large files: writing and reading them at the speed of the disk, and what goes wrong with disks."""

import contextlib
import hashlib
import io
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch

from megatron_sft.errors import ConversionError

_WRITE_BYTES = 256 << 10
_FLUSH_BYTES = 128 << 20
_READ_BYTES = 8 << 20
"""A multiple of every disk's block size, which reading past the page cache asks for."""
ItemT = TypeVar("ItemT")


class PiecewiseFile(io.FileIO):
    """A file to be written, in pieces of 256 KiB, while a thread has the disk write what is there already.

    Linux 6 on ext4 took 4 GB/s in pieces of up to 512 KiB and 0.6 GB/s in pieces of 1 MiB and more. Without the thread
    the disk would have most of a large file still to write when the caller syncs it.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, "wb")
        self.error: OSError | None = None
        """What the operating system said first. torch makes errors of its own of it, which do not have the reason."""
        self._flusher = ThreadPoolExecutor(max_workers=1)
        self._flush: Future[None] | None = None
        self._num_unflushed = 0

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):
                count = super().write(view[done : done + _WRITE_BYTES])
                done += count
                self._num_unflushed += count
                if self._num_unflushed >= _FLUSH_BYTES and (self._flush is None or self._flush.done()):
                    self._wait_for_flush()
                    self._flush = self._flusher.submit(os.fsync, self.fileno())
                    self._num_unflushed = 0
        except OSError as error:
            self.error = self.error or error
            raise
        return done

    def close(self) -> None:
        """Close the file; what it holds may not be on the disk yet.

        Raises:
            OSError: when the disk could not take what was written before.
        """
        if self.closed:
            return
        try:
            self._wait_for_flush()
        except OSError as error:
            self.error = self.error or error
            raise
        finally:
            self._flusher.shutdown()
            super().close()

    def _wait_for_flush(self) -> None:
        flush, self._flush = self._flush, None
        if flush is not None:
            flush.result()


def as_bytes(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    return tensor.view(-1).view(torch.uint8).numpy().data


def read_into(descriptor: int, target: torch.Tensor, offset: int) -> None:
    """Fill a contiguous tensor with a file's bytes from `offset` (bytes) on.

    Raises:
        EOFError: when the file ends before.
    """
    view = as_bytes(target)
    done = 0
    while done < len(view):
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if count == 0:
            raise EOFError(f"the file ends at byte {offset + done}")
        done += count


def one_ahead(items: Iterator[ItemT]) -> Iterator[ItemT]:
    """The same items; a thread gets the next one ready while the caller uses the present one."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as thread:
        following = thread.submit(next, items, end)
        while (item := following.result()) is not end:
            following = thread.submit(next, items, end)
            yield item  # type: ignore[misc]
            del item  # else three would be in memory


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
    """The sha256 (hex) of a file's bytes as the disk has them, not as memory remembers them.

    Where the file system can, they are read past the page cache, which also saves most of the time.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with _uncached(path) as file, mmap.mmap(-1, _READ_BYTES) as one, mmap.mmap(-1, _READ_BYTES) as other:
        # Of two pages of memory, one is read into while the other is hashed.
        buffers = [memoryview(one), memoryview(other)]
        with ThreadPoolExecutor(max_workers=1) as reading:
            following = reading.submit(file.readinto, buffers[0])
            while count := following.result():
                present = buffers[0][:count]
                buffers.reverse()
                following = reading.submit(file.readinto, buffers[0])
                digest.update(present)
                present.release()
        for buffer in buffers:
            buffer.release()
    return digest.hexdigest()


def _uncached(path: Path) -> io.FileIO:
    """Open a file for reading past the page cache, or through it where that is not possible."""
    direct = getattr(os, "O_DIRECT", 0)
    try:
        return io.FileIO(path, "rb", opener=lambda name, flags: os.open(name, flags | direct))
    except OSError:
        # tmpfs, for one, has no other way.
        return io.FileIO(path, "rb")
