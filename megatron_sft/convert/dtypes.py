"""The dtypes of weights that can be converted. Conversion moves their bytes; only a cast needs torch."""

import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Dtype(enum.Enum):
    """A dtype by torch's name for it."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"

    @property
    def num_bytes(self) -> int:
        """Size of an element."""
        return 4 if self is Dtype.FLOAT32 else 2

    @property
    def in_safetensors(self) -> str:
        """Its name in the header of a safetensors file."""
        return _SAFETENSORS_NAMES[self]

    @property
    def bits(self) -> np.dtype[Any]:
        """Integers of the same size, as which numpy carries the elements: it has no bfloat16."""
        return np.dtype("<i4" if self is Dtype.FLOAT32 else "<i2")


_SAFETENSORS_NAMES = {Dtype.FLOAT32: "F32", Dtype.BFLOAT16: "BF16", Dtype.FLOAT16: "F16"}
OF_SAFETENSORS = {name: dtype for dtype, name in _SAFETENSORS_NAMES.items()}


def as_bytes(array: NDArray[Any]) -> memoryview:
    """The memory of an array that lies row by row."""
    return array.reshape(-1).view(np.uint8).data


def cast(bits: NDArray[Any], source: Dtype, target: Dtype) -> NDArray[Any]:
    """Elements of dtype `source`, as their bits, in dtype `target`, as their bits again."""
    if source is target:
        return bits
    # Imported late: it takes seconds, and most conversions cast nothing.
    import torch

    values = torch.from_numpy(bits).view(getattr(torch, source.value)).to(getattr(torch, target.value))
    as_integers: NDArray[Any] = values.view(getattr(torch, target.bits.name)).numpy()
    return as_integers
