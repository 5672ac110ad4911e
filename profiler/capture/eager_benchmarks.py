"""Micro-benchmarks of eager PyTorch on a CPU, where the host is the device: what an op costs beyond its roofline.

Ceilings are measured on data that stay in the caches and by code that has just run. A program streams its weights from
main memory between two uses of anything else, so here each product meets other weights, and calls too short to move
much come after a stream that fills the last cache.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import torch
from torch import nn
from torch.nn import functional

from profiler.capture.bench import Bench
from profiler.capture.machine import cpu_caches
from profiler.capture.product_benchmarks import DTYPES
from profiler.measurements import (
    EAGER_PREFIX,
    EAGER_ROWS,
    EAGER_WEIGHT_SIZE,
    GRAIN_ELEMENTS,
    Unit,
    measurement_from_times,
)

_DTYPES = ("float32", "bfloat16")
_BUDGET_S = {"brief": 0.03, "full": 0.12}  # of one window
_LAST_CACHE_BYTES = (16 * 2**20, 128 * 2**20)  # least and most that is taken for it, whatever the system tells
_FRESH_BYTES = 48 * 2**20  # more than glibc ever keeps for the next tensor (DEFAULT_MMAP_THRESHOLD_MAX, 32 MiB)
_WIDTH = 16  # of tensors whose arithmetic takes no time
_HEADS, _HEAD_DIM, _QUERIES, _KEYS = 8, 64, 256, 2048
_NORMED = (256, 1024)
_CHANNELS, _SIDE = 64, 28


class _TinyBlock(nn.Module):
    """A norm and a gated layer, with the modules, views and attributes of a usual program."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(_WIDTH)
        self.gate, self.up = (nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(2))
        self.activation = nn.SiLU()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The block as a program has it: `EAGER_BLOCK_CALLS` that take time of their own, and views between them."""
        normed = self.norm(rows)
        gate = self.gate(normed).view(len(rows), 2, -1).transpose(0, 1)
        up = self.up(normed).view(len(rows), 2, -1).transpose(0, 1)
        added: torch.Tensor = rows + self.activation(gate).mul(up).transpose(0, 1).flatten(1)
        return added


def eager_steps(bench: Bench) -> list[tuple[str, Callable[[], None]]]:
    """(name, what to run) of all of them."""
    steps: list[tuple[str, Callable[[], None]]] = [("eager calls", partial(_measure_calls, bench))]
    for dtype in _DTYPES:
        steps.append((f"eager products {dtype}", partial(_measure_products, bench, dtype)))
    steps.append(("eager attention", partial(_measure_attention, bench)))
    steps.append(("eager elements", partial(_measure_elements, bench)))
    steps.append(("eager convolutions", partial(_measure_convolutions, bench)))
    return steps


def _measure_calls(bench: Bench) -> None:
    """Calls that compute next to nothing, after streams that leave the nearer caches, or all, full of other things."""
    calls = _short_calls()
    near, far = eager_reaches()
    for reach, size, names in (("near", near, tuple(calls)), ("far", far, ("call",))):
        evict = partial(torch.sum, bench.buffer(size)[: size // 4])
        for name in names:
            what = f"next to no arithmetic, after a stream of {size >> 20} MiB"
            times = bench.sample(partial(_time_after, evict, calls[name]), _BUDGET_S[bench.mode])
            found = measurement_from_times(f"{EAGER_PREFIX}{reach} {name}", times, conditions=what)
            bench.keep(bench.single, found.name, found)


def _short_calls() -> dict[str, Callable[[], object]]:
    """One call of each kind, by the name that its figure has; `call` is what most dispatches are."""
    rows, weights, block = torch.ones(2, _WIDTH), torch.ones(_WIDTH, _WIDTH), _TinyBlock()
    keys, image = torch.ones(1, _HEADS, 8, _HEAD_DIM), torch.ones(1, _WIDTH, 2, 2)
    return {
        "call": partial(torch.neg, rows),
        "linear": partial(functional.linear, rows, weights),
        "convolution": partial(functional.conv2d, image, weights.view(_WIDTH, _WIDTH, 1, 1)),
        "norm": partial(functional.rms_norm, rows, (_WIDTH,)),
        "layer_norm": partial(functional.layer_norm, rows, (_WIDTH,)),
        "gelu": partial(functional.gelu, rows),
        "attention": partial(functional.scaled_dot_product_attention, keys[:, :, :1], keys, keys),
        "module": partial(block, rows),
    }


def _time_after(evict: Callable[[], object], run: Callable[[], object]) -> float:
    evict()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _measure_products(bench: Bench, dtype: str) -> None:
    """One row, a few and many rows times weights from main memory, for each call others; and times the same again."""
    size, kind = EAGER_WEIGHT_SIZE, DTYPES[dtype]
    matrices = _in_turn(bench, size * size * kind.itemsize)
    turn = cycle([each.view(kind).view(size, size) for each in matrices])
    for rows in EAGER_ROWS:
        left = torch.ones(rows, size, dtype=kind)
        what = f"{rows} x {size} x {size}, x W^T, one of {len(matrices)} W in turn"
        _keep(bench, f"{EAGER_PREFIX}{rows} rows {dtype}", partial(_product, left, turn), conditions=what)
    for rows in EAGER_ROWS[:2]:
        left, name = torch.ones(rows, size, dtype=kind), f"{EAGER_PREFIX}{rows} held rows {dtype}"
        again = cycle([matrices[0].view(kind).view(size, size)])
        _keep(bench, name, partial(_product, left, again), conditions=f"{rows} x {size} x {size}, x W^T, one W")


def _product(left: torch.Tensor, turn: Iterator[torch.Tensor]) -> torch.Tensor:
    return functional.linear(left, next(turn))


def _in_turn(bench: Bench, size_bytes: int) -> list[torch.Tensor]:
    """Tensors of float32 that fill the last cache so often that none of them is left in it when its turn comes."""
    copies = -(-eager_reaches()[1] // size_bytes)
    return list(bench.buffer(copies * size_bytes)[: copies * size_bytes // 4].view(copies, -1))


def _measure_attention(bench: Bench) -> None:
    """Many queries, whose products count, and one query, whose keys and values come from main memory."""
    attend = functional.scaled_dot_product_attention
    queries = torch.rand(1, _HEADS, _QUERIES, _HEAD_DIM)
    flops = 4.0 * _HEADS * _QUERIES * _QUERIES * _HEAD_DIM
    what = f"{_HEADS} heads of {_HEAD_DIM}, {_QUERIES} queries and keys, float32"
    run = partial(attend, queries, queries, queries)
    _keep(bench, f"{EAGER_PREFIX}many queries", run, amount=flops, unit="flops_per_s", conditions=what)
    cache_bytes = 4 * 2 * _HEADS * _KEYS * _HEAD_DIM
    caches = [each.view(2, 1, _HEADS, _KEYS, _HEAD_DIM) for each in _in_turn(bench, cache_bytes)]
    turn, one = cycle(caches), queries[:, :, :1]
    what = f"{_HEADS} heads of {_HEAD_DIM}, one query and {_KEYS} keys, float32, one of {len(caches)} caches in turn"
    amount = float(cache_bytes)
    _keep(
        bench,
        f"{EAGER_PREFIX}one query",
        lambda: attend(one, *next(turn)),
        amount=amount,
        unit="bytes_per_s",
        conditions=what,
    )


def _measure_elements(bench: Bench) -> None:
    """Functions, norms and largest positions of data in the caches; what PyTorch splits; a tensor never touched."""
    rows, columns = _NORMED
    table, threads = torch.rand(rows, columns), torch.get_num_threads()
    part, whole = torch.ones(GRAIN_ELEMENTS), torch.ones(GRAIN_ELEMENTS * threads)
    runs: dict[str, tuple[Callable[[], object], float]] = {
        "norm elements": (partial(functional.rms_norm, table, (columns,)), float(table.numel())),
        "function elements": (partial(functional.silu, table), float(table.numel())),
        "argmax elements": (partial(torch.argmax, table, -1), float(table.numel())),
        "alone": (partial(torch.neg, part, out=part), float(part.numel())),
        "together": (partial(torch.neg, whole, out=whole), float(whole.numel())),
    }
    for name, (run, elements) in runs.items():
        in_s = name in ("alone", "together")
        _keep(
            bench,
            f"{EAGER_PREFIX}{name}",
            run,
            amount=None if in_s else elements,
            unit="s" if in_s else "elements_per_s",
            conditions=f"{elements:.0f} float32",
        )
    run = partial(torch.full, (_FRESH_BYTES // 4,), 1.0)
    what = f"{_FRESH_BYTES >> 20} MiB that were never touched, filled"
    _keep(bench, f"{EAGER_PREFIX}fresh", run, amount=float(_FRESH_BYTES), unit="bytes_per_s", conditions=what)


def _measure_convolutions(bench: Bench) -> None:
    """A convolution of 3 x 3 and one of 1 x 1."""
    images = torch.rand(4, _CHANNELS, _SIDE, _SIDE)
    for kernel, channels in ((3, _CHANNELS), (1, 4 * _CHANNELS)):
        weights = torch.rand(channels, _CHANNELS, kernel, kernel)
        run = partial(functional.conv2d, images, weights, padding=kernel // 2)
        flops = 2.0 * len(images) * _SIDE**2 * weights.numel()
        what = f"{_CHANNELS} to {channels} channels, {kernel} x {kernel}, 4 images of {_SIDE} x {_SIDE}, float32"
        name = f"{EAGER_PREFIX}convolution {kernel}"
        _keep(bench, name, run, amount=flops, unit="flops_per_s", conditions=what)


def eager_reaches() -> tuple[int, int]:
    """Bytes of streams that leave the nearer caches, and all caches, full of other things."""
    least, most = _LAST_CACHE_BYTES
    last = min(most, max([least, *(cache.capacity_bytes for cache in cpu_caches())]))
    return last // 4, 2 * last


def _keep(
    bench: Bench,
    name: str,
    run: Callable[[], object],
    *,
    amount: float | None = None,
    unit: Unit = "s",
    conditions: str,
) -> None:
    times = bench.times_s(run, _BUDGET_S[bench.mode])
    bench.keep(bench.single, name, measurement_from_times(name, times, amount=amount, unit=unit, conditions=conditions))
