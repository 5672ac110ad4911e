"""`PlanColumns`: what a kernel model decides about each op on each chip, and the closed form of its pipeline.

A kernel occupies its cores in waves. Within a wave, loading the operands of one stage overlaps computing on the stage
before it (double buffering), so the main loop takes the longer of core time and memory time, plus what the overlap
misses. The start of a wave (first operands) and its end (write-back of the tile) are not overlapped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from simulator.chip_columns import ChipColumns
from simulator.op_columns import BoolArray, FloatArray, OpColumns


def _unsaid() -> FloatArray:
    """NaN, which stands for the chip's own figure and broadcasts to any shape."""
    return np.array(np.nan)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanColumns:
    """Decisions of a kernel model, every column [O, C] unless it says otherwise.

    Attributes:
        tile_m: rows of the output that one tile covers (elements or rows for kernels without a matrix product).
        tile_n: columns of the output that one tile covers.
        tiles: independent pieces of work, split reductions counted.
        waves: rounds in which the cores take the tiles, co-resident tiles together.
        cores_used: cores that get a tile.
        split: parts that each reduction (K of a product, the keys of attention) is split into.
        stages: pipeline stages on the busiest core.
        core_s: time of the busiest core if its operands were always there; at least each unit's time below.
        matrix_s: time of that core's matrix units.
        vector_s: time of its vector units.
        special_s: time of its special-function units.
        traffic_bytes: [levels, O, C] bytes through each memory, counted from main memory inward.
        link_s: time on the link to other devices.
        prologue_s: exposed latency of the first operands, of all waves.
        epilogue_s: write-back of tiles, of all waves.
        reduction_s: second pass that sums the parts of a split reduction, or that a sort or scan needs.
        level_efficiency: [levels, O, C] achievable part of each memory's peak bandwidth; NaN: as the chip says.
        smooth_max_p: exponent of the smooth maximum of core and memory time; NaN: as the chip says.
        launch_s: fixed cost before anything runs; NaN: as the chip says.
    """

    tile_m: FloatArray
    tile_n: FloatArray
    tiles: FloatArray
    waves: FloatArray
    cores_used: FloatArray
    split: FloatArray
    stages: FloatArray
    core_s: FloatArray
    matrix_s: FloatArray
    vector_s: FloatArray
    special_s: FloatArray
    traffic_bytes: FloatArray
    link_s: FloatArray
    prologue_s: FloatArray
    epilogue_s: FloatArray
    reduction_s: FloatArray
    level_efficiency: FloatArray = field(default_factory=_unsaid)
    smooth_max_p: FloatArray = field(default_factory=_unsaid)
    launch_s: FloatArray = field(default_factory=_unsaid)


PLAN_FIELDS: tuple[str, ...] = tuple(column.name for column in fields(PlanColumns))


def plan_parts(
    ops: OpColumns,
    chips: ChipColumns,
    parts: Sequence[tuple[Callable[[OpColumns, ChipColumns], PlanColumns], BoolArray]],
) -> PlanColumns:
    """Plan each part of the ops with its own model and put the rows back in order.

    Args:
        ops: the ops.
        chips: the chips.
        parts: (model, which ops it plans [O]); every op belongs to exactly one.
    """
    chosen = [(model, np.flatnonzero(where)) for model, where in parts if where.any()]
    planned = [model(ops.take(rows), chips) for model, rows in chosen]
    if len(planned) == 1:
        return planned[0]
    order = np.argsort(np.concatenate([rows for _, rows in chosen]))
    columns = {}
    for name in PLAN_FIELDS:
        by_level = (chips.levels,) if name in ("traffic_bytes", "level_efficiency") else ()
        cells = [
            np.broadcast_to(getattr(part, name), (*by_level, len(rows), len(chips)))
            for part, (_, rows) in zip(planned, chosen, strict=True)
        ]
        columns[name] = np.concatenate(cells, axis=-2)[..., order, :]
    return PlanColumns(**columns)


def smooth_excess(first: FloatArray, second: FloatArray, p: FloatArray) -> FloatArray:
    """What the smooth maximum `(first^p + second^p)^(1/p)` has beyond the larger; nothing where p is infinite."""
    longer, shorter = np.maximum(first, second), np.minimum(first, second)
    ratio = np.divide(shorter, longer, out=np.zeros_like(longer), where=longer > 0)
    excess: FloatArray = np.where(np.isinf(p), 0.0, longer * (np.power(1.0 + np.power(ratio, p), 1.0 / p) - 1.0))
    return excess


def smooth_max(first: FloatArray, second: FloatArray, p: FloatArray) -> FloatArray:
    """The smooth maximum itself.

    >>> smooth_max(np.array([3.0]), np.array([4.0]), np.array([2.0])).tolist()
    [5.0]
    """
    maximum: FloatArray = np.maximum(first, second) + smooth_excess(first, second, p)
    return maximum


def missed_overlap_s(core_s: FloatArray, load_s: FloatArray, p: FloatArray, stages: FloatArray | float) -> FloatArray:
    """What a pipeline of core and load takes longer than the longer of the two.

    The larger of two estimates: filling and draining the pipeline costs one stage of the shorter side, and the fitted
    smooth maximum stands for the rest.

    Args:
        core_s: time of the core, the operands given, [O, C].
        load_s: time of the slowest memory, [O, C].
        p: exponent of the smooth maximum, infinite on chips without a fit; spreads to [O, C].
        stages: steps of the pipeline on the busiest core, [O, C].
    """
    one_stage: FloatArray = np.minimum(core_s, load_s) / np.maximum(stages, 1.0)
    return one_stage if np.isinf(p).all() else np.maximum(smooth_excess(core_s, load_s, p), one_stage)


