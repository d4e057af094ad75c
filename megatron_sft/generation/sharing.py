"""Several engines that draw from the same requests."""

import os
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedIterator(Generic[T]):
    """An iterator that several threads draw from."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._lock = threading.Lock()
        self.stopped = False

    def __iter__(self) -> "SharedIterator[T]":
        """Return itself."""
        return self

    def __next__(self) -> T:
        """Return the next item that no thread has had."""
        with self._lock:
            if self.stopped:
                raise StopIteration
            return next(self._items)

    def stop(self) -> None:
        """Hand out no more."""
        self.stopped = True


def devices_of(number: int, num_gpus: int, visible: str | None = None) -> str:
    """Return CUDA_VISIBLE_DEVICES for engine `number`, with `num_gpus` each out of those `visible` to this process."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "") if visible is None else visible
    mine = range(number * num_gpus, (number + 1) * num_gpus)
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return ",".join(names[index] if index < len(names) else str(index) if not names else "-1" for index in mine)
