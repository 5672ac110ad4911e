"""Finalists: the best designs of a front, played again by the event engine, with their error band and what binds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from explorer.area import die_area
from explorer.design_chips import MATRIX_RATES, design_chip
from explorer.evaluator import Columns, Evaluator, Job
from explorer.hardware import FloatArray, Hardware
from explorer.power import Power, chip_power
from explorer.sampling_unit import play_with_unit
from explorer.workload import Workload
from profiler.op import KINDS
from profiler.serving_view import serving_view
from profiler.traces import Trace
from roofline.chip import Chip, Energy
from roofline.chip_families import with_constants_of
from roofline.chipfile import load_chip
from simulator.plans import plan_columns

_SHOWN_KINDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One workload on one finalist, both engines.

    Attributes:
        design: number of the design in its space.
        job: workload.
        closed_s: time of a run in closed form, as the search saw it.
        event_s: by the event engine.
        low_s: lower end of the error band, None where nothing was validated.
        high_s: upper end.
        event_j: energy by the event engine, None where unknown.
        binds: kinds of kernels that take most of the time, with their part and what binds them.
    """

    design: int
    job: str
    closed_s: float
    event_s: float
    low_s: float | None
    high_s: float | None
    event_j: float | None
    binds: str

    @property
    def difference(self) -> float:
        """Event over closed form, less one."""
        return self.event_s / self.closed_s - 1.0


def knee(costs: FloatArray) -> int:
    """The row of a front nearest to its best corner, every objective scaled to the front's range, [F, K] to a row."""
    low, high = costs.min(axis=0), costs.max(axis=0)
    scaled = (costs - low) / np.where(high > low, high - low, 1.0)
    return int(np.argmin((scaled**2).sum(axis=1)))


def pick_finalists(index: Sequence[int], costs: FloatArray) -> list[int]:
    """Designs worth a second look: the knee, then the best of each objective, no design twice."""
    rows = [knee(costs), *(int(np.argmin(costs[:, k])) for k in range(costs.shape[1]))]
    return [int(index[row]) for row in dict.fromkeys(rows)]


def chip_of(evaluator: Evaluator, values: Columns, name: str) -> Chip:
    """One design (columns of length 1) as a chip file would describe it, energy and power limit included."""
    hardware = _hardware(evaluator, values, name)
    area = die_area(hardware, evaluator.technology)
    power = chip_power(hardware, evaluator.technology, area)
    chip = design_chip(hardware, 0, calibration=evaluator.calibration)
    names = [memory.name for memory in chip.memories]
    whole = design_chip(
        hardware,
        0,
        calibration=evaluator.calibration,
        energy=_energy(power, names),
        tdp_w=float(power.tdp_w[0]),
    )
    donor = evaluator.template.constants_of
    named = with_constants_of(whole, load_chip(donor)).sources if donor else whole.sources  # not fitted to this one
    return replace(whole, sources=named)


def replay(
    evaluator: Evaluator, values: Columns, number: int, runs_s: dict[str, float], traces: dict[str, Trace]
) -> Iterator[Replay]:
    """Play every workload on one design by the event engine.

    Args:
        evaluator: of the search.
        values: the design, columns of length 1.
        number: of the design in its space.
        runs_s: time of a run of each job in closed form.
        traces: trace of each job at the design's operating point.

    A design's sampling unit is played too, as a kernel of its own, see `explorer.sampling_unit`.
    """
    chip = chip_of(evaluator, values, f"design-{number}")
    hardware = _hardware(evaluator, values, chip.name)
    logits_per_s = float((hardware.sampler_lanes * hardware.cores * hardware.clock_hz)[0])
    for job in evaluator.jobs:
        workload = point_of(job, values)
        played = play_with_unit(serving_view(traces[job.name]), chip, logits_per_s=logits_per_s, mode=evaluator.mode)
        yield Replay(
            design=number,
            job=job.name,
            closed_s=runs_s[job.name],
            event_s=played.makespan_s,
            low_s=played.low_s,
            high_s=played.high_s,
            event_j=played.energy_j,
            binds=_binds(workload, chip),
        )


def point_of(job: Job, values: Columns) -> Workload:
    """The operating point of a job that a design (columns of length 1) takes."""
    label = str(values[job.name][0]) if job.name in values else job.points[0][0]
    return next(workload for name, workload in job.points if name == label)


def _hardware(evaluator: Evaluator, values: Columns, name: str) -> Hardware:
    knobs = evaluator.knobs(values, 1)
    return evaluator.template.hardware({**knobs, "name": np.array([name])}, evaluator.technology)


def _energy(power: Power, memories: Sequence[str]) -> Energy:
    per_flop, levels = float(power.matrix_j_per_flop[0]), {"l1": power.l1_j_per_byte, "l2": power.l2_j_per_byte}
    return Energy(
        static_w=float(power.static_w[0]),
        matrix_j_per_flop=tuple((dtype, per_flop / rate) for dtype, rate in MATRIX_RATES.items()),
        vector_j_per_flop=float(power.vector_j_per_flop[0]),
        memory_j_per_byte=tuple(
            (name, float(levels.get(name, power.l2_j_per_byte if name == "llc" else power.dram_j_per_byte)[0]))
            for name in memories
        ),
    )


def _binds(workload: Workload, chip: Chip) -> str:
    """The kinds that take most of the time, and how much of it memory binds."""
    plans = plan_columns(workload.ops, [chip], names=workload.names)
    seconds = plans.duration_s[:, 0] * workload.counts
    is_memory = plans.memory_s[:, 0] >= plans.columns.core_s[:, 0]
    kinds = workload.ops.kind[:, 0]
    parts = {code: float(seconds[kinds == code].sum()) for code in np.unique(kinds)}
    largest = sorted(parts, key=lambda code: -parts[code])[:_SHOWN_KINDS]
    texts = []
    for code in largest:
        rows = kinds == code
        by_memory = float(seconds[rows & is_memory].sum()) / max(parts[code], 1e-30)
        texts.append(f"{KINDS[code]} {parts[code] / seconds.sum():.0%} ({by_memory:.0%} by memory)")
    return ", ".join(texts)