def level_seconds(planned: PlanColumns, chips: ChipColumns) -> FloatArray:
    """Time of each memory level at its achievable bandwidth, [levels, O, C]."""
    said = np.minimum(1.0, planned.level_efficiency) * chips.level_peak_bandwidth[:, None, :]
    bandwidth = np.where(np.isnan(planned.level_efficiency), chips.level_bandwidth[:, None, :], said)
    seconds: FloatArray = planned.traffic_bytes / bandwidth
    return seconds


def level_traffic(
    chips: ChipColumns,
    *,
    compulsory: FloatArray,
    repeated: FloatArray,
    far_repeated: FloatArray,
    working_set: FloatArray,
    core_repeated: FloatArray | None = None,
) -> FloatArray:
    """Bytes through each memory level, [levels, O, C].

    The cores' own memories and the innermost shared one carry what the cores take in. A level behind a shared
    memory carries what is moved at least once, and of the repeated reads the part of the working set that the memory
    before it cannot hold (a steady random replacement: miss ratio 1 - capacity / working set).

    Args:
        chips: the chips.
        compulsory: bytes of every operand once.
        repeated: bytes that the cores take in beyond that.
        far_repeated: bytes beyond that which concurrent tiles cannot share, so that they come again from afar.
        working_set: bytes between two uses of the same byte.
        core_repeated: where cores share fetches, bytes beyond `compulsory` that each takes in; None means `repeated`.
    """
    compulsory, repeated, far_repeated, working_set = np.broadcast_arrays(
        compulsory, repeated, far_repeated, working_set
    )
    shape = np.broadcast_shapes(compulsory.shape, (1, len(chips)))
    traffic = np.zeros((chips.levels, *shape))
    inside = repeated if core_repeated is None else core_repeated
    shared_inside = np.zeros(len(chips))
    for level in range(chips.levels - 1, -1, -1):
        is_behind = shared_inside > 0
        held = np.divide(shared_inside, working_set, out=np.ones(shape), where=working_set > 0)
        far = compulsory + far_repeated * np.clip(1.0 - held, 0.0, 1.0)
        near = compulsory + np.where(chips.level_is_core[level], inside, repeated)
        traffic[level] = np.where(chips.level_exists[level], np.where(is_behind, far, near), 0.0)
        is_shared = chips.level_exists[level] & ~chips.level_is_core[level]
        shared_inside = np.where(is_shared, np.maximum(shared_inside, chips.level_capacity_bytes[level]), shared_inside)
    return traffic


def streaming_plan(
    ops: OpColumns,
    chips: ChipColumns,
    *,
    tile: float | FloatArray,
    tiles: FloatArray,
    traffic_bytes: FloatArray,
    ingested_bytes: FloatArray,
    vector_flops: FloatArray,
    special_flops: FloatArray,
    reduction_s: FloatArray | float = 0.0,
    link_s: FloatArray | float = 0.0,
    co_resident: FloatArray | int = 8,
) -> PlanColumns:
    """Plan of a kernel without a matrix product, which reads, computes and writes tile by tile.

    The busiest core has `ceil(tiles / cores)` tiles; with few tiles few cores pull on the memory, and each takes in at
    most its ingest rate. Latency is exposed once: by Little's law, enough bytes are in flight after that.

    Args:
        ops: the ops.
        chips: the chips.
        tile: elements or rows in a tile.
        tiles: tiles, [O, 1] or [O, C].
        traffic_bytes: [levels, O, C].
        ingested_bytes: bytes that all cores together take in and give out.
        vector_flops: FLOPs on the vector units.
        special_flops: elementary functions.
        reduction_s: a further dependent pass.
        link_s: time on the link to other devices.
        co_resident: tiles that a core works on at once.
    """
    zero = np.zeros((len(ops), len(chips)))
    tiles = np.maximum(tiles, 1.0) + zero
    busiest = np.ceil(tiles / chips.cores)
    share = busiest / tiles
    vector_s = share * vector_flops / (chips.vector_flops[ops.dtype[:, 0]] * chips.clock_hz)
    special_s = share * special_flops / (chips.special_flops * chips.clock_hz)
    ingest_s = share * ingested_bytes / (chips.ingest * chips.clock_hz)
    return PlanColumns(
        tile_m=tile + zero,
        tile_n=zero + 1.0,
        tiles=tiles,
        waves=np.ceil(busiest / co_resident),
        cores_used=np.minimum(tiles, chips.cores),
        split=zero + 1.0,
        stages=busiest,
        core_s=np.maximum(np.maximum(vector_s, special_s), ingest_s),
        matrix_s=zero,
        vector_s=vector_s,
        special_s=special_s,
        traffic_bytes=traffic_bytes,
        link_s=zero + link_s,
        prologue_s=zero + chips.first_access_s + chips.wave_s,
        epilogue_s=zero,
        reduction_s=zero + reduction_s,
    )
