"""What goes wrong on disks: no space, and bytes that are not those that were written."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from megatron_sft.errors import ConversionError


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
    """The sha256 (hex) of a file's bytes as the disk has them: what is in memory of it is put aside before."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").hexdigest()
