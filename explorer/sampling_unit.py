"""A design's sampling unit in the event engine: a kernel of its own after every product that writes logits."""

from dataclasses import fields, replace

import numpy as np

from explorer.evaluate import SAMPLER_FLOPS
from explorer.workload import samples, written_logits
from profiler.op import Op
from profiler.traces import Calls, Trace
from roofline.chip import Chip
from simulator import event
from simulator.host import Mode
from simulator.op_columns import FloatArray, IntArray
from simulator.plans import PlanTable
from simulator.result import SimulationResult
from simulator.stages import PlanColumns
from simulator.stream_dependencies import cross_stream_dependencies
from simulator.timeline import prepare

_COLUMNS = ("phase", "step", "module", "stream", "start_s", "duration_s", "energy_j")
_ONES = ("tile_m", "tile_n", "tiles", "waves", "split", "stages")


def play_with_unit(trace: Trace, chip: Chip, *, logits_per_s: float, mode: Mode = "graph") -> SimulationResult:
    """Play a trace by the event engine on a chip that has a streaming sampling unit.

    As in the closed form (`explorer.evaluate`), each time that logits are written the unit reads them once from main
    memory, after one launch, and takes the place of all that works on logits and is no product. Where the kernels that
    it would replace are faster, they run instead.

    Args:
        trace: what runs; its fused view.
        chip: what it runs on, without the unit.
        logits_per_s: what the unit takes, 0 for a chip without one.
        mode: `graph` or `eager`.
    """
    is_sampling = np.array([samples(op) for op in trace.ops], dtype=np.bool_)
    with_unit, new_call = _with_unit_calls(trace, is_sampling)
    units = np.arange(len(trace.ops), len(with_unit.ops))
    if logits_per_s <= 0 or not len(units):
        return event.simulate(trace, chip, mode=mode)
    setting = prepare(with_unit, chip, mode)
    table = _unit_plans(setting.table, units, with_unit, logits_per_s)
    issued_s = np.maximum(table.duration_s[:, 0], setting.host_dispatch_s)
    if issued_s[units] @ with_unit.call_counts[units] >= issued_s[: len(trace.ops)] @ (trace.call_counts * is_sampling):
        return event.simulate(trace, chip, mode=mode)
    return event.play(replace(setting, table=table), _moved_waits(cross_stream_dependencies(trace), new_call))


def _with_unit_calls(trace: Trace, is_sampling: np.ndarray) -> tuple[Trace, IntArray]:
    """(the trace with a call of the unit after each product that writes logits instead of its sampling kernels, where
    each old call is now [calls]: a sampling kernel in the unit's latest call before it, -1 where there is none)."""
    unit_of, ops = np.full(len(trace.ops), -1), list(trace.ops)
    for number, op in enumerate(trace.ops):
        logits = written_logits(op)
        if logits is not None:
            unit_of[number] = len(ops)
            count = int(np.prod(logits.shape))
            columns = logits.shape[-1]
            ops.append(
                Op(
                    kind="reduction",
                    name="sampling unit",
                    dtype=logits.dtype,
                    inputs=(logits,),
                    sizes=(("rows", count // max(columns, 1)), ("columns", columns)),
                    vector_flops=round(SAMPLER_FLOPS * count),
                )
            )
    calls = trace.calls
    kept = np.flatnonzero(~is_sampling[calls.op])
    writers = np.flatnonzero(unit_of[calls.op] >= 0)
    order = np.argsort(np.concatenate([2 * kept, 2 * writers + 1]))
    old = np.concatenate([kept, writers])[order]
    op_of = np.concatenate([calls.op[kept], unit_of[calls.op[writers]]])[order]
    new_call = np.full(len(calls), -1)
    new_call[kept] = np.argsort(order)[: len(kept)]
    unit_calls = np.concatenate([np.argsort(order)[len(kept) :], [-1]])
    dropped = np.flatnonzero(is_sampling[calls.op])
    new_call[dropped] = unit_calls[np.searchsorted(writers, dropped) - 1]
    columns_of = {name: getattr(calls, name)[old] for name in _COLUMNS}
    return replace(trace, ops=tuple(ops), calls=Calls(op=op_of, **columns_of)), new_call


def _unit_plans(table: PlanTable, units: IntArray, trace: Trace, logits_per_s: float) -> PlanTable:
    """The plans with those of the unit's ops [U] set to what the unit does: a launch, then one stream of logits."""
    logits = np.array([float(np.prod(trace.ops[unit].inputs[0].shape)) for unit in units])[:, None]
    moved = np.array([float(trace.ops[unit].inputs[0].moved_bytes or 0) for unit in units])[:, None]
    chips = table.chip_columns
    own: dict[str, FloatArray | float] = {
        **{field.name: 0.0 for field in fields(PlanColumns)},
        **dict.fromkeys(_ONES, 1.0),
        "cores_used": chips.cores,
        "core_s": logits / logits_per_s,
        "level_efficiency": 1.0,
        "smooth_max_p": np.inf,
        "launch_s": table.chips[0].launch_s,
    }
    columns = {name: getattr(table.columns, name).copy() for name in own}
    for name, value in own.items():
        columns[name][..., units, :] = value
    columns["traffic_bytes"][0, units] = moved
    from_memory_s = moved / chips.level_peak_bandwidth[0]
    figures = {name: getattr(table, name).copy() for name in ("level_s", "launch_s", "memory_s", "exposed_s")}
    figures["level_s"][:, units], figures["level_s"][0, units] = 0.0, from_memory_s
    figures["launch_s"][units], figures["memory_s"][units] = own["launch_s"], from_memory_s
    figures["exposed_s"][units] = 0.0
    duration_s = table.duration_s.copy()
    duration_s[units] = own["launch_s"] + np.maximum(columns["core_s"][units], from_memory_s)
    return replace(table, columns=PlanColumns(**columns), duration_s=duration_s, **figures)


def _moved_waits(waits: dict[int, tuple[int, ...]], new_call: IntArray) -> dict[int, tuple[int, ...]]:
    """Waits between streams by the new numbers of calls; what would wait for a later call does not wait."""
    moved: dict[int, set[int]] = {}
    for call, sources in waits.items():
        at = int(new_call[call])
        found = {int(new_call[source]) for source in sources}
        moved.setdefault(at, set()).update(source for source in found if 0 <= source < at)
    return {call: tuple(sorted(sources)) for call, sources in moved.items() if call >= 0 and sources}
