"""The chip for a mix of autoregression and denoising: the best design for every share, and what it loses on either."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from explorer.errors import ExplorationError
from explorer.objectives import COSTS_PER_UNIT, geometric_mean
from explorer.parameters import ParameterSpace
from explorer.result import FloatArray, IntArray, Result

OBJECTIVES = COSTS_PER_UNIT
AUTOREGRESSIVE = "autoregressive"
_MOST_PARTS = 1000
_TIED = 1e-9  # of the mean's logarithm: less is rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class DesignTable:
    """Designs that hold the constraints, and their figures.

    Attributes:
        space: what varies.
        index: numbers of the designs, [D].
        figures: of `Evaluator`, [D] each.
        jobs: names of the workloads.
        paradigms: of each workload; whatever is not `autoregressive` counts as denoising.
    """

    space: ParameterSpace
    index: IntArray
    figures: Mapping[str, FloatArray]
    jobs: tuple[str, ...]
    paradigms: Mapping[str, str]

    def column(self, job: str, figure: str) -> FloatArray:
        """A figure of a workload, [D]."""
        return self.figures[f"{job}.{figure}"]

    def group(self, paradigm: str) -> tuple[str, ...]:
        """Workloads of autoregression, or of everything else."""
        is_ar = paradigm == AUTOREGRESSIVE
        return tuple(job for job in self.jobs if (self.paradigms[job] == AUTOREGRESSIVE) == is_ar)

    def held(self, jobs: Sequence[str]) -> list[str]:
        """Workloads that fit every design's memory: only those can be compared over all of them."""
        return [job for job in jobs if np.isfinite(self.column(job, OBJECTIVES[0])).all()]

    def mean(self, jobs: Sequence[str], objective: str) -> FloatArray:
        """Geometric mean over those of the workloads that every design holds, [D].

        Raises:
            ExplorationError: not one of the workloads fits the memory of every design.
        """
        held = self.held(jobs)
        if not held:
            raise ExplorationError(
                f"no workload of {', '.join(jobs)} fits the memory of every design; ask that designs hold the models"
            )
        return geometric_mean(np.stack([self.column(job, objective) for job in held]), [1.0] * len(held))

    def design(self, row: int) -> dict[str, object]:
        """Number and parameters of a design."""
        values = self.space.decode(self.index[[row]])
        return {"design": int(self.index[row]), **{name: column[0].item() for name, column in values.items()}}

    def ridge(self, row: int) -> float:
        """FLOPs per byte of main memory of a design, both at peak."""
        return float(self.figures["peak_flops_per_s"][row] / self.figures["dram_bytes_per_s"][row])


def design_table(space: ParameterSpace, index: IntArray, result: Result, paradigms: Mapping[str, str]) -> DesignTable:
    """The designs of a result that hold all constraints.

    Args:
        space: what varies.
        index: numbers of the designs, [D].
        result: one row each.
        paradigms: that of each workload, by the workload's name.

    Raises:
        ExplorationError: none does.
    """
    held = np.flatnonzero(result.violation <= 0)
    if not held.size:
        reasons, counts = np.unique(result.reason, return_counts=True)
        raise ExplorationError(
            f"none of {len(index):,} designs holds all constraints; most often: {reasons[int(counts.argmax())]}"
        )
    return DesignTable(
        space=space,
        index=index[held],
        figures={name: column[held] for name, column in result.metrics.items()},
        jobs=tuple(paradigms),
        paradigms=dict(paradigms),
    )


def check_both(paradigms: Mapping[str, str]) -> None:
    """Whether there is something to mix.

    Raises:
        ExplorationError: no workload is autoregressive, or all are.
    """
    kinds = [paradigm == AUTOREGRESSIVE for paradigm in paradigms.values()]
    if not any(kinds):
        raise ExplorationError(
            f'nothing to mix: none of the workloads {", ".join(paradigms)} has paradigm = "{AUTOREGRESSIVE}"'
        )
    if all(kinds):
        raise ExplorationError(f'nothing to mix: every workload has paradigm = "{AUTOREGRESSIVE}"')


def check_mix(objective: str, parts: int) -> None:
    """Whether a mix can be asked for by these words.

    Raises:
        ExplorationError: an objective that is not of a workload, or a number of parts out of range.
    """
    if objective not in OBJECTIVES:
        raise ExplorationError(f"unknown objective {objective!r} of a mix; known: {', '.join(OBJECTIVES)}")
    if not 1 <= parts <= _MOST_PARTS:
        raise ExplorationError(f"the number of parts must be from 1 to {_MOST_PARTS}, got {parts}")


def best_row(values: FloatArray) -> int:
    """The row of the least value, NaN apart."""
    return int(np.nanargmin(values))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """What both kinds of work take on each design, [D]: geometric means over their workloads."""

    autoregression: FloatArray
    denoising: FloatArray

    def best_for(self, part: float) -> int:
        """The row of the best design for a mix of `part` autoregression and the rest denoising.

        A mix is the weighted geometric mean of both kinds of work, as objectives over several workloads are everywhere:
        a design that is 10 % faster on the one gains as much as one that is 10 % faster on the other, by their shares.
        Of designs that are equal for the mix, such as those that differ in an operating point that it does not run, the
        best for both kinds alike is taken.
        """
        ar, other = np.log(self.autoregression), np.log(self.denoising)
        score = part * ar + (1.0 - part) * other
        tied = score <= np.nanmin(score) + _TIED
        return best_row(np.where(tied, ar + other, np.nan))


def work_of(
    table: DesignTable, autoregressive: Sequence[str], denoising: Sequence[str], objective: str = OBJECTIVES[0]
) -> Work:
    """Both means of all designs, once for all mixes."""
    return Work(
        autoregression=table.mean(autoregressive, objective),
        denoising=table.mean(denoising, objective),
    )


def mix_row(table: DesignTable, work: Work, part: float) -> dict[str, object]:
    """The best design for a mix: `part` autoregression, the rest denoising, and what it loses on either."""
    row = work.best_for(part)
    return {
        "autoregression": part,
        "ridge": table.ridge(row),
        "loss_autoregression": float(work.autoregression[row] / np.nanmin(work.autoregression) - 1.0),
        "loss_denoising": float(work.denoising[row] / np.nanmin(work.denoising) - 1.0),
        **table.design(row),
    }


def mix_rows(table: DesignTable, *, objective: str, parts: int) -> list[dict[str, object]]:
    """The best design for shares of autoregression from 0 to 1 in so many equal parts, and what it takes.

    Raises:
        ExplorationError: an objective that is not of a workload, or fewer parts than one.
    """
    check_mix(objective, parts)
    work = work_of(table, table.group(AUTOREGRESSIVE), table.group(""), objective)
    rows = []
    for part in range(parts + 1):
        at = work.best_for(part / parts)
        taken = {name: float(table.figures[name][at]) for name in ("area_mm2", "tdp_w", "bill_usd")}
        means = {"mean_autoregression": float(work.autoregression[at]), "mean_denoising": float(work.denoising[at])}
        rows.append({**mix_row(table, work, part / parts), **taken, **means})
    return rows
