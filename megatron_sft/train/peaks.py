"""How fast GPUs are at most: dense matrix products, as their makers state them."""

_PEAKS: tuple[tuple[str, float, float | None], ...] = (
    ("GB300", 2500, 5000),
    ("GB200", 2500, 5000),
    ("B300", 2250, 4500),
    ("B200", 2250, 4500),
    ("H200 NVL", 835, 1671),
    ("H200", 989, 1979),
    ("GH200", 989, 1979),
    ("H100 NVL", 835, 1671),
    ("H100 PCIe", 756, 1513),
    ("H100", 989, 1979),
    ("H800", 989, 1979),
    ("H20", 148, 296),
    ("A100", 312, None),
    ("A800", 312, None),
    ("L40S", 362, 733),
    ("L40", 181, 362),
    ("L4", 121, 242),
    ("A10", 125, None),
)
"""Part of the name that the driver gives; TFLOP/s in bf16 and in FP8 (None: has no FP8). The first match counts."""


def peak_tflops(device_name: str, *, fp8: bool = False) -> float | None:
    """Dense peak in TFLOP/s of a GPU by its name, such as `NVIDIA H100 80GB HBM3`; None where it is not known.

    With `fp8`, that of FP8 matrix products, which is also None where the GPU has none.
    """
    words = f" {device_name.replace('-', ' ')} "
    for name, bf16_peak, fp8_peak in _PEAKS:
        if f" {name} " in words:
            return fp8_peak if fp8 else bf16_peak
    return None
