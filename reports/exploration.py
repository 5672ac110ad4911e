"""`Exploration`: what `roofscape explore` found, as frames: the front, all designs, what each parameter is worth."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from explorer.archive import Archive
from explorer.errors import ExplorationError
from explorer.evaluator import Evaluator, too_large
from explorer.finalists import Replay, pick_finalists, replay
from explorer.jobs import file_hash, point_trace
from explorer.morris import MorrisEffects, morris_effects
from explorer.pareto import find_bounds
from explorer.search import Batch
from explorer.sensitivity import SobolIndices, Step, local_sensitivity, sobol_indices
from explorer.space_file import PointRequest, SpaceFile
from reports.errors import ReportError

if TYPE_CHECKING:
    from explorer.result import Evaluate, Result
    from explorer.store import StoredRun


_PARTS_OF_ONE = ("quality_loss",)  # objectives that may be 0 and have no logarithm
_SAMPLES_PER_WALK = 8  # base samples of Sobol indices for each walk of Morris, which needs far fewer
_OF_SOBOL = ("first_order", "first_order_error", "total", "total_error")
_OF_MORRIS = ("mean_absolute", "spread")
_WHOLE = (*_OF_SOBOL, *_OF_MORRIS)


def describe(asked: SpaceFile) -> dict[str, object]:
    """What makes two searches of a space the same, as JSON values: template, workloads, goals, what is fixed."""
    return {
        "template": asked.template.name,
        "constants_of": asked.template.constants_of,
        "fixed": dict(asked.fixed),
        "mode": asked.mode,
        "technology": "" if asked.technology is None else file_hash(asked.technology),
        "objectives": list(asked.goals.objectives),
        "limits": [list(limit) for limit in asked.goals.limits],
        "holds_models": asked.goals.holds_models,
        "workloads": [
            {"name": w.name, "weight": w.weight, "points": [_describe_point(point) for point in w.points]}
            for w in asked.workloads
        ],
    }


def _describe_point(point: PointRequest) -> list[object]:
    trace = "" if point.trace is None else file_hash(point.trace)
    return [point.label, point.program, trace, repr(point.options), point.units, point.unit, repr(point.quality)]


@dataclass(kw_only=True, eq=False)
class Exploration:
    """A search and what came of it; `add` every batch, then `finish`.

    Attributes:
        asked: the space file.
        evaluator: of its designs.
        strategy: `grid`, `sobol` or `nsga2`.
        seed: of the sampling.
        archive: the front of this call so far.
        best: the front over all designs seen, those that the store held before included.
        known: designs that were in the store already.
        index: numbers of all designs seen, [D].
        result: their rows.
        steps: local sensitivity around the knee of the front.
        sobol: Sobol indices over the whole space, None where they were not asked for or cannot be had.
        morris: elementary effects over it, likewise.
        not_weighed: why there are none, empty where nobody asked.
        played: finalists by the event engine.
    """

    asked: SpaceFile
    evaluator: Evaluator
    strategy: str
    seed: int
    archive: Archive = field(default_factory=Archive)
    best: Archive = field(default_factory=Archive)
    known: int = 0
    index: "np.ndarray[Any, np.dtype[np.int64]]" = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    result: "Result | None" = None
    steps: list[Step] = field(default_factory=list)
    sobol: SobolIndices | None = None
    morris: MorrisEffects | None = None
    not_weighed: str = ""
    played: list[Replay] = field(default_factory=list)

    def add(self, batch: Batch) -> None:
        """Take a batch that is done."""
        self.archive.add(batch.index, batch.result)
        self.known += int((~batch.computed).sum())

    def finish(self, kept: "StoredRun") -> None:
        """Read all designs back and see what each parameter is worth around the knee.

        Raises:
            ExplorationError: no design holds the constraints; which break most often, and what fits no design.
        """
        self.index, self.result = kept.load()
        if self.result is not None:
            self.best.add(self.index, self.result)
        try:
            self.best.require_front()
        except ExplorationError as error:
            hint = "" if self.result is None else too_large(self.evaluator, self.result)
            raise ExplorationError(f"{error}; {hint}" if hint else str(error)) from None
        self.steps = local_sensitivity(self.asked.space, self.evaluator, self.finalists()[0])

    def weigh_space(self, evaluate: "Evaluate", samples: int) -> None:
        """Find which parameters decide over the whole space; where too few designs have objectives, say so.

        Args:
            evaluate: gives objectives of designs in all corners, see `without_limits`.
            samples: base samples of the Sobol indices.
        """
        space, log = self.asked.space, [name not in _PARTS_OF_ONE for name in self.asked.goals.objectives]
        try:
            self.sobol = sobol_indices(space, evaluate, samples=samples, seed=self.seed, log=log)
            walks = max(2, samples // _SAMPLES_PER_WALK)
            self.morris = morris_effects(space, evaluate, trajectories=walks, seed=self.seed, log=log)
        except ExplorationError as error:
            self.not_weighed = str(error)

    def finalists(self) -> list[int]:
        """Numbers of the knee and of the best design of each objective."""
        return pick_finalists(self.best.index.tolist(), self.best.costs)

    def front_frame(self) -> pd.DataFrame:
        """Designs that no other beats: number, parameters, figures; best first by the first objective."""
        return self._frame(np.isin(self.index, self.best.index)).sort_values(
            self.asked.goals.objectives[0], ignore_index=True
        )

    def held_up_by_cache(self, front: pd.DataFrame) -> int:
        """Designs of the front whose shared cache gives fewer bytes a second than main memory."""
        evaluator = self.evaluator
        values = {name: front[name].to_numpy() for name in self.asked.space.names}
        hardware = evaluator.template.hardware(evaluator.knobs(values, len(front)), evaluator.technology)
        return int(hardware.is_held_up_by_cache.sum())

    def all_frame(self, most: int) -> pd.DataFrame:
        """Designs that hold all constraints, at most so many of them, drawn evenly."""
        assert self.result is not None
        rows = np.flatnonzero(self.result.feasible)
        chosen = np.zeros(len(self.index), dtype=np.bool_)
        chosen[rows[:: max(1, -(-len(rows) // most))]] = True
        return self._frame(chosen)

    def _frame(self, chosen: "np.ndarray[Any, np.dtype[np.bool_]]") -> pd.DataFrame:
        if self.result is None:
            raise ReportError("the exploration has not finished")
        index = self.index[chosen]
        values = self.asked.space.decode(index)
        figures = {name: column[chosen] for name, column in self.result.metrics.items() if name not in values}
        return pd.DataFrame({"design": index, **values, **figures})

    def replays(self, folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
        """What to play again by the event engine: (what, how), one finalist at a time."""
        for number in self.finalists():
            yield f"design {number}", partial(self._play, number, folder)

    def _play(self, number: int, folder: Path) -> None:
        values = self.asked.space.decode(np.array([number], dtype=np.int64))
        row = self._frame(self.index == number).iloc[0]
        traces, runs_s = {}, {}
        played = []
        for request, job in zip(self.asked.workloads, self.evaluator.jobs, strict=True):
            if not np.isfinite(row[f"{job.name}.seconds_per_unit"]):
                continue  # one without weight that this design does not hold
            played.append(job)
            label = str(values[job.name][0]) if job.name in values else job.points[0][0]
            point = next(point for point in request.points if point.label == label)
            units = next(workload.units for name, workload in job.points if name == label)
            traces[job.name] = point_trace(point, folder)
            runs_s[job.name] = float(row[f"{job.name}.seconds_per_unit"]) * units
        self.played += list(replay(replace(self.evaluator, jobs=tuple(played)), values, number, runs_s, traces))

    def played_frame(self) -> pd.DataFrame:
        """Finalists by both engines."""
        columns = ("design", "job", "closed_s", "event_s", "low_s", "high_s", "event_j", "difference", "binds")
        return pd.DataFrame([{name: getattr(each, name) for name in columns} for each in self.played], columns=columns)

    def steps_frame(self) -> pd.DataFrame:
        """What one step of each parameter does to each objective around the knee."""
        rows = []
        for step in self.steps:
            for objective, change in zip(self.asked.goals.objectives, step.changes, strict=True):
                rows.append(
                    {
                        "parameter": step.parameter,
                        "step": f"{step.before} to {step.after}",
                        "objective": objective,
                        "change": change,
                        "feasible": step.is_feasible,
                    }
                )
        return pd.DataFrame(rows, columns=["parameter", "step", "objective", "change", "feasible"])

    def whole_frame(self) -> pd.DataFrame:
        """What each parameter decides over the whole space: Sobol indices with their errors, effects by Morris."""
        if self.sobol is None or self.morris is None:
            return pd.DataFrame(columns=["parameter", "objective", *_WHOLE])
        objectives = self.asked.goals.objectives
        columns = {name: getattr(self.sobol, name).ravel() for name in _OF_SOBOL}
        columns |= {name: getattr(self.morris, name).ravel() for name in _OF_MORRIS}
        pairs = [
            {"parameter": parameter, "objective": objective}
            for parameter in self.sobol.parameters
            for objective in objectives
        ]
        return pd.DataFrame(pairs).assign(**columns)

    def curve_frame(self) -> pd.DataFrame:
        """Hypervolume of the front after each batch, as a part of the final box."""
        bounds = find_bounds(self.best.costs)
        return pd.DataFrame(self.archive.hypervolume_curve(bounds), columns=["evaluations", "hypervolume"])

    def as_json(self) -> dict[str, object]:
        """Everything a script may read."""
        return {
            "title": self.asked.title,
            "template": self.asked.template.name,
            "constants_of": self.asked.template.constants_of,
            "designs_in_space": self.asked.space.size,
            "evaluations": self.archive.evaluations,
            "known_before": self.known,
            "objectives": list(self.asked.goals.objectives),
            "front": self.front_frame().to_dict("records"),
            "finalists": self.played_frame().to_dict("records"),
            "sensitivity": self.steps_frame().to_dict("records"),
            "whole_space": self.whole_frame().to_dict("records"),
            "whole_space_not_weighed": self.not_weighed,
            "hypervolume": self.curve_frame().to_dict("records"),
        }
