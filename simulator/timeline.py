"""From plans and a timeline of calls to a `SimulationResult`: what both engines share."""

from dataclasses import dataclass, replace

import numpy as np

from profiler.provenance import Provenance, installed_versions
from profiler.traces import Trace
from roofline.chip import Chip
from simulator.bands import combine, op_bands
from simulator.clocks import at_clock, steady_chip
from simulator.eager_kernels import eager_chip
from simulator.energy import OpEnergy, op_energy
from simulator.errors import SimulationError
from simulator.host import MODES, SCRIPTED_DISPATCH_S, HostIssue, Mode, dispatch_of, host_issue, in_order, is_scripted
from simulator.op_columns import FloatArray
from simulator.own_host import UNTABLED, HostRates, on_own_host
from simulator.plans import PlanTable, op_notes, plan_ops
from simulator.power_bands import JoulesBand, power_bands, run_band
from simulator.power_limit import run_clock, sets_its_clock, stretch
from simulator.result import NOT_VALIDATED, SimulationResult

_SHOWN_PACKAGES = ("roofscape", "numpy", "simpy")
_CLOSE_ENOUGH = 1e-6  # whole picoseconds and the bisection of clocks leave less


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A trace, a chip, its plans and how the host issues calls.

    Attributes:
        trace: what runs.
        chip: what it runs on.
        mode: how the host issues calls, see `host_issue`.
        table: plans of the trace's ops on this chip, at its clock.
        host_dispatch_s: host time per dispatch, 0 in a graph.
        notes: defaults used and incomplete ops.
        clock_ratio: part of the full clock that the cores run at.
        is_locked: whether they stay at it, whatever the power.
    """

    trace: Trace
    chip: Chip
    mode: Mode
    table: PlanTable
    host_dispatch_s: float
    notes: tuple[str, ...]
    clock_ratio: float = 1.0
    is_locked: bool = False

    @property
    def op_duration_s(self) -> FloatArray:
        """Time of one call of each op alone on the chip, [ops]."""
        return self.table.duration_s[:, 0]

    def issue(self) -> HostIssue:
        """What the host does for each call."""
        return host_issue(self.trace, self.table.op_columns, self.mode, self.host_dispatch_s)


def prepare(
    trace: Trace, chip: Chip, mode: Mode, host_dispatch_s: float | None = None, clock_ratio: float | None = None
) -> Setting:
    """Plan a trace's ops on a chip, settle the host's dispatch time and the clock.

    Args:
        trace: what runs.
        chip: what it runs on.
        mode: how the host issues calls, see `host_issue`.
        host_dispatch_s: host time per dispatch; None takes the chip's, else the documented default. A chip that is its
            own host has measured times of its calls instead, and takes neither.
        clock_ratio: part of the full clock that the cores are locked to, whatever they draw; None: the highest that
            keeps the power limit.

    Raises:
        SimulationError: there is no such mode, or no such clock.
    """
    if mode not in MODES:
        raise SimulationError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if clock_ratio is not None and not 0 < clock_ratio <= 1:
        raise SimulationError(f"clock_ratio must be above 0 and at most 1, got {clock_ratio:g}")
    chip = eager_chip(chip) if mode == "eager" else chip
    table = plan_ops(trace.ops, [steady_chip(chip) if _follows_power(chip) else chip])
    rates = HostRates(chip)
    if rates:
        table = on_own_host(table, trace, rates)
    has_no_issue = mode == "graph" or bool(rates)  # plans of a chip that is its own host hold its dispatch already
    dispatch, dispatch_notes = (0.0, ()) if has_no_issue else _dispatch(chip, table, host_dispatch_s)
    full = Setting(
        trace=trace,
        chip=chip,
        mode=mode,
        table=table,
        host_dispatch_s=dispatch,
        notes=op_notes(table.op_columns, [op.name for op in trace.ops], chip) + dispatch_notes,
        is_locked=clock_ratio is not None,
    )
    return _at_its_clock(full, clock_ratio)


def _dispatch(chip: Chip, table: PlanTable, given_s: float | None) -> tuple[float, tuple[str, ...]]:
    """(host time per dispatch, what is said of it)."""
    dispatch = dispatch_of(chip) if given_s is None else given_s
    notes: tuple[str, ...] = ()
    if given_s is None and chip.host_dispatch_s is None:
        notes += (f"chip {chip.name} has no measured host dispatch: {dispatch * 1e6:g} us per call assumed",)
    if dispatch > 0 and is_scripted(table.op_columns).any():
        scripted = f"{SCRIPTED_DISPATCH_S * 1e6:g} us of the host each, as measured in an engine"
        notes += (f"kernels of scans and of convolutions along sequences are launched by Python: {scripted}",)
    return dispatch, notes


def _follows_power(chip: Chip) -> bool:
    return chip.energy is not None and sets_its_clock(chip)


def _at_its_clock(full: Setting, locked: float | None) -> Setting:
    """The setting at the clock that it is locked to, else at the highest that keeps the limit, calls played in turn."""
    ratio = 1.0 if locked is None else locked
    if locked is None and _follows_power(full.chip):
        issue = full.issue()

        def makespan_s(op_duration_s: FloatArray) -> float:
            start_s, took_s = in_order(op_duration_s[full.trace.calls.op], issue)
            return float((start_s + took_s).max(initial=0.0))

        ratio = run_clock(full.table, full.trace.call_counts.astype(np.float64), makespan_s, full.chip)
    if ratio == 1.0:
        return full
    said = f"clock at {ratio:.3g} of the highest"
    if locked is None:
        said += f", so that the power limit of {full.chip.tdp_w:g} W is kept"
    return replace(full, table=at_clock(full.table, ratio), clock_ratio=ratio, notes=(*full.notes, said))


def build_result(
    setting: Setting, engine: str, start_s: FloatArray, duration_s: FloatArray, notes: tuple[str, ...] = ()
) -> SimulationResult:
    """The result of a timeline: resources, energy and provenance joined to it."""
    trace, table, calls = setting.trace, setting.table, setting.trace.calls
    counts = trace.call_counts.astype(np.float64)
    energy = op_energy(table, clock_ratio=setting.clock_ratio)
    slowdown, limit_notes = _stretched(setting, energy, counts, float((start_s + duration_s).max(initial=0.0)))
    start_s, duration_s = start_s * slowdown, duration_s * slowdown
    makespan_s = float((start_s + duration_s).max(initial=0.0))
    parts, total, reason = _energy(energy, counts, makespan_s)
    low_s, high_s, basis = _band(setting, counts, makespan_s)
    band = _energy_band(setting, energy, counts, makespan_s, (low_s, high_s))
    energy_notes = energy.notes if isinstance(energy, OpEnergy) else (f"no energy: {energy}",)
    packages = tuple((name, version) for name, version in installed_versions() if name in _SHOWN_PACKAGES)
    return SimulationResult(
        trace=trace.name,
        chip=setting.chip.name,
        engine=engine,
        mode=setting.mode,
        makespan_s=makespan_s,
        start_s=start_s,
        duration_s=duration_s,
        op=calls.op,
        phase=calls.phase,
        step=calls.step,
        stream=calls.stream,
        phases=trace.phases,
        op_names=tuple(op.name for op in trace.ops),
        op_kinds=tuple(op.kind for op in trace.ops),
        op_duration_s=setting.op_duration_s,
        op_bound_s=table.bound_s[:, 0],
        op_energy_j=energy.total_j if isinstance(energy, OpEnergy) else None,
        busy_s=_busy_s(setting, counts),
        energy_j=total,
        energy_parts_j=parts,
        energy_reason=reason,
        energy_low_j=band.low_j if band else None,
        energy_high_j=band.high_j if band else None,
        energy_band_basis=band.basis if band else (),
        low_s=low_s,
        high_s=high_s,
        band_reason="" if basis else NOT_VALIDATED,
        band_basis=basis,
        notes=setting.notes + energy_notes + limit_notes + notes,
        provenance=Provenance(source=f"simulate {engine}", device=setting.chip.name, packages=packages),
    )


def _stretched(
    setting: Setting, energy: OpEnergy | str, counts: FloatArray, makespan_s: float
) -> tuple[float, tuple[str, ...]]:
    """(factor on all times that keeps the power limit where the clock does not, what is said of it)."""
    if isinstance(energy, str) or setting.is_locked:
        return 1.0, ()
    slowdown = stretch(energy, counts, makespan_s, setting.chip)
    if slowdown <= 1.0 + _CLOSE_ENOUGH:
        return 1.0, ()
    wanted_w = float(energy.total_j @ counts) / makespan_s + float(energy.static_w)
    limit = f"power limit of {setting.chip.tdp_w:g} W"
    return slowdown, (f"slowed {slowdown:.2f}x by the {limit}: it would draw {wanted_w:.0f} W",)


def _band(
    setting: Setting, counts: FloatArray, makespan_s: float
) -> tuple[float | None, float | None, tuple[str, ...]]:
    """(low, high, what they rest on): the makespan moved by what the sum of all kernels may be off."""
    bands = op_bands(setting.table.op_columns, setting.chip)
    if bands is None or not len(counts):
        return None, None, ()
    total_s = float(setting.op_duration_s @ counts)
    low_s, high_s = combine(setting.op_duration_s, counts, bands)
    basis = (UNTABLED,) if HostRates(setting.chip) else bands.basis
    return max(0.0, makespan_s + low_s - total_s), makespan_s + high_s - total_s, basis


def _energy_band(
    setting: Setting,
    energy: OpEnergy | str,
    counts: FloatArray,
    makespan_s: float,
    ends_s: tuple[float | None, float | None],
) -> JoulesBand | None:
    """Where the joules of the run lie; None where they or the band of its time are unknown."""
    bands = power_bands(setting.table.op_columns, setting.chip)
    if isinstance(energy, str) or bands is None or ends_s[0] is None or ends_s[1] is None or makespan_s <= 0:
        return None
    static_w, limit_w = float(energy.static_w), setting.chip.tdp_w
    return run_band(
        op_j=energy.total_j + static_w * setting.op_duration_s,
        counts=counts,
        bands=bands,
        total_j=float(energy.total_j @ counts) + static_w * makespan_s,
        time_ratios=(ends_s[0] / makespan_s, ends_s[1] / makespan_s),
        most_j=np.inf if limit_w is None else limit_w * makespan_s,
    )


def _energy(
    energy: OpEnergy | str, counts: FloatArray, makespan_s: float
) -> tuple[tuple[tuple[str, float], ...], float | None, str]:
    if isinstance(energy, str):
        return (), None, energy
    parts = tuple((name, float(joules @ counts)) for name, joules in energy.parts)
    parts += (("static", float(energy.static_w) * makespan_s),)
    return parts, sum(joules for _, joules in parts), ""


def _busy_s(setting: Setting, counts: FloatArray) -> tuple[tuple[str, float], ...]:
    """Seconds that each resource needs at its peak rate for all calls, so that their part of the makespan is 0-1."""
    table = setting.table
    ops, chips, columns = table.op_columns, table.chip_columns, table.columns
    dtype = ops.dtype[:, 0]
    clocks = chips.cores * chips.clock_hz
    products_s = (ops.required_matrix_flops / (2.0 * chips.macs[dtype] * clocks))[:, 0]
    on_matrix = chips.has_matrix[dtype, 0]
    vector_s = (ops.vector_flops / (chips.vector_flops[dtype] * clocks))[:, 0]
    special_s = (ops.special_flops / (chips.special_flops * clocks))[:, 0]
    busy = [
        ("matrix", float(np.where(on_matrix, products_s, 0.0) @ counts)),
        ("vector", float((vector_s + np.where(on_matrix, 0.0, products_s)) @ counts)),
        ("special", float(special_s @ counts)),
    ]
    for level, memory in reversed(list(enumerate(reversed(setting.chip.memories)))):
        level_s = columns.traffic_bytes[level, :, 0] / memory.bandwidth_bytes_per_s
        busy.append((memory.name, float(level_s @ counts)))
    if setting.chip.links:
        busy.append((setting.chip.links[0].name, float(columns.link_s[:, 0] @ counts)))
    busy.append(("launch", float(table.launch_s[:, 0] @ counts)))
    busy.append(("host", setting.issue().total_s))
    return tuple(busy)
