"""`Archive`: the best designs found so far, and how much of the objectives' space they covered after each batch."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from explorer.errors import ExplorationError
from explorer.pareto import Bounds, find_bounds, front
from explorer.result import FloatArray, IntArray, Result


class Archive:
    """Collects batches of results; keeps the front, and what was in it once.

    >>> archive = Archive()
    >>> archive.add(np.array([5, 9]), Result(costs=np.array([[1.0, 4.0], [2.0, 5.0]]), violation=np.zeros(2)))
    >>> archive.add(np.array([7]), Result(costs=np.array([[3.0, 1.0]]), violation=np.zeros(1)))
    >>> archive.index.tolist(), archive.evaluations
    ([5, 7], 3)
    """

    def __init__(self) -> None:
        self.evaluations = 0
        self._index: IntArray = np.empty(0, dtype=np.int64)
        self._costs: FloatArray = np.empty((0, 1))
        self._entered: list[tuple[int, FloatArray]] = []
        self._reasons: Counter[str] = Counter()

    @property
    def index(self) -> IntArray:
        """Numbers of the designs in the front, [F], ascending."""
        return self._index

    @property
    def costs(self) -> FloatArray:
        """Their objectives, [F, K]."""
        return self._costs

    def add(self, index: IntArray, result: Result) -> None:
        """Take the designs `index` [D] with their results; those already in the front are not added twice."""
        self.evaluations += len(index)
        self._reasons.update(reason for reason in result.reason.tolist() if reason)
        new = front(result.feasible_costs) & ~np.isin(index, self._index)
        if not new.any():
            self._entered.append((self.evaluations, np.empty((0, result.costs.shape[1]))))
            return
        costs = np.vstack([self._costs, result.costs[new]]) if len(self._index) else result.costs[new]
        numbers = np.concatenate([self._index, index[new]])
        kept = front(costs)
        is_new = np.arange(len(costs)) >= len(self._index)
        self._entered.append((self.evaluations, costs[kept & is_new]))
        order = np.argsort(numbers[kept], kind="stable")
        self._index, self._costs = numbers[kept][order], costs[kept][order]

    def require_front(self) -> None:
        """Refuse to go on with nothing.

        Raises:
            ExplorationError: no design holds the constraints, with the most frequent reasons.
        """
        if not len(self._index):
            common = "; ".join(f"{reason} ({count:,})" for reason, count in self._reasons.most_common(3))
            raise ExplorationError(
                f"none of {self.evaluations:,} designs holds all constraints"
                f"{'; most often: ' if common else ''}{common}"
            )

    def hypervolume_curve(self, bounds: Bounds | None = None) -> NDArray[np.float64]:
        """Evaluations and normalized hypervolume after each batch, [B, 2].

        Args:
            bounds: the box to measure in; without it, that of the final front.
        """
        if bounds is None:
            self.require_front()
            bounds = find_bounds(self._costs)
        best: FloatArray | None = None
        points = []
        covered = 0.0
        for evaluations, costs in self._entered:
            if len(costs):
                best = costs if best is None else np.vstack([best, costs])
                best = best[front(best)]
                covered = bounds.normalized_hypervolume(best)
            points.append((float(evaluations), covered))
        return np.array(points).reshape(-1, 2)
