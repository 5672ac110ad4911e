"""Energy of plans: joules per FLOP and per byte of each memory level, and static power over the makespan.

Left out: what clocks and voltage do to these constants, and the energy of instruction issue beyond them.

A board that would draw more than its limit lowers its clocks until it does not. With constant joules of the same work,
the limit leaves the dynamic energy (limit - static) watts, so a run takes at least their ratio.
"""

from dataclasses import dataclass

import numpy as np

from roofline.chip import Chip, Energy
from simulator.op_columns import DTYPES, FloatArray, OpColumns, kind_code
from simulator.plans import PlanTable

# Running maximum, subtraction, exponential, sum, division; as profiler.costs.reductions counts a softmax.
_SOFTMAX_FLOPS_PER_PAIR = 5.0


@dataclass(frozen=True, kw_only=True, eq=False)
class OpEnergy:
    """Dynamic energy of one call of each op on one chip.

    Attributes:
        parts: (part, joules [O]): `matrix`, `vector` and each memory level by name.
        static_w: power that is drawn all the time.
        notes: constants that the chip lacks and that leave a part out.
    """

    parts: tuple[tuple[str, FloatArray], ...]
    static_w: float
    notes: tuple[str, ...] = ()

    @property
    def total_j(self) -> FloatArray:
        """Dynamic joules of one call, [O]."""
        total: FloatArray = np.sum([joules for _, joules in self.parts], axis=0)
        return total


def op_energy(table: PlanTable, chip: int = 0) -> OpEnergy | str:
    """Dynamic energy of every op of a plan table on one of its chips.

    Matrix FLOPs cost what their type costs on the matrix units; on a chip whose matrix units do not take the type they
    are vector FLOPs. Elementary functions are among the vector FLOPs already; attention's softmax, which an op's FLOPs
    leave out, is added.

    Args:
        table: the plans.
        chip: which of its chips.

    Returns:
        The energy, or the reason why it is unknown.
    """
    described = table.chips[chip]
    constants = described.energy
    if constants is None:
        return f"chip {described.name} has no energy constants"
    matrix_j = _matrix_j(table, described, constants)
    if isinstance(matrix_j, str):
        return matrix_j
    ops = table.op_columns
    vector = ops.vector_flops[:, 0] + softmax_flops(ops)
    parts = [("matrix", matrix_j), ("vector", vector * constants.vector_j_per_flop)]
    per_byte = dict(constants.memory_j_per_byte)
    notes = []
    for level, memory in enumerate(reversed(described.memories)):
        if memory.name in per_byte:
            parts.append((memory.name, table.columns.traffic_bytes[level, :, chip] * per_byte[memory.name]))
        elif level == 0:
            return f"chip {described.name} has no energy per byte of its main memory {memory.name}"
        else:
            notes.append(f"energy leaves out {memory.name}: chip {described.name} has no constant for it")
    return OpEnergy(parts=tuple(parts), static_w=constants.static_w, notes=tuple(notes))


def limited_slowdown(dynamic_j: float, makespan_s: float, static_w: float, limit_w: float | None) -> float:
    """Factor, at least 1, by which a run is stretched so that its mean power keeps the limit.

    Regulators average over milliseconds, so the mean of the whole run counts: a short trace stands for one that is
    repeated. Voltage falls with the clock on silicon, which saves joules; that is left out, so this is the upper end.

    >>> limited_slowdown(dynamic_j=8.0, makespan_s=0.01, static_w=200.0, limit_w=700.0)
    1.6
    >>> limited_slowdown(dynamic_j=4.0, makespan_s=0.01, static_w=200.0, limit_w=700.0)
    1.0

    Args:
        dynamic_j: dynamic energy of the run.
        makespan_s: its time at full clocks.
        static_w: power that is drawn all the time.
        limit_w: limit of board or package; None where nobody knows it.

    Returns:
        The factor; 1 without a limit, and where static power alone exceeds it, so that no clock would keep it.
    """
    if limit_w is None or limit_w <= static_w or makespan_s <= 0:
        return 1.0
    return max(1.0, dynamic_j / ((limit_w - static_w) * makespan_s))


def softmax_flops(ops: OpColumns) -> FloatArray:
    """FLOPs of the softmax inside attention, [O]: some for each query-key pair that is not masked."""
    is_attention = ops.kind[:, 0] == kind_code("attention")
    per_pair = 2.0 * (ops.size("head_dim")[:, 0] + ops.size("value_dim")[:, 0])
    pairs = np.divide(ops.required_matrix_flops[:, 0], per_pair, out=np.zeros(len(ops)), where=per_pair > 0)
    flops: FloatArray = np.where(is_attention, _SOFTMAX_FLOPS_PER_PAIR * pairs, 0.0)
    return flops


def _matrix_j(table: PlanTable, chip: Chip, constants: Energy) -> FloatArray | str:
    ops = table.op_columns
    per_flop = dict(constants.matrix_j_per_flop)
    on_matrix_units = {dtype for dtype, _ in chip.matrix_macs}
    joules = np.zeros(len(ops))
    for code in np.unique(ops.dtype[:, 0]):
        dtype = DTYPES[code]
        rows = ops.dtype[:, 0] == code
        flops = ops.required_matrix_flops[rows, 0]
        if not flops.any():
            continue
        if dtype not in on_matrix_units:
            joules[rows] = flops * constants.vector_j_per_flop
        elif dtype in per_flop:
            joules[rows] = flops * per_flop[dtype]
        else:
            return f"chip {chip.name} has no energy per {dtype} FLOP of its matrix units"
    return joules
