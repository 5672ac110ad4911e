"""Energy of plans: joules per FLOP and per byte of each memory level, power of busy cores, and static power.

Joules of everything but main memory go with the square of the voltage, which falls with the clock.
"""

from dataclasses import dataclass

import numpy as np

from roofline.chip import Chip, Energy
from simulator.kernels.elementwise import KINDS as ISSUING
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
        static_w: power that is drawn all the time; [O] where each op has a clock of its own.
        notes: constants that the chip lacks and that leave a part out.
    """

    parts: tuple[tuple[str, FloatArray], ...]
    static_w: FloatArray | float
    notes: tuple[str, ...] = ()

    @property
    def total_j(self) -> FloatArray:
        """Dynamic joules of one call, [O]."""
        total: FloatArray = np.sum([joules for _, joules in self.parts], axis=0)
        return total


def op_energy(
    table: PlanTable, chip: int = 0, *, clock_ratio: FloatArray | float = 1.0, may_lack_types: bool = False
) -> OpEnergy | str:
    """Dynamic energy of every op of a plan table on one of its chips.

    Matrix FLOPs cost what their type costs on the matrix units; on a chip whose matrix units do not take the type they
    are vector FLOPs. Elementary functions are among the vector FLOPs already; attention's softmax, which an op's FLOPs
    leave out, is added. Elementwise kernels pay for every turn of the vector units that their instructions take (places
    of elements, loads, conversions), as for a float32 multiply-add. At a lower clock everything but main memory costs
    less, by the square of the voltage; busy cores and what the board draws beyond idle (clock tree, leakage) less by
    that and the clock.

    Args:
        table: the plans, at that clock (`simulator.clocks.at_clock`).
        chip: which of its chips.
        clock_ratio: part of the full clock, one for all ops or [O].
        may_lack_types: whether ops of a type that the chip has no constant for are NaN, and the others known.

    Returns:
        The energy, or the reason why it is unknown.
    """
    described = table.chips[chip]
    constants = described.energy
    gap = lacking_constants(described)
    if constants is None:
        return gap
    matrix_j, lacking = _matrix_j(table, described, constants)
    if lacking and not may_lack_types:
        return f"chip {described.name} has no energy per {lacking[0]} FLOP of its matrix units"
    if gap:
        return gap
    ops, per_op_j = table.op_columns, np.square(voltage_ratio(clock_ratio))
    vector = np.maximum(ops.vector_flops[:, 0] + softmax_flops(ops), _issued_flops(table, chip, clock_ratio))
    parts = [("matrix", matrix_j * per_op_j), ("vector", vector * constants.vector_j_per_flop * per_op_j)]
    if constants.core_w:
        running_s = table.duration_s[:, chip] - table.launch_s[:, chip]
        cores_w = constants.core_w * table.columns.cores_used[:, chip]
        parts.append(("cores", cores_w * running_s * per_op_j * clock_ratio))
    per_byte = dict(constants.memory_j_per_byte)
    notes = []
    for level, memory in enumerate(reversed(described.memories)):
        if memory.name in per_byte:
            joules = table.columns.traffic_bytes[level, :, chip] * per_byte[memory.name]
            parts.append((memory.name, joules * (per_op_j if level else 1.0)))
        else:
            notes.append(f"energy leaves out {memory.name}: chip {described.name} has no constant for it")
    return OpEnergy(parts=tuple(parts), static_w=static_w(described, clock_ratio), notes=tuple(notes))


def lacking_constants(chip: Chip) -> str:
    """What a chip file lacks without which no energy of any op is known, empty where it has all of that."""
    if chip.energy is None:
        return f"chip {chip.name} has no energy constants"
    if chip.main_memory.name not in dict(chip.energy.memory_j_per_byte):
        return f"chip {chip.name} has no energy per byte of its main memory {chip.main_memory.name}"
    return ""


def voltage_ratio(clock_ratio: FloatArray | float) -> FloatArray | float:
    """Voltage of the cores over that at full clock: it is taken to fall as the clock does, down to 0.6.

    >>> float(voltage_ratio(0.8)), float(voltage_ratio(0.5))
    (0.8, 0.6)
    """
    ratio: FloatArray = np.maximum(clock_ratio, _LEAST_VOLTAGE)
    return ratio


def static_w(chip: Chip, clock_ratio: FloatArray | float = 1.0) -> FloatArray | float:
    """Watts that a chip draws all the time at a part of its clock; NaN where its file has no energy constants.

    What it draws beyond idle falls with the clock and the square of the voltage; without a figure of idle nothing does.
    """
    if chip.energy is None:
        return float("nan")
    full_w = chip.energy.static_w
    idle_w = full_w if chip.idle_w is None else min(chip.idle_w, full_w)
    return idle_w + (full_w - idle_w) * np.square(voltage_ratio(clock_ratio)) * clock_ratio


def softmax_flops(ops: OpColumns) -> FloatArray:
    """FLOPs of the softmax inside attention, [O]: some for each query-key pair that is not masked."""
    is_attention = ops.kind[:, 0] == kind_code("attention")
    per_pair = 2.0 * (ops.size("head_dim")[:, 0] + ops.size("value_dim")[:, 0])
    pairs = np.divide(ops.required_matrix_flops[:, 0], per_pair, out=np.zeros(len(ops)), where=per_pair > 0)
    flops: FloatArray = np.where(is_attention, _SOFTMAX_FLOPS_PER_PAIR * pairs, 0.0)
    return flops


def _issued_flops(table: PlanTable, chip: int, clock_ratio: FloatArray | float) -> FloatArray:
    """Float32 FLOPs that the clocks would hold in which elementwise kernels issue instructions, [O]; 0 of others.

    Their plans count the clocks of the busiest core; the others have as many for each of their tiles.
    """
    columns, described = table.columns, table.chips[chip]
    issues = np.isin(table.op_columns.kind[:, 0], [kind_code(kind) for kind in ISSUING])
    tiles = columns.tiles[:, chip]
    cores = np.divide(tiles, np.ceil(tiles / described.cores), out=np.zeros_like(tiles), where=tiles > 0)
    core_clocks = columns.vector_s[:, chip] * cores * described.clock_hz * clock_ratio
    flops: FloatArray = np.where(issues, core_clocks * dict(described.vector_flops).get("float32", 0.0), 0.0)
    return flops


def _matrix_j(table: PlanTable, chip: Chip, constants: Energy) -> tuple[FloatArray, list[str]]:
    """Joules of the matrix FLOPs of one call of each op, [O], NaN where unknown; types that the chip lacks."""
    ops = table.op_columns
    lacking = []
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
            joules[rows] = np.where(flops > 0, np.nan, 0.0)
            lacking.append(dtype)
    return joules, lacking
