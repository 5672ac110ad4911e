"""`Evaluator`: from the values of a space's parameters to objectives, constraints and figures, a batch at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.cost import Cost
from explorer.errors import ExplorationError
from explorer.evaluate import Costs, Mode, run_costs
from explorer.hardware import FloatArray, Hardware, take_columns
from explorer.objectives import COSTS_PER_UNIT, PER_UNIT, Goals, geometric_mean
from explorer.package import package_of
from explorer.result import Result
from explorer.technology import Technology
from explorer.templates.template import Template
from explorer.workload import Workload
from roofline.chipfile import load_chip

Columns = dict[str, NDArray[Any]]
_OF_HARDWARE = ("peak_flops_per_s", "dram_bytes_per_s", "dram_bytes")
_PARTS = ("memory_part", "compute_part", "sampling_part", "power_w")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One workload with its operating points; a space may choose among several by a parameter of the job's name.

    Attributes:
        name: of the workload.
        points: (label, workload) of each operating point, the first of them the default.
        weight: among other jobs; 0 for one that is told where a design holds it and judges none.
    """

    name: str
    points: tuple[tuple[str, Workload], ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluator:
    """What evaluates designs; called with columns of parameters, [D] each.

    Attributes:
        template: what the parameters build.
        fixed: values of parameters that do not vary.
        technology: figures of silicon, memory and money.
        jobs: the workloads.
        goals: objectives and limits.
        mode: `graph` or `eager`.
        calibration: constants of the kernel models, see `constants_of`.
    """

    template: Template
    technology: Technology
    jobs: tuple[Job, ...]
    goals: Goals
    fixed: Mapping[str, float | str] = field(default_factory=dict)
    mode: Mode = "graph"
    calibration: tuple[tuple[str, float], ...] = ()

    def __call__(self, values: Columns) -> Result:
        """Objectives, constraints and figures of designs; those that break a limit are not simulated."""
        count = len(next(iter(values.values())))
        knobs = self.knobs(values, count)
        reason = np.full(count, "", dtype=np.dtype("U80"))
        violation = np.zeros(count)
        for text, holds in self.template.dead(knobs):
            reason = np.where((reason == "") & holds, text, reason)
            violation += holds
        alive = np.flatnonzero(reason == "")
        figures = {name: np.full(count, np.nan) for name in self.figure_names}
        if not len(alive):
            return self._result(figures, violation, reason)
        hardware = self.template.hardware({name: column[alive] for name, column in knobs.items()}, self.technology)
        package = package_of(hardware, self.technology)
        own = package.figures() | {name: getattr(hardware, name) for name in _OF_HARDWARE}
        for name, column in own.items():
            figures[name][alive] = column
        needed = self._needed_bytes(values, count)[alive]
        self._hold(hardware, own, alive, needed, violation, reason)
        kept = np.flatnonzero(violation[alive] <= 0)
        if len(kept):
            workloads = [workload for job in self.jobs for _, workload in job.points]
            costs = run_costs(
                workloads,
                hardware.take(kept),
                take_columns(package.power, kept),
                calibration=self.calibration,
                mode=self.mode,
            )
            rows = alive[kept]
            chosen = self._choose(costs, {name: column[rows] for name, column in values.items()})
            for name, column in self._per_unit(chosen, take_columns(package.cost, kept)).items():
                figures[name][rows] = column
        result = self._result(figures, violation, reason)
        unknown = (result.violation <= 0) & ~np.isfinite(result.costs).all(axis=1) & (reason == "")
        reason[unknown] = "an objective is unknown: memory does not hold a workload, or it has no quality"
        return self._result(figures, violation, reason)

    def knobs(self, values: Columns, count: int) -> Columns:
        """The template's knobs of every design: those that vary, those fixed, the defaults."""
        own = {job.name for job in self.jobs}
        fixed = {name: np.full(count, value) for name, value in self.fixed.items()}
        return self.template.fill({**fixed, **{n: column for n, column in values.items() if n not in own}}, count)

    @property
    def figure_names(self) -> tuple[str, ...]:
        """Names of all figures of a design, in order."""
        own = ("die_mm2", "area_mm2", "tdp_w", "static_w", "bill_usd", "usd_per_hour", *_OF_HARDWARE)
        per_job = (*COSTS_PER_UNIT, "quality", *_PARTS)
        return (*own, *PER_UNIT, *(f"{job.name}.{name}" for job in self.jobs for name in per_job))

    @property
    def judging(self) -> tuple[Job, ...]:
        """The jobs that designs are judged by: those with a weight."""
        return tuple(job for job in self.jobs if job.weight > 0)

    def _needed_bytes(self, values: Columns, count: int) -> FloatArray:
        """Main memory that the largest workload needs at each design's operating points, [D]; 0 where nobody knows."""
        needed = np.zeros(count)
        for job in self.judging:
            each = np.nan_to_num(np.array([workload.needed_bytes for _, workload in job.points]))
            needed = np.maximum(needed, each[_picked(job, values, count)])
        return needed

    def _hold(
        self,
        hardware: Hardware,
        own: dict[str, FloatArray],
        alive: NDArray[np.int64],
        needed: FloatArray,
        violation: FloatArray,
        reason: NDArray[np.str_],
    ) -> None:
        """Add what limits are broken by how much, in place."""
        excess, parts = self.goals.violation(own)
        if self.goals.holds_models:
            short = np.maximum(0.0, needed / np.maximum(hardware.dram_bytes, 1.0) - 1.0)
            excess = excess + short
            parts.append(("main memory does not hold the largest workload", short))
        violation[alive] += excess
        for text, part in parts:
            rows = alive[part > 0]
            reason[rows] = np.where(reason[rows] == "", text, reason[rows])

    def _choose(self, costs: Costs, values: Columns) -> list[dict[str, FloatArray]]:
        """Of each job, the figures at the operating point that each design takes."""
        chosen, start = [], 0
        for job in self.jobs:
            picked = _picked(job, values, costs.run_s.shape[1])
            columns = np.arange(len(picked))
            of_point = {name: getattr(costs, name)[start + picked, columns] for name in Costs.__slots__}
            points = [workload for _, workload in job.points]
            of_point["units"] = np.array([workload.units for workload in points])[picked]
            of_point["quality"] = np.array([workload.quality for workload in points])[picked]
            chosen.append(of_point)
            start += len(points)
        return chosen

    def _per_unit(self, chosen: list[dict[str, FloatArray]], cost: Cost) -> dict[str, FloatArray]:
        figures: dict[str, FloatArray] = {}
        for job, found in zip(self.jobs, chosen, strict=True):
            seconds = found["run_s"] / found["units"]
            figures[f"{job.name}.seconds_per_unit"] = seconds
            figures[f"{job.name}.joules_per_unit"] = found["run_j"] / found["units"]
            figures[f"{job.name}.usd_per_million_units"] = cost.usd_per_million(1.0 / seconds)
            for name in ("quality", *_PARTS):
                figures[f"{job.name}.{name}"] = found[name]
        judging = self.judging
        weights = [job.weight for job in judging]
        for name in COSTS_PER_UNIT:
            values = np.stack([figures[f"{job.name}.{name}"] for job in judging])
            figures[name] = geometric_mean(values, weights)
        scored = [job for job in judging if any(np.isfinite(workload.quality) for _, workload in job.points)]
        total = sum(job.weight for job in scored) or float("nan")
        # A point without a score leaves the whole unknown; workloads that have no score at all take no part.
        known = [job.weight * figures[f"{job.name}.quality"] for job in scored]
        figures["quality_loss"] = 1.0 - np.sum(known, axis=0) / total if scored else np.full(len(seconds), np.nan)
        return figures

    def _result(self, figures: dict[str, FloatArray], violation: FloatArray, reason: NDArray[np.str_]) -> Result:
        # NumPy rounds exp and log differently at the end of an array than inside it. In single precision nobody sees,
        # so that a design's objectives do not depend on which others were evaluated with it.
        costs = np.stack([figures[name] for name in self.goals.objectives], axis=1).astype(np.float32)
        return Result(costs=costs.astype(np.float64), violation=violation, reason=reason, metrics=figures)


def _picked(job: Job, values: Columns, count: int) -> NDArray[np.int64]:
    """Which operating point of a job each design takes, [D]."""
    if job.name not in values:
        return np.zeros(count, dtype=np.int64)
    labels, texts = [label for label, _ in job.points], values[job.name].astype(str).tolist()
    unknown = sorted(set(texts) - set(labels))
    if unknown:
        raise ExplorationError(
            f"workload {job.name!r}: unknown operating point {unknown[0]!r}; known: {', '.join(labels)}"
        )
    return np.array([labels.index(text) for text in texts], dtype=np.int64)


def too_large(evaluator: Evaluator, result: Result) -> str:
    """Workloads that no design within the limits holds in memory, as one sentence; empty without any.

    Args:
        evaluator: of the designs.
        result: what it found, figures included.
    """
    if "dram_bytes" not in result.metrics:
        return ""
    excess, _ = evaluator.goals.violation(dict(result.metrics))
    held = result.metrics["dram_bytes"][excess <= 0]
    if not len(held):
        return ""
    needs = {job.name: min(workload.needed_bytes for _, workload in job.points) for job in evaluator.judging}
    large = [f"{name} ({needed / 1e9:.0f} GB)" for name, needed in needs.items() if needed > held.max()]
    if not large:
        return ""
    words = f"designs within the limits have {held.max() / 1e9:.0f} GB at most and do not hold {', '.join(large)}"
    return f"{words}; weight = 0 takes a workload out of the search"


def without_limits(evaluator: Evaluator) -> Evaluator:
    """The same for designs of all corners of a space: limits are not looked at, and memory holds every workload."""
    unknown = float("nan")
    jobs = tuple(
        replace(job, points=tuple((label, replace(point, needed_bytes=unknown)) for label, point in job.points))
        for job in evaluator.jobs
    )
    return replace(evaluator, jobs=jobs, goals=replace(evaluator.goals, limits=(), holds_models=False))


def constants_of(template: Template) -> tuple[tuple[str, float], ...]:
    """Constants of the kernel models that designs of a template take: another chip's, and the template's own."""
    taken = load_chip(template.constants_of).calibration if template.constants_of else ()
    return (*taken, *template.constants)
