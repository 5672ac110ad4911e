"""Summary of the kernels of an imported trace: how many, how long, and how much of them is explained."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.op import MATRIX_KINDS
from profiler.traces import ATTRIBUTIONS, KERNEL_CATEGORIES, FloatArray, Kernels, Trace

_GEMM_KERNEL = re.compile(r"gemm|nvjet|cutlass|cublas|Cijk_|implicit_convolve|scudnn|hcudnn|gemv", re.IGNORECASE)
_HOST_COPY = re.compile(r"htod|dtoh", re.IGNORECASE)
_NOT_GEMM = re.compile(r"flash|fmha|attention|splitKreduce|ReduceSplitK", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSummary:
    """Totals over the device events of a trace.

    Attributes:
        kernel_count: kernels, those of collectives included; copies and fills by the copy engines are not.
        copy_count: memcpy and memset events.
        kernel_s: sum of the kernels' durations as far as known, None where none of them is; so for all sums below.
        copy_s: sum of the copies' durations.
        busy_s: time in which at least one event ran (on any stream or device); None where starts are not recorded, as
            where counters are read one kernel at a time.
        span_s: from the first start to the last end, None likewise.
        unexplained_count: kernels that no op explains.
        unexplained_s: sum of their durations.
        repeated_count: kernels whose op is inferred from an equal run.
        repeated_s: sum of their durations.
        host_copy_count: copies between host and device.
        host_copy_s: sum of their durations.
        gemm_s: sum of the durations of kernels that are matrix products by name.
        gemm_explained_ratio: share of `gemm_s` whose op has shapes and FLOPs; None where there is no such kernel.
    """

    kernel_count: int
    copy_count: int
    kernel_s: float | None
    copy_s: float | None
    busy_s: float | None
    span_s: float | None
    unexplained_count: int
    unexplained_s: float | None
    repeated_count: int
    repeated_s: float | None
    host_copy_count: int
    host_copy_s: float | None
    gemm_s: float
    gemm_explained_ratio: float | None


def is_gemm_kernel(name: str) -> bool:
    """Whether a kernel of this name is a matrix product (or a convolution as one), judged by its library's naming.

    >>> is_gemm_kernel("nvjet_hsh_128x128_64x5_1x2_h_bz_TNT"), is_gemm_kernel("flash_fwd_kernel<cutlass::half_t>")
    (True, False)
    """
    return _GEMM_KERNEL.search(name) is not None and _NOT_GEMM.search(name) is None


def _is_host_copy(name: str) -> bool:
    return _HOST_COPY.search(name) is not None


def _by_name(trace: Trace, is_one: Callable[[str], bool]) -> NDArray[np.bool_]:
    """Kernels whose name is one of those, [kernels]; each distinct name is judged once."""
    judged: NDArray[np.bool_] = np.array([is_one(name) for name in trace.kernel_names], dtype=bool)[trace.kernels.name]
    return judged


def union_ps(spans: Iterable[tuple[int, int]]) -> int:
    """Time covered by at least one of the spans (start, end).

    >>> union_ps([(0, 10), (5, 12), (20, 21)])
    13
    """
    covered, reached = 0, None
    for start, end in sorted(spans):
        begin = start if reached is None else max(start, reached)
        covered += max(0, end - begin)
        reached = end if reached is None else max(reached, end)
    return covered


def summarize_kernels(trace: Trace) -> KernelSummary:
    """Totals over the kernels of an imported trace; all zero where it has none."""
    kernels = trace.kernels
    is_copy = np.isin(kernels.category, [KERNEL_CATEGORIES.index("memcpy"), KERNEL_CATEGORIES.index("memset")])
    is_host_copy = _by_name(trace, _is_host_copy) & (kernels.category == KERNEL_CATEGORIES.index("memcpy"))
    is_gemm = _by_name(trace, is_gemm_kernel) & ~is_copy
    has_flops = np.array([op.kind in MATRIX_KINDS and bool(op.matrix_flops) for op in trace.ops], dtype=bool)
    is_explained = has_flops[trace.calls.op[kernels.call]]
    unexplained = (kernels.attribution == ATTRIBUTIONS.index("unexplained")) & ~is_copy
    repeated = (kernels.attribution == ATTRIBUTIONS.index("repeat")) & ~is_copy
    busy_s, span_s = _occupied(kernels)
    gemm_s = float(np.nansum(kernels.duration_s[is_gemm]))
    return KernelSummary(
        kernel_count=int((~is_copy).sum()),
        copy_count=int(is_copy.sum()),
        kernel_s=_known_sum(kernels.duration_s[~is_copy]),
        copy_s=_known_sum(kernels.duration_s[is_copy]),
        busy_s=busy_s,
        span_s=span_s,
        unexplained_count=int(unexplained.sum()),
        unexplained_s=_known_sum(kernels.duration_s[unexplained]),
        repeated_count=int(repeated.sum()),
        repeated_s=_known_sum(kernels.duration_s[repeated]),
        host_copy_count=int(is_host_copy.sum()),
        host_copy_s=_known_sum(kernels.duration_s[is_host_copy]),
        gemm_s=gemm_s,
        gemm_explained_ratio=float(np.nansum(kernels.duration_s[is_gemm & is_explained])) / gemm_s if gemm_s else None,
    )


def _known_sum(durations_s: FloatArray) -> float | None:
    known = np.isfinite(durations_s)
    return float(durations_s[known].sum()) if known.any() or not len(durations_s) else None


def _occupied(kernels: Kernels) -> tuple[float | None, float | None]:
    """Busy time and span of the events whose times were recorded; None where there are events but no times."""
    if not len(kernels):
        return 0.0, 0.0
    timed = np.isfinite(kernels.start_s) & np.isfinite(kernels.duration_s)
    if not timed.any():
        return None, None
    starts_s, ends_s = kernels.start_s[timed], (kernels.start_s + kernels.duration_s)[timed]
    spans = zip(np.rint(starts_s * 1e12).astype(int), np.rint(ends_s * 1e12).astype(int), strict=True)
    busy_s = union_ps((int(start), int(end)) for start, end in spans) * 1e-12
    return busy_s, float(ends_s.max() - starts_s.min())
