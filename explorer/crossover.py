"""Where diffusion overtakes autoregression: a closed form over what each asks of compute and of memory.

A kernel of f FLOPs and m bytes takes `sqrt((f / F)^2 + (m / B)^2) + t` seconds on a chip that achieves F and B and
whose shortest kernel takes t: computing and loading overlap, but not wholly where both take long. With the chip's ridge
r = F / B and the bytes q = t B that it moves meanwhile, diffusion is faster where, summed over the kernels of a token,

    sum_D (sqrt((f / r)^2 + m^2) + q) < sum_A (sqrt((f / r)^2 + m^2) + q).

In a dense model of P parameters in 16 bits, decoding b sequences reads 2 P bytes for b tokens, and diffusion that
visits v rows for each token it emits, n tokens a forward, takes 2 P v FLOPs and 2 P / (n b) bytes. So it overtakes
where r > b sqrt((v^2 - 1) / (1 - 1 / n^2)), which is v b for large v and n: every sequence more in the batch asks for a
ridge that much higher (keys and values, which this leaves out, are in the traces).

The square is the exponent that was nearest to simulation of those tried (1.5 to 4, and the longer of both alone), on
NVIDIA's chips and on all others alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.hardware import FloatArray
from explorer.workload import Workload
from profiler.op import Op, Operand
from roofline.chip import Chip
from simulator.plans import plan_columns, plan_ops

_LARGE = 8192  # rows, columns and depth of the product that tells what a chip computes; its weights, what it reads
_SMALL = 64  # of the product that tells what its shortest kernel takes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Demand:
    """What one token asks of a chip, kernel by kernel, [O] each; with its workload's name.

    Attributes:
        name: of the workload.
        flops: of one call.
        bytes: moved by one call.
        calls: for each token.
    """

    name: str
    flops: FloatArray
    bytes: FloatArray
    calls: FloatArray


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
    )


def closed_ratio(
    autoregression: Demand, diffusion: Demand, ridge: FloatArray | float, kernel_bytes: FloatArray | float = 0.0
) -> FloatArray:
    """Time of a token by autoregression over that by diffusion on a chip.

    Args:
        autoregression: what its token asks.
        diffusion: what its token asks.
        ridge: achieved FLOPs per byte of the chip.
        kernel_bytes: bytes that it moves in the time of its shortest kernel.

    >>> one = np.array([1.0])
    >>> ar = Demand(name="ar", flops=np.array([0.0]), bytes=np.array([10.0]), calls=one)
    >>> dlm = Demand(name="dlm", flops=np.array([300.0]), bytes=np.array([4.0]), calls=one)
    >>> closed_ratio(ar, dlm, np.array([30.0, 100.0])).round(3).tolist()  # sqrt(10^2 + 4^2), sqrt(3^2 + 4^2)
    [0.928, 2.0]
    >>> closed_ratio(ar, dlm, 100.0, kernel_bytes=5.0).tolist()
    1.5
    """
    slow, fast = (
        ((np.hypot(each.flops / np.asarray(ridge)[..., None], each.bytes) + kernel_bytes) * each.calls).sum(axis=-1)
        for each in (autoregression, diffusion)
    )
    ratio: FloatArray = slow / fast
    return ratio


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


def achieved(chips: Sequence[Chip]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(FLOPs per second of a large product, bytes per second of its weights read for one row, seconds of a small
    product), simulated, [C] each."""
    table = plan_ops([_product(_LARGE, _LARGE), _product(1, _LARGE), _product(_SMALL, _SMALL)], chips)
    flops = 2.0 * _LARGE**3 / table.duration_s[0]
    moved = float(table.op_columns.moved_bytes[1, 0])
    return flops, moved / table.duration_s[1], table.duration_s[2]


def place(pairs: Sequence[tuple[Workload, Workload]], chips: Sequence[Chip]) -> list[Placed]:
    """Every chip with every pair (autoregression, diffusion), by the closed form and simulated."""
    flops_per_s, bytes_per_s, kernel_s = achieved(chips)
    placed = []
    for autoregression, diffusion in pairs:
        demands = demand(autoregression), demand(diffusion)
        seconds = [_seconds_per_unit(workload, chips) for workload in (autoregression, diffusion)]
        for c, chip in enumerate(chips):
            ridge = float(flops_per_s[c] / bytes_per_s[c])
            placed.append(
                Placed(
                    chip=chip.name,
                    flops_per_s=float(flops_per_s[c]),
                    bytes_per_s=float(bytes_per_s[c]),
                    kernel_s=float(kernel_s[c]),
                    autoregression=autoregression.name,
                    diffusion=diffusion.name,
                    visits=float(demands[1].flops @ demands[1].calls / (demands[0].flops @ demands[0].calls)),
                    closed_ratio=float(closed_ratio(*demands, ridge, float(kernel_s[c] * bytes_per_s[c]))),
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
