"""Where diffusion overtakes autoregression: a closed form over what each asks of compute and of memory.

A kernel of f FLOPs and m bytes takes `max(f / F, m / B)` seconds on a chip that achieves F and B. With the chip's ridge
r = F / B, diffusion is faster where, summed over the kernels of a token,

    sum_D max(f / r, m) < sum_A max(f / r, m).

In a dense model of P parameters in 16 bits, decoding b sequences reads 2 P bytes for b tokens, and diffusion that
visits v rows for each token it emits, n tokens a forward, takes 2 P v FLOPs and 2 P / (n b) bytes. So at one sequence
it overtakes where r > v, and every sequence more in the batch asks for a ridge that much higher (keys and values, which
this leaves out, are in the traces).
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Demand:
    """What one token asks of a chip, kernel by kernel, [O] each; with its workload's name."""

    name: str
    flops: FloatArray
    bytes: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One chip and one pair of workloads on the map.

    Attributes:
        chip: name.
        flops_per_s: achieved by one large product, simulated.
        bytes_per_s: achieved by the product of one row with the same weights, simulated.
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
    """Matrix FLOPs and bytes of a token, by the kernels of the run."""
    calls = workload.counts / workload.units
    return Demand(
        name=workload.name,
        flops=workload.ops.required_matrix_flops[:, 0] * calls,
        bytes=workload.ops.moved_bytes[:, 0] * calls,
    )


def closed_ratio(autoregression: Demand, diffusion: Demand, ridge: FloatArray | float) -> FloatArray:
    """Time of a token by autoregression over that by diffusion on a chip of this ridge.

    >>> ar = Demand(name="ar", flops=np.array([2.0]), bytes=np.array([2.0]))
    >>> dlm = Demand(name="dlm", flops=np.array([200.0]), bytes=np.array([0.5]))
    >>> closed_ratio(ar, dlm, np.array([50.0, 100.0, 400.0, 4000.0])).tolist()
    [0.5, 1.0, 4.0, 4.0]
    """
    slow, fast = (
        np.maximum(each.flops / np.asarray(ridge)[..., None], each.bytes).sum(axis=-1)
        for each in (autoregression, diffusion)
    )
    ratio: FloatArray = slow / fast
    return ratio


def dense_ratio(ridge: FloatArray, visits: FloatArray, *, batch: float, tokens_per_forward: float) -> FloatArray:
    """The closed form of a dense model in 16 bits, without keys and values; P cancels.

    Args:
        ridge: achieved FLOPs per byte.
        visits: rows that diffusion sends through the network for each token it emits.
        batch: sequences at a time, of both.
        tokens_per_forward: tokens that diffusion emits a forward and sequence.

    >>> float(dense_ratio(np.array(300.0), np.array(300.0), batch=1, tokens_per_forward=4))
    1.0
    """
    slow = np.maximum(2.0 / ridge, 2.0 / batch)
    fast = np.maximum(2.0 * visits / ridge, 2.0 / (tokens_per_forward * batch))
    ratio: FloatArray = slow / fast
    return ratio


def achieved(chips: Sequence[Chip]) -> tuple[FloatArray, FloatArray]:
    """(FLOPs per second of a large product, bytes per second of its weights read for one row), simulated, [C] each."""
    table = plan_ops([_product(_LARGE), _product(1)], chips)
    flops = 2.0 * _LARGE**3 / table.duration_s[0]
    moved = float(table.op_columns.moved_bytes[1, 0])
    return flops, moved / table.duration_s[1]


def place(pairs: Sequence[tuple[Workload, Workload]], chips: Sequence[Chip]) -> list[Placed]:
    """Every chip with every pair (autoregression, diffusion), by the closed form and simulated."""
    flops_per_s, bytes_per_s = achieved(chips)
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
                    autoregression=autoregression.name,
                    diffusion=diffusion.name,
                    visits=float(demands[1].flops.sum() / demands[0].flops.sum()),
                    closed_ratio=float(closed_ratio(*demands, ridge)),
                    simulated_ratio=float(seconds[0][c] / seconds[1][c]),
                )
            )
    return placed


def _seconds_per_unit(workload: Workload, chips: Sequence[Chip]) -> FloatArray:
    seconds = workload.counts @ plan_columns(workload.ops, chips, names=workload.names).duration_s
    holds = np.array([not workload.needed_bytes > chip.main_memory.capacity_bytes for chip in chips])
    return np.where(holds, seconds / workload.units, np.nan)


def _product(rows: int) -> Op:
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
        inputs=(operand(rows, _LARGE), operand(_LARGE, _LARGE, role="weights")),
        outputs=(operand(rows, _LARGE),),
        sizes=(("batch", 1), ("m", rows), ("n", _LARGE), ("k", _LARGE)),
        matrix_flops=2 * rows * _LARGE * _LARGE,
    )
