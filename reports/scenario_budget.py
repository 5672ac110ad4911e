"""What fits into a time: the largest number of tokens of each contender, and the operating points of known quality."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Any

import pandas as pd

from reports.frames import columns_of, frame_of
from reports.scenarios import build_entry, record
from roofline.chip import Chip
from simulator.analytic import simulate
from workloads.presets import load_preset
from workloads.scenarios.preparing import sampler_of
from workloads.scenarios.scenario import BudgetJob, Contender, Scenario, describe

BUDGET_COLUMNS = columns_of(
    text="scenario size contender chip quality_basis quality_task quality_source",
    number="budget_s most_tokens most_tokens_s point_tokens point_s point_fits quality",
)


def most_units(cost: Callable[[int], float], limit: int, budget_s: float, known: dict[int, float]) -> int:
    """The largest n in 1..limit with `cost(n) <= budget_s`, 0 if there is none; `cost` must not fall.

    Next it tries where the line through two known points meets the budget, and small numbers first: they cost least.

    Args:
        cost: seconds of n units.
        limit: the largest n that is possible.
        budget_s: the time to keep.
        known: costs already found, added to; several budgets share them.

    >>> most_units(lambda n: 0.5 + 0.1 * n, 1000, 2.01, {})
    15
    """
    low, high = _bracket(known, limit, budget_s)
    while high - low > 1:
        n = min(max(_guess(known, low, high, budget_s), low + 1), high - 1)
        known[n] = cost(n)
        low, high = _bracket(known, limit, budget_s)
    return low


def _bracket(known: dict[int, float], limit: int, budget_s: float) -> tuple[int, int]:
    """The largest n known to fit, and the smallest known not to."""
    return (
        max((n for n, seconds in known.items() if seconds <= budget_s), default=0),
        min((n for n, seconds in known.items() if seconds > budget_s), default=limit + 1),
    )


def _guess(known: dict[int, float], low: int, high: int, budget_s: float) -> int:
    fitting = sorted(n for n in known if n <= low)
    right = high if high in known else low
    left = low if high in known else fitting[-2] if len(fitting) > 1 else 0
    if left not in known or left == right or known[right] <= known[left]:
        return 2 * low
    return left + int((budget_s - known[left]) * (right - left) / (known[right] - known[left]))


def budget_table(
    scenario: Scenario, chips: Sequence[Chip], rows: pd.DataFrame, on_entry: Callable[[str], object] = lambda text: None
) -> pd.DataFrame:
    """One row per size, contender, chip and budget, with `BUDGET_COLUMNS`.

    Args:
        scenario: of kind `budget`.
        chips: those of `rows`.
        rows: `run_scenario` of it: the operating points.
        on_entry: called with a text before each length that is tried.
    """
    table: list[dict[str, object]] = []
    for job in scenario.jobs:
        assert isinstance(job, BudgetJob)
        size = describe(job, scenario.jobs)
        for contender in scenario.contenders:
            points = rows[(rows["contender"] == contender.label) & (rows["size"] == size)]
            search = None if scenario.task == "sudoku" else _Search.start(scenario, contender, job, chips, on_entry)
            for chip in chips:
                point = points[points["chip"] == chip.name].iloc[0].to_dict()
                table += [_row(point, job, search, chip.name, budget_s) for budget_s in sorted(job.budgets_s)]
    return frame_of(table, BUDGET_COLUMNS)


def _row(
    point: Mapping[Any, Any], job: BudgetJob, search: "_Search | None", chip: str, budget_s: float
) -> dict[str, object]:
    most, most_s = (None, None) if search is None else search.most_tokens(chip, budget_s)
    point_s = point["simulated_s"]
    return {
        **point,
        "budget_s": budget_s,
        "most_tokens": most,
        "most_tokens_s": most_s,
        "point_tokens": job.batch * job.gen_length,
        "point_s": point_s,
        "point_fits": float(point_s <= budget_s),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """Simulated seconds of one contender by length, found as they are asked for, on all chips at once."""

    scenario: Scenario
    contender: Contender
    job: BudgetJob
    chips: Sequence[Chip]
    unit: int
    limit: int
    known: dict[str, dict[int, float]]
    on_entry: Callable[[str], object]

    @classmethod
    def start(
        cls,
        scenario: Scenario,
        contender: Contender,
        job: BudgetJob,
        chips: Sequence[Chip],
        on_entry: Callable[[str], object],
    ) -> "_Search":
        """Nothing is known yet; lengths are multiples of the sampler's block, and at least the job's resolution."""
        _, options = sampler_of(contender, job.gen_length, scenario.seed)
        block = lcm(getattr(options, "block_length", None) or 1, contender.tokens_per_step or 1)
        unit = -(-job.resolution // block) * block
        room = load_preset(contender.model).max_length - job.prompt_length
        return cls(
            scenario=scenario,
            contender=contender,
            job=job,
            chips=chips,
            unit=unit,
            limit=room // unit,
            known={chip.name: {} for chip in chips},
            on_entry=on_entry,
        )

    def most_tokens(self, chip: str, budget_s: float) -> tuple[int, float | None]:
        """Tokens over the whole batch that fit, and their seconds."""
        units = most_units(lambda n: self._seconds(chip, n), self.limit, budget_s, self.known[chip])
        return units * self.unit * self.job.batch, self.known[chip].get(units)

    def _seconds(self, chip: str, units: int) -> float:
        job = replace(self.job, gen_length=units * self.unit)
        self.on_entry(f"{self.contender.label}, {job.gen_length} tokens")
        trace, _ = record(build_entry(self.scenario, self.contender, job))
        for other in self.chips:
            self.known[other.name][units] = simulate(trace, other).makespan_s
        return self.known[chip][units]
