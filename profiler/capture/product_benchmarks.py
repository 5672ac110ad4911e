"""Micro-benchmarks of matrix products: square ones of growing size, thin ones, and a matrix times one vector."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from profiler.capture.bench import Bench
from profiler.measurements import measurement_from_times

DTYPES = {
    "float32": torch.float32,
    "tfloat32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
    "float8_e4m3fn": torch.float8_e4m3fn,
}
CUDA_ONLY = ("tfloat32", "float8_e4m3fn")
SQUARE_SIZES = {"cpu": (256, 512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192, 16384)}
_SQUARE_BUDGET_S = {"brief": 0.5, "full": 2.0}  # per dtype, which sets the largest size
_SQUARE_WINDOW_S = {"brief": 0.06, "full": 0.4}  # of one size
_SHAPE_BUDGET_S = {"brief": 0.03, "full": 0.1}
_NEAR_BEST_RATIO = 0.8  # of the fastest size; one that is slower in its first window is not measured again
# Rows that one weight matrix meets: a batch or block of tokens, and a single token.
_THIN_ROWS = 32
_WEIGHT_SIZE = {"cpu": 2048, "cuda": 8192}


def measure_square(bench: Bench, dtype: str) -> None:
    """Square products of growing size until the time is spent; from the second visit on the fastest of them."""
    known = [size for known_dtype, size in bench.square if known_dtype == dtype]
    if known:
        best = max(bench.square[dtype, size].value for size in known)
        for size in known:
            if bench.square[dtype, size].value >= _NEAR_BEST_RATIO * best:
                _measure_square_of(bench, dtype, size)
        return
    budget_s = _SQUARE_BUDGET_S[bench.mode]
    for size in SQUARE_SIZES[bench.device]:
        start = time.perf_counter()
        try:
            once_s = _measure_square_of(bench, dtype, size)
        except (RuntimeError, NotImplementedError) as error:
            bench.missing[dtype] = f"matmul {dtype} of {size}: not measured: {str(error).splitlines()[0]}"
            return
        budget_s -= time.perf_counter() - start
        if 8 * once_s * 9 > max(budget_s, 0.0):
            return


def _measure_square_of(bench: Bench, dtype: str, size: int) -> float:
    """One size; returns seconds of a product."""
    times = _product_times_s(bench, dtype, (size, size, size), _SQUARE_WINDOW_S[bench.mode])
    found = measurement_from_times(
        f"matmul {dtype}", times, amount=2.0 * size**3, unit="flops_per_s", conditions=f"{size}^3, x W^T"
    )
    bench.keep(bench.square, (dtype, size), found)
    return float(np.median(times))


def measure_thin(bench: Bench, dtype: str) -> None:
    """A few rows, and one row, times a square matrix of weights."""
    if dtype in bench.missing:
        return
    size = _WEIGHT_SIZE[bench.device]
    weight_bytes = float(size * size * DTYPES[dtype].itemsize)
    try:
        thin_s = _product_times_s(bench, dtype, (_THIN_ROWS, size, size), _SHAPE_BUDGET_S[bench.mode])
        flops, conditions = 2.0 * _THIN_ROWS * size**2, f"{_THIN_ROWS} x {size} x {size}, x W^T"
        name = f"tall_skinny {dtype}"
        found = measurement_from_times(name, thin_s, amount=flops, unit="flops_per_s", conditions=conditions)
        bench.keep(bench.single, name, found)
        if dtype in ("int8", "float8_e4m3fn"):  # no such product of a single row in torch
            return
        one_s = _product_times_s(bench, dtype, (1, size, size), _SHAPE_BUDGET_S[bench.mode])
    except (RuntimeError, NotImplementedError) as error:
        bench.missing[f"{dtype} thin"] = f"thin {dtype} products: not measured: {str(error).splitlines()[0]}"
        return
    name, conditions = f"gemv {dtype}", f"1 x {size} x {size}, x W^T, bytes of W"
    found = measurement_from_times(name, one_s, amount=weight_bytes, unit="bytes_per_s", conditions=conditions)
    bench.keep(bench.single, name, found)


def _product_times_s(bench: Bench, dtype: str, sizes: tuple[int, int, int], budget_s: float) -> NDArray[np.float64]:
    m, n, k = sizes
    left, right = _operand(bench, dtype, m, k), _operand(bench, dtype, n, k)
    run: Callable[[], object]
    if dtype == "int8":
        run = partial(torch._int_mm, left, right.t())
    elif dtype == "float8_e4m3fn":
        one = torch.ones((), device=bench.device)
        run = partial(torch._scaled_mm, left, right.t(), one, one, out_dtype=torch.bfloat16)
    else:
        run = partial(torch.mm, left, right.t(), out=torch.empty(m, n, dtype=left.dtype, device=bench.device))
    with _tfloat32(dtype == "tfloat32"):
        return bench.times_s(run, budget_s)


def _operand(bench: Bench, dtype: str, rows: int, columns: int) -> torch.Tensor:
    """Random values: what is multiplied changes the power drawn, and with it the clock."""
    values = bench.random_values(rows * columns).view(rows, columns)
    return (4.0 * values).round().to(torch.int8) if dtype == "int8" else values.to(DTYPES[dtype], copy=True)


@contextmanager
def _tfloat32(allowed: bool) -> Iterator[None]:
    """Let float32 products use TF32 inside the block, or forbid it."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
