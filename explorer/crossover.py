"""Where diffusion overtakes autoregression: a closed form over what each asks of compute and of memory.

A kernel of f FLOPs and m bytes takes `sqrt((f / F)^2 + (m / B)^2) + t` seconds on a chip that achieves F and B and
whose shortest kernel takes t: computing and loading overlap, but not wholly where both take long. Attention takes
`f / F_q + t` at a rate of its own for each number of queries q: how many rows of a tile a block of queries fills, and
whether heads share what they load, is up to the kernels of a chip. With the chip's ridge r = F / B, diffusion is faster
where the sum over the kernels of a token is the smaller one.

In a dense model of P parameters in 16 bits, decoding b sequences reads 2 P bytes for b tokens, and diffusion that
visits v rows for each token it emits, n tokens a forward, takes 2 P v FLOPs and 2 P / (n b) bytes. So it overtakes
where r > b sqrt((v^2 - 1) / (1 - 1 / n^2)), which is v b for large v and n: every sequence more in the batch asks for a
ridge that much higher (keys and values, which this leaves out, are in the traces).

The square has the smallest largest error of the exponents tried (1.5 to 4, and the longer of both alone), as
`benchmarks/crossover_exponent.py` prints.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from explorer.hardware import FloatArray
from explorer.workload import Workload
from profiler.op import KINDS, Op, Operand
from roofline.chip import Chip
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns, plan_ops

_LARGE = 8192  # rows, columns and depth of the product that tells what a chip computes; its weights, what it reads
_SMALL = 64  # of the product that tells what its shortest kernel takes
_SEQUENCES = 64  # of that attention: enough to fill a chip
_SHAPE = ("queries", "heads", "kv_heads", "head_dim", "causal")

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Demand:
    """What one token asks of a chip, kernel by kernel, [O] each; with its workload's name.

    Attributes:
        name: of the workload.
        flops: of one call.
        bytes: moved by one call.
        calls: for each token.
        shapes: of attention, (queries, heads, heads of keys, head size, causal, keys); None for all other kernels.
    """

    name: str
    flops: FloatArray
    bytes: FloatArray
    calls: FloatArray
    shapes: tuple[Shape | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What the closed form knows of a chip: four figures, each of one simulated kernel.

    Attributes:
        flops_per_s: of one large product.
        bytes_per_s: of the product of one row with the same weights.
        kernel_s: that a small product takes.
        attention_flops_per_s: of attention, by its shape; of shapes that are not here, as any other kernel.
    """

    flops_per_s: float
    bytes_per_s: float
    kernel_s: float
    attention_flops_per_s: dict[Shape, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One chip and one pair of workloads on the map.

    Attributes:
        chip: name.
        flops_per_s: achieved by one large product, simulated.
        bytes_per_s: achieved by the product of one row with the same weights, simulated.
        kernel_s: that a small product takes, simulated.
        autoregression: name of that workload.
        diffusion: name of the other.
        visits: FLOPs of a token by diffusion over those by autoregression.
        closed_ratio: time of a token by autoregression over that by diffusion, by the closed form; above 1, diffusion
            is faster.
        simulated_ratio: the same, both traces simulated; NaN where the chip's memory does not hold both.
    """

    chip: str
    flops_per_s: float
    bytes_per_s: float
    kernel_s: float
    autoregression: str
    diffusion: str
    visits: float
    closed_ratio: float
    simulated_ratio: float

    @property
    def ridge(self) -> float:
        """Achieved FLOPs per achieved byte."""
        return self.flops_per_s / self.bytes_per_s

    @property
    def error(self) -> float:
        """Closed form over simulation, less one."""
        return self.closed_ratio / self.simulated_ratio - 1.0


def demand(workload: Workload) -> Demand:
    """Matrix FLOPs and bytes of the kernels of the run, and how often a token calls them."""
    return Demand(
        name=workload.name,
        flops=workload.ops.required_matrix_flops[:, 0],
        bytes=workload.ops.moved_bytes[:, 0],
        calls=workload.counts / workload.units,
        shapes=tuple(_shapes(workload)),
    )


def _shapes(workload: Workload) -> Iterator[Shape | None]:
    """What a chip's rate of attention depends on, for each kernel; a cache counts by the next power of two."""
    sizes = {name: workload.ops.size(name)[:, 0].astype(int).tolist() for name in (*_SHAPE, "keys", "value_dim")}
    for row, code in enumerate(workload.ops.kind[:, 0].tolist()):
        if KINDS[code] != "attention" or sizes["value_dim"][row] != sizes["head_dim"][row]:
            yield None
            continue
        keys = sizes["keys"][row]
        is_block = 2 * sizes["queries"][row] <= keys
        yield (*(sizes[name][row] for name in _SHAPE), 1 << (keys - 1).bit_length() if is_block else keys)


def closed_s(demand: Demand, rates: Rates) -> float:
    """Seconds of a token by the closed form.

    >>> rates = Rates(flops_per_s=100.0, bytes_per_s=1.0, kernel_s=0.5, attention_flops_per_s={(1, 1): 5.0})
    >>> one = np.ones(2)
    >>> asked = Demand(name="two", flops=np.array([300.0, 10.0]), bytes=4 * one, calls=one, shapes=(None, (1, 1)))
    >>> closed_s(asked, rates)  # sqrt(3^2 + 4^2) and 10 / 5, and half a second each
    8.0
    """
    seconds = np.hypot(demand.flops / rates.flops_per_s, demand.bytes / rates.bytes_per_s)
    for kernel, shape in enumerate(demand.shapes):
        rate = rates.attention_flops_per_s.get(shape) if shape is not None else None
        if rate is not None:
            seconds[kernel] = demand.flops[kernel] / rate
    return float((seconds + rates.kernel_s) @ demand.calls)


def dense_ratio(ridge: FloatArray, visits: FloatArray, *, batch: float, tokens_per_forward: float) -> FloatArray:
    """The closed form of a dense model in 16 bits, without keys and values, its kernels long; P cancels.

    Args:
        ridge: achieved FLOPs per byte.
        visits: rows that diffusion sends through the network for each token it emits.
        batch: sequences at a time, of both.
        tokens_per_forward: tokens that diffusion emits a forward and sequence.

    >>> round(float(dense_ratio(np.array(300.0), np.array(300.0), batch=1, tokens_per_forward=4)), 2)
    0.97
    """
    slow = np.hypot(2.0 / ridge, 2.0 / batch)
    fast = np.hypot(2.0 * visits / ridge, 2.0 / (tokens_per_forward * batch))
    ratio: FloatArray = slow / fast
    return ratio


def achieved(chips: Sequence[Chip], shapes: Iterable[Shape] = ()) -> list[Rates]:
    """What every chip achieves: of a large product, of its weights read for one row, of a small product, and of
    attention in these shapes, each simulated alone."""
    table = plan_ops([_product(_LARGE, _LARGE), _product(1, _LARGE), _product(_SMALL, _SMALL)], chips)
    flops = 2.0 * _LARGE**3 / table.duration_s[0]
    moved = float(table.op_columns.moved_bytes[1, 0]) / table.duration_s[1]
    asked = list(dict.fromkeys(shapes))
    attention = _attention_rates(asked, chips)
    return [
        Rates(
            flops_per_s=float(flops[c]),
            bytes_per_s=float(moved[c]),
            kernel_s=float(table.duration_s[2, c]),
            attention_flops_per_s={shape: float(rate[c]) for shape, rate in zip(asked, attention, strict=True)},
        )
        for c in range(len(chips))
    ]


def _attention_rates(shapes: Sequence[Shape], chips: Sequence[Chip]) -> FloatArray:
    """FLOPs per second of attention in each shape, many sequences at once, [S, C]."""
    if not shapes:
        return np.zeros((0, len(chips)))
    rows = [dict(zip((*_SHAPE, "keys"), shape, strict=True)) for shape in shapes]
    ops = ops_from_frame(pd.DataFrame(rows).assign(kind="attention", dtype="bfloat16", batch=_SEQUENCES))
    rates: FloatArray = ops.required_matrix_flops / plan_columns(ops, chips).duration_s
    return rates


def place(pairs: Sequence[tuple[Workload, Workload]], chips: Sequence[Chip]) -> list[Placed]:
    """Every chip with every pair (autoregression, diffusion), by the closed form and simulated."""
    demands = {id(workload): demand(workload) for pair in pairs for workload in pair}
    rates = achieved(chips, (shape for each in demands.values() for shape in each.shapes if shape is not None))
    placed = []
    for autoregression, diffusion in pairs:
        slow, fast = demands[id(autoregression)], demands[id(diffusion)]
        seconds = [_seconds_per_unit(workload, chips) for workload in (autoregression, diffusion)]
        for c, chip in enumerate(chips):
            placed.append(
                Placed(
                    chip=chip.name,
                    flops_per_s=rates[c].flops_per_s,
                    bytes_per_s=rates[c].bytes_per_s,
                    kernel_s=rates[c].kernel_s,
                    autoregression=autoregression.name,
                    diffusion=diffusion.name,
                    visits=float(fast.flops @ fast.calls / (slow.flops @ slow.calls)),
                    closed_ratio=closed_s(slow, rates[c]) / closed_s(fast, rates[c]),
                    simulated_ratio=float(seconds[0][c] / seconds[1][c]),
                )
            )
    return placed


def _seconds_per_unit(workload: Workload, chips: Sequence[Chip]) -> FloatArray:
    seconds = workload.counts @ plan_columns(workload.ops, chips, names=workload.names).duration_s
    holds = np.array([not workload.needed_bytes > chip.main_memory.capacity_bytes for chip in chips])
    return np.where(holds, seconds / workload.units, np.nan)


def _product(rows: int, side: int) -> Op:
    def operand(*shape: int, role: str = "activations") -> Operand:
        return Operand(
            shape=shape,
            dtype="bfloat16",
            role="weights" if role == "weights" else "activations",
            moved_bytes=2 * shape[0] * shape[1],
        )

    return Op(
        kind="gemm",
        name="aten::linear",
        dtype="bfloat16",
        inputs=(operand(rows, side), operand(side, side, role="weights")),
        outputs=(operand(rows, side),),
        sizes=(("batch", 1), ("m", rows), ("n", side), ("k", side)),
        matrix_flops=2 * rows * side * side,
    )
