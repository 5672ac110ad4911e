"""`Result`: what evaluating designs gives, row by row, and the type of function that does it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.errors import ExplorationError
from explorer.parameters import Columns

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """Objectives, constraints and further figures of designs.

    Attributes:
        costs: objectives, all to be minimized, [D, K]; NaN or infinity where a design has none.
        violation: how far constraints are exceeded, 0 where all hold, [D]; NaN and infinity are the worst.
        reason: why a design does not count, empty where it does, [D].
        metrics: further figures to keep, [D] each.
    """

    costs: FloatArray
    violation: FloatArray
    reason: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=str))
    metrics: Mapping[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if np.ndim(self.costs) != 2:
            raise ExplorationError(f"costs must be designs x objectives, got the shape {np.shape(self.costs)}")
        count = len(self.costs)
        if count and not len(self.reason):
            object.__setattr__(self, "reason", np.full(count, "", dtype=str))
        columns = {"violation": self.violation, "reason": self.reason, **self.metrics}
        for name, column in columns.items():
            if np.shape(column) != (count,):
                raise ExplorationError(f"{name} must have one value a design ({count}), got {np.shape(column)}")

    def __len__(self) -> int:
        return len(self.costs)

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Which designs hold all constraints and have finite objectives, [D]."""
        holds: NDArray[np.bool_] = (self.violation <= 0) & np.isfinite(self.costs).all(axis=1)
        return holds

    @property
    def feasible_costs(self) -> FloatArray:
        """`costs` with NaN in the rows that do not count, [D, K]."""
        return np.where(self.feasible[:, None], self.costs, np.nan)

    def take(self, rows: NDArray[Any]) -> "Result":
        """Some of the rows, by their numbers `[rows]` or a mask `[D]`."""
        return Result(
            costs=self.costs[rows],
            violation=self.violation[rows],
            reason=self.reason[rows],
            metrics={name: column[rows] for name, column in self.metrics.items()},
        )


Evaluate = Callable[[Columns], Result]
"""Designs as columns in, one row of the result for each design out; a row may depend on its own design only."""


def join(results: Sequence[Result]) -> Result:
    """Results below one another.

    Raises:
        ExplorationError: nothing to join, or other objectives or metrics in some.
    """
    if not results:
        raise ExplorationError("no results to join")
    first = results[0]
    for other in results[1:]:
        if other.costs.shape[1] != first.costs.shape[1] or set(other.metrics) != set(first.metrics):
            raise ExplorationError("results differ in their objectives or metrics and cannot be joined")
    return Result(
        costs=np.concatenate([result.costs for result in results]),
        violation=np.concatenate([result.violation for result in results]),
        reason=np.concatenate([result.reason for result in results]),
        metrics={name: np.concatenate([result.metrics[name] for result in results]) for name in first.metrics},
    )


def check_rows(result: Result, count: int) -> Result:
    """The result itself, if it has one row for each of `count` designs.

    Raises:
        ExplorationError: another number of rows.
    """
    if len(result) != count:
        raise ExplorationError(f"the evaluation of {count} designs gave {len(result)} rows; it must give one for each")
    return result
