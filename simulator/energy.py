"""Energy of plans: joules per FLOP and per byte of each memory level, power of busy cores, and static power.

A board that would draw more than its limit lowers its clocks until it does not, and voltage falls with them. Kernel
models that were fitted to long kernels hold the lower clocks already; then joules alone fall. Otherwise the run takes
longer and joules stay, which is the upper end.
"""

from dataclasses import dataclass, replace

import numpy as np

from roofline.chip import Chip, Energy
from roofline.chip_families import has_own_constants
from simulator.op_columns import DTYPES, FloatArray, OpColumns, kind_code
from simulator.plans import PlanTable

# Running maximum, subtraction, exponential, sum, division; as profiler.costs.reductions counts a softmax.
_SOFTMAX_FLOPS_PER_PAIR = 5.0
_LEAST_VOLTAGE = 0.6  # of that at full clocks; assumed


@dataclass(frozen=True, kw_only=True, eq=False)
class OpEnergy:
    """Dynamic energy of one call of each op on one chip.

    Attributes:
        parts: (part, joules [O]): `matrix`, `vector`, `cores` and each memory level by name.
        static_w: power that is drawn all the time.
        far: the part that does not follow the cores' voltage, main memory's.
        notes: constants that the chip lacks and that leave a part out.
    """

    parts: tuple[tuple[str, FloatArray], ...]
    static_w: float
    far: str = ""
    notes: tuple[str, ...] = ()

    @property
    def total_j(self) -> FloatArray:
        """Dynamic joules of one call, [O]."""
        total: FloatArray = np.sum([joules for _, joules in self.parts], axis=0)
        return total

    def at_core_ratio(self, ratio: float) -> "OpEnergy":
        """The same with the joules of everything but main memory times a factor."""
        parts = tuple((name, joules if name == self.far else ratio * joules) for name, joules in self.parts)
        return replace(self, parts=parts)


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
    if constants.core_w:
        running_s = table.duration_s[:, chip] - table.launch_s[:, chip]
        parts.append(("cores", constants.core_w * table.columns.cores_used[:, chip] * running_s))
    per_byte = dict(constants.memory_j_per_byte)
    notes = []
    for level, memory in enumerate(reversed(described.memories)):
        if memory.name in per_byte:
            parts.append((memory.name, table.columns.traffic_bytes[level, :, chip] * per_byte[memory.name]))
        elif level == 0:
            return f"chip {described.name} has no energy per byte of its main memory {memory.name}"
        else:
            notes.append(f"energy leaves out {memory.name}: chip {described.name} has no constant for it")
    far = described.main_memory.name
    return OpEnergy(parts=tuple(parts), static_w=constants.static_w, far=far, notes=tuple(notes))


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerHold:
    """What keeping a power limit does to a run.

    Attributes:
        slowdown: factor on all times, at least 1.
        core_ratio: factor on the joules of everything but main memory, at most 1.
    """

    slowdown: float = 1.0
    core_ratio: float = 1.0


def hold_to_limit(
    *, core_j: float, far_j: float, makespan_s: float, static_w: float, limit_w: float | None, times_hold_it: bool
) -> PowerHold:
    """How a run keeps the limit, so that its mean power does not exceed it.

    Regulators average over milliseconds, so the mean of the whole run counts: a short trace stands for one that is
    repeated. Where the times hold the limit already (they were measured on kernels long enough to reach it), joules of
    the cores fall with the square of the voltage, to at most 0.36 of those at full clocks: voltage is taken to fall as
    the clock does, down to 0.6 of it. What is still too much makes the run longer.

    >>> hold_to_limit(core_j=8.0, far_j=0.0, makespan_s=0.01, static_w=200.0, limit_w=700.0, times_hold_it=False)
    PowerHold(slowdown=1.6, core_ratio=1.0)
    >>> hold_to_limit(core_j=8.0, far_j=1.0, makespan_s=0.01, static_w=200.0, limit_w=700.0, times_hold_it=True)
    PowerHold(slowdown=1.0, core_ratio=0.5)

    Args:
        core_j: dynamic energy of the run at full clocks, main memory's left out.
        far_j: that of main memory.
        makespan_s: its time, as the kernel models have it.
        static_w: power that is drawn all the time.
        limit_w: limit of board or package; None where nobody knows it.
        times_hold_it: whether the times hold lower clocks already.

    Returns:
        Both factors; 1 without a limit, and where static power alone exceeds it, so that no clock would keep it.
    """
    if limit_w is None or limit_w <= static_w or makespan_s <= 0:
        return PowerHold()
    room_j = (limit_w - static_w) * makespan_s
    if core_j + far_j <= room_j:
        return PowerHold()
    if not times_hold_it or core_j <= 0:
        return PowerHold(slowdown=(core_j + far_j) / room_j)
    ratio = (room_j - far_j) / core_j
    if ratio >= _LEAST_VOLTAGE**2:
        return PowerHold(core_ratio=ratio)
    return PowerHold(slowdown=(_LEAST_VOLTAGE**2 * core_j + far_j) / room_j, core_ratio=_LEAST_VOLTAGE**2)


def repeated_j(energy: OpEnergy, duration_s: FloatArray, chip: Chip) -> FloatArray:
    """Joules of each op by itself, [O], static power counted, as if it were repeated until the power limit holds.

    Only where times hold the limit already, see `hold_to_limit`; else nothing is said of the limit here.

    Args:
        energy: of one call of each op.
        duration_s: time of each, [O].
        chip: whose limit it is.
    """
    static_j = energy.static_w * duration_s
    if chip.tdp_w is None or not holds_its_limit(chip):
        return energy.total_j + static_j
    far_j = dict(energy.parts)[energy.far]
    core_j = energy.total_j - far_j
    room_j = chip.tdp_w * duration_s - static_j - far_j
    ratio = np.divide(room_j, core_j, out=np.ones_like(core_j), where=core_j > 0)
    held: FloatArray = np.clip(ratio, _LEAST_VOLTAGE**2, 1.0) * core_j + far_j + static_j
    return held


def holds_its_limit(chip: Chip) -> bool:
    """Whether the chip's kernel times were fitted to kernels long enough to reach its power limit."""
    return has_own_constants(chip, "gemm") and "gemm.sustained_clock_ratio" in dict(chip.calibration)


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
