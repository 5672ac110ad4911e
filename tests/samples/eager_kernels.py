"""Kernels of eager programs: tensors without data, and the microseconds that a run of them is predicted to take."""

from collections.abc import Callable

import torch

from profiler.capture import capture
from roofline.chip import Chip
from simulator import analytic


def full(
    shape: tuple[int, ...], dtype: torch.dtype = torch.bfloat16, strides: tuple[int, ...] | None = None
) -> torch.Tensor:
    if strides is None:
        return torch.empty(*shape, dtype=dtype, device="meta")
    return torch.empty_strided(shape, strides, dtype=dtype, device="meta")


def eager_us(run: Callable[[], object], chip: Chip, clock_ratio: float | None = None) -> float:
    with torch.no_grad(), capture(name="kernels") as recording:
        run()
    result = analytic.simulate(recording.trace, chip, mode="eager", clock_ratio=clock_ratio)
    return 1e6 * float(result.duration_s.sum())
