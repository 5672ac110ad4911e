"""`KernelPlan` and `PlanTable`: how ops run on chips, a pure function of both that either engine plays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from profiler.op import KINDS, Op
from roofline.chip import Chip
from roofline.chip_families import constants_from, own_scopes
from simulator.chip_columns import ChipColumns
from simulator.kernels.table import KernelModel, kernel_models
from simulator.op_columns import BoolArray, FloatArray, OpColumns, kind_code
from simulator.stages import PLAN_FIELDS, PlanColumns, level_seconds, missed_overlap_s

_BY_LEVEL = ("traffic_bytes", "level_efficiency")
_SHOWN_NAMES, _NAME_LIMIT = 6, 60  # of ops in a note
# Columns whose cells a `KernelPlan` holds as they are.
_CELLS = tuple(name for name in PLAN_FIELDS if name not in (*_BY_LEVEL, "smooth_max_p", "launch_s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelPlan:
    """How one op runs on one chip.

    The kernel takes `launch_s`, then the prologue, then the main loop of `max(core_s, memory_s, link_s)` and the
    `exposed_s` that its overlap misses, then the epilogue and, where a reduction is split, the second pass.

    Attributes:
        op: name of the op.
        kind: its kind.
        chip: name of the chip.
        tile_m: rows of output per tile.
        tile_n: columns of output per tile.
        tiles: independent pieces of work.
        waves: rounds in which the cores take them.
        cores_used: cores that get one.
        split: parts of each reduction.
        stages: pipeline stages on the busiest core.
        launch_s: fixed cost.
        prologue_s: exposed latency of first operands.
        core_s: main loop on the busiest core, operands given.
        memory_s: main loop at the slowest memory, operands taken.
        link_s: main loop on the link to other devices.
        exposed_s: what the overlap of core and memory misses, beyond a longer link.
        epilogue_s: write-back of tiles.
        reduction_s: second, dependent pass.
        matrix_s: matrix units' part of `core_s`.
        vector_s: vector units' part.
        special_s: special-function units' part.
        traffic_bytes: (memory, bytes) from the nearest to the cores to main memory.
        level_s: (memory, seconds) at that memory's achievable bandwidth.
    """

    op: str
    kind: str
    chip: str
    tile_m: int
    tile_n: int
    tiles: int
    waves: int
    cores_used: int
    split: int
    stages: int
    launch_s: float
    prologue_s: float
    core_s: float
    memory_s: float
    link_s: float
    exposed_s: float
    epilogue_s: float
    reduction_s: float
    matrix_s: float
    vector_s: float
    special_s: float
    traffic_bytes: tuple[tuple[str, float], ...]
    level_s: tuple[tuple[str, float], ...]

    @property
    def duration_s(self) -> float:
        """Time of the kernel alone on the chip."""
        main_s = max(self.core_s, self.memory_s, self.link_s) + self.exposed_s
        return self.launch_s + self.prologue_s + main_s + self.epilogue_s + self.reduction_s


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanTable:
    """Plans of all ops on all chips.

    Attributes:
        names: of the ops; empty where they came from a table.
        chips: the chips.
        op_columns: the ops as columns.
        chip_columns: the chips as columns.
        columns: decisions of the kernel models, [O, C].
        level_s: time of each memory, [levels, O, C].
        launch_s: fixed cost, [O, C].
        memory_s: time of the slowest memory, [O, C].
        exposed_s: what the overlap of core and memory misses, beyond a longer link, [O, C].
        duration_s: time of each kernel alone on the chip, [O, C].
    """

    names: tuple[str, ...]
    chips: tuple[Chip, ...]
    op_columns: OpColumns
    chip_columns: ChipColumns
    columns: PlanColumns
    level_s: FloatArray
    launch_s: FloatArray
    memory_s: FloatArray
    exposed_s: FloatArray
    duration_s: FloatArray

    def plan(self, op: int, chip: int = 0) -> KernelPlan:
        """The plan of one op on one chip."""
        memories = tuple(reversed(self.chips[chip].memories))
        traffic = self.columns.traffic_bytes[:, op, chip]
        seconds = self.level_s[:, op, chip]
        cells = {name: float(getattr(self.columns, name)[op, chip]) for name in _CELLS}
        counts = {
            name: round(cells.pop(name)) for name in ("tile_m", "tile_n", "tiles", "waves", "cores_used", "split")
        }
        return KernelPlan(
            op=self.names[op] if self.names else KINDS[self.op_columns.kind[op, 0]],
            kind=KINDS[self.op_columns.kind[op, 0]],
            chip=self.chips[chip].name,
            stages=max(1, round(cells.pop("stages"))),
            launch_s=float(self.launch_s[op, chip]),
            memory_s=float(self.memory_s[op, chip]),
            exposed_s=float(self.exposed_s[op, chip]),
            traffic_bytes=tuple((m.name, float(traffic[i])) for i, m in enumerate(memories))[::-1],
            level_s=tuple((m.name, float(seconds[i])) for i, m in enumerate(memories))[::-1],
            **counts,
            **cells,  # type: ignore[arg-type]  # the seconds that remain
        )

    @property
    def bound_s(self) -> FloatArray:
        """Roofline bound: the longest of required compute at peak and of moved bytes at each memory's peak, [O, C].

        Where an op is replayed on the same data, a memory carries what the ones before it cannot hold.
        """
        ops, chips = self.op_columns, self.chip_columns
        peak_s = (_least_bytes(ops, chips) / chips.level_peak_bandwidth[:, None, :]).max(axis=0)
        bound: FloatArray = np.maximum(_least_core_s(ops, chips), peak_s)
        return bound


def plan_ops(ops: Sequence[Op], chips: Sequence[Chip]) -> PlanTable:
    """Plan every op on every chip.

    Args:
        ops: distinct ops.
        chips: one chip or thousands.

    Returns:
        Plans with columns [O, C].
    """
    return plan_columns(OpColumns.from_ops(ops), chips, names=tuple(op.name for op in ops))


def plan_columns(op_columns: OpColumns, chips: Sequence[Chip], *, names: tuple[str, ...] = ()) -> PlanTable:
    """Plan ops that are columns already; otherwise as `plan_ops`."""
    return plan_table(op_columns, ChipColumns.from_chips(chips), chips=tuple(chips), names=names)


def plan_table(
    op_columns: OpColumns, chip_columns: ChipColumns, *, chips: tuple[Chip, ...] = (), names: tuple[str, ...] = ()
) -> PlanTable:
    """Plan ops on chips, both columns already; without `chips`, single plans and energies cannot be read off."""
    columns, is_empty = _bounded(op_columns, chip_columns, _modeled(op_columns, chip_columns))
    launch_s = np.where(np.isnan(columns.launch_s), chip_columns.launch_s, columns.launch_s) + np.zeros(is_empty.shape)
    level_s = level_seconds(columns, chip_columns)
    load_s: FloatArray = level_s.max(axis=0)
    exposed_s, main_s = main_loop(columns, load_s, chip_columns)
    return PlanTable(
        names=names,
        chips=chips,
        op_columns=op_columns,
        chip_columns=chip_columns,
        columns=columns,
        level_s=level_s,
        launch_s=launch_s,
        memory_s=load_s,
        exposed_s=exposed_s,
        duration_s=launch_s + columns.prologue_s + main_s + columns.epilogue_s + columns.reduction_s,
    )


def main_loop(columns: PlanColumns, load_s: FloatArray, chips: ChipColumns) -> tuple[FloatArray, FloatArray]:
    """(what the overlap of core and memory misses, main loop with it), [O, C] both.

    What core and memory miss of each other hides behind a link that takes longer than both.

    Args:
        columns: the plans.
        load_s: time of the slowest memory, [O, C].
        chips: the chips.
    """
    smooth_max_p = np.where(np.isnan(columns.smooth_max_p), chips.smooth_max_p, columns.smooth_max_p)
    missed_s = missed_overlap_s(columns.core_s, load_s, smooth_max_p, columns.stages)
    longer_s = np.maximum(columns.core_s, load_s)
    exposed_s: FloatArray = np.maximum(0.0, missed_s - np.maximum(0.0, columns.link_s - longer_s))
    return exposed_s, np.maximum(longer_s, columns.link_s) + exposed_s


def _modeled(ops: OpColumns, chips: ChipColumns) -> PlanColumns:
    """Run each kernel model on the ops of its kinds and put the rows back in order."""
    shape = (len(ops), len(chips))
    columns = {name: np.zeros(shape) for name in PLAN_FIELDS}
    for name in _BY_LEVEL:
        columns[name] = np.zeros((chips.levels, *shape))
    kinds_of: dict[KernelModel, list[int]] = {}
    for kind, model in kernel_models().items():
        kinds_of.setdefault(model, []).append(kind_code(kind))
    for model, codes in kinds_of.items():
        rows = np.flatnonzero(np.isin(ops.kind[:, 0], codes))
        if not len(rows):
            continue
        planned = model(ops.take(rows), chips)
        for name in PLAN_FIELDS:
            columns[name][..., rows, :] = getattr(planned, name)
    return PlanColumns(**columns)


def _bounded(ops: OpColumns, chips: ChipColumns, planned: PlanColumns) -> tuple[PlanColumns, BoolArray]:
    """Hold a plan to the work that was asked: no unit above its peak, no byte left out; empty ops do nothing.

    Sizes and FLOPs of a fused or foreign op need not fit each other exactly, so this is where the roofline bound holds.
    """
    least_core_s = _least_core_s(ops, chips)
    units_s = np.maximum(np.maximum(planned.matrix_s, planned.vector_s), planned.special_s)
    least_bytes = _least_bytes(ops, chips)
    traffic = np.where(chips.level_exists[:, None, :], np.maximum(planned.traffic_bytes, least_bytes), 0.0)
    bounded = replace(
        planned, core_s=np.maximum(np.maximum(planned.core_s, units_s), least_core_s), traffic_bytes=traffic
    )
    is_empty = (ops.moved_bytes + ops.matrix_flops + ops.vector_flops <= 0) & np.ones((1, len(chips)), dtype=np.bool_)
    emptied = {name: np.where(is_empty, 0.0, getattr(bounded, name)) for name in (*_CELLS, "traffic_bytes")}
    return replace(bounded, **emptied), is_empty


def _least_bytes(ops: OpColumns, chips: ChipColumns) -> FloatArray:
    """Bytes that each memory carries at least, [levels, O, C or 1], the farthest first.

    Everything that an op moves, unless it is replayed on the same data (condition `weight_copies`): then what the
    largest of the memories before it can hold may be there already.
    """
    moved_bytes = ops.moved_bytes[None]
    is_replayed = ops.size("weight_copies") > 0
    if not is_replayed.any():
        return moved_bytes
    nearer_bytes = np.zeros_like(chips.level_capacity_bytes)
    nearer_bytes[:-1] = np.maximum.accumulate(chips.level_capacity_bytes[:0:-1], axis=0)[::-1]
    least: FloatArray = np.where(
        is_replayed[None], np.maximum(moved_bytes - nearer_bytes[:, None, :], 0.0), moved_bytes
    )
    return least


def _least_core_s(ops: OpColumns, chips: ChipColumns) -> FloatArray:
    """Time of the required FLOPs at the peak of all cores, [O, C].

    Matrix and vector units work side by side; a type without matrix units puts all its FLOPs on the vector units.
    """
    dtype = ops.dtype[:, 0]
    clocks = chips.cores * chips.clock_hz
    products_s = ops.required_matrix_flops / (2.0 * chips.macs[dtype] * clocks)
    vector_s = ops.vector_flops / (chips.vector_flops[dtype] * clocks)
    least: FloatArray = np.where(chips.has_matrix[dtype], np.maximum(products_s, vector_s), products_s + vector_s)
    return least


def _named(names: Sequence[str]) -> str:
    """The first few names; a kernel's may be a thousand characters of template arguments."""
    shown = [name if len(name) <= _NAME_LIMIT else f"{name[:_NAME_LIMIT]}..." for name in names[:_SHOWN_NAMES]]
    more = [f"and {len(names) - _SHOWN_NAMES} more"] if len(names) > _SHOWN_NAMES else []
    return ", ".join([*shown, *more])


def op_notes(ops: OpColumns, names: Sequence[str], chip: Chip) -> tuple[str, ...]:
    """What a reader must know of these plans: ops that are incomplete, constants that are defaults."""
    notes = []
    partial = [name for name, is_partial in zip(names, ops.is_partial[:, 0], strict=True) if is_partial]
    if partial:
        notes.append(f"{len(partial)} ops cost only their known bytes and FLOPs: {_named(sorted(set(partial)))}")
    if all(key.startswith("eager.") for key, _ in chip.calibration):
        notes.append(f"chip {chip.name} has no calibration: kernels run at peak rates with latencies of the chip file")
    elif not own_scopes(chip):
        notes.append(f"kernels take the constants of {', '.join(constants_from(chip))}: not fitted to chip {chip.name}")
    if not chip.links and bool(np.any((ops.kind == kind_code("collective")) & (ops.size("ranks") > 1))):
        notes.append(f"chip {chip.name} has no link: collectives cost only their local memory traffic")
    return tuple(notes)
