"""Which designs no other beats, and how much of the objective space they cover."""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from explorer.errors import ExplorationError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_BLOCK = 1024
_STRONG = 32
_SWEPT = 3  # objectives whose hypervolume is swept here


def front(costs: FloatArray) -> BoolArray:
    """Which rows of `costs` [D, K] no other row beats: at least as low in every objective and lower in one.

    Equal rows stand or fall together. Rows with NaN or an infinity are never in the front.

    >>> front(np.array([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [np.nan, 0.0]])).tolist()
    [True, True, False, False]
    """
    costs = _matrix(costs)
    kept = np.zeros(len(costs), dtype=bool)
    candidates = np.flatnonzero(np.isfinite(costs).all(axis=1))
    if not len(candidates):
        return kept
    candidates = candidates[_not_beaten_by_strong(costs[candidates])]
    unique, group = _distinct(costs[candidates])
    chosen = _front_sorted(unique)
    kept[candidates[chosen[group]]] = True
    return kept


def hypervolume(costs: FloatArray, reference: FloatArray) -> float:
    """Volume between the rows of `costs` [D, K] and the `reference` point [K] that they beat (exact).

    One to three objectives are swept here (after Beume and others 2009, IEEE TEC 13(5), HV3D); more are given to
    moocore, which comes with `roofscape[explore]`.

    Raises:
        ExplorationError: the reference has another number of objectives, or one that is not finite.

    >>> hypervolume(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([3.0, 3.0]))
    3.0
    """
    costs, reference = _matrix(costs), np.asarray(reference, dtype=np.float64)
    if reference.shape != (costs.shape[1],) or not np.isfinite(reference).all():
        raise ExplorationError(f"the reference must be {costs.shape[1]} finite numbers, got {reference.tolist()}")
    inside = costs[(costs < reference).all(axis=1)]
    inside = inside[front(inside)]
    if not len(inside):
        return 0.0
    if costs.shape[1] > _SWEPT:
        return _hypervolume_of_many(inside, reference)
    depth = 3 - costs.shape[1]  # fewer objectives: give each the same unit length in those that are missing
    padded = np.hstack([inside, np.zeros((len(inside), depth))])
    return _sweep(padded, np.concatenate([reference, np.ones(depth)]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bounds:
    """The best and the worst of each objective in a front: the box that hypervolumes are measured in.

    Attributes:
        ideal: the lowest value of each objective, [K].
        nadir: the highest value of each objective within the front, [K].
    """

    ideal: FloatArray
    nadir: FloatArray

    def normalized_hypervolume(self, costs: FloatArray, *, margin: float = 0.1) -> float:
        """Hypervolume with the front's box scaled to one, measured from `margin` beyond the nadir, as a part of 1.

        The margin lets the ends of the front count (Ishibuchi and others 2018, Evol. Comput. 26(3)). An objective that
        does not vary within the front is left out.

        >>> Bounds(ideal=np.zeros(2), nadir=np.full(2, 4.0)).normalized_hypervolume(np.zeros((1, 2)))
        1.0
        """
        span = self.nadir - self.ideal
        varying = span > 0
        scaled = (_matrix(costs) - self.ideal)[:, varying] / span[varying]
        if not varying.any():
            return float(bool((_matrix(costs) <= self.ideal).all(axis=1).any()))
        reference = np.full(int(varying.sum()), 1.0 + margin)
        return hypervolume(np.maximum(scaled, 0.0), reference) / float(np.prod(reference))


def find_bounds(costs: FloatArray) -> Bounds:
    """The box of the front of `costs` [D, K].

    Raises:
        ExplorationError: no row is finite.
    """
    costs = _matrix(costs)
    best = costs[front(costs)]
    if not len(best):
        raise ExplorationError("no design has finite objectives, so there is no front")
    return Bounds(ideal=best.min(axis=0), nadir=best.max(axis=0))


def _matrix(costs: FloatArray) -> FloatArray:
    costs = np.asarray(costs, dtype=np.float64)
    if costs.ndim != 2 or costs.shape[1] < 1:
        raise ExplorationError(f"costs must be designs x objectives, got the shape {costs.shape}")
    return costs


def _not_beaten_by_strong(costs: FloatArray) -> IntArray:
    """Rows left by a few that beat many: a quick filter, exact in what it removes."""
    ranks = np.argsort(np.argsort(costs, axis=0), axis=0).sum(axis=1)
    left = np.arange(len(costs))
    for row in costs[np.argsort(ranks, kind="stable")[:_STRONG]]:
        rest = costs[left]
        left = left[~((rest >= row).all(axis=1) & (rest > row).any(axis=1))]
    return left


def _distinct(costs: FloatArray) -> tuple[FloatArray, IntArray]:
    """Rows in lexicographic order without repeats, and where each row of `costs` went."""
    order = np.lexsort(costs.T[::-1])
    ordered = costs[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    group = np.empty(len(costs), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    return ordered[new], group


def _front_sorted(costs: FloatArray) -> BoolArray:
    """Front of distinct rows in lexicographic order."""
    count, objectives = costs.shape
    if objectives == 1:
        return np.asarray(np.arange(count) == 0)
    if objectives == 2:
        before = np.concatenate([[np.inf], np.minimum.accumulate(costs[:-1, 1])])
        lower: BoolArray = costs[:, 1] < before
        return lower
    return _front_of_three(costs) if objectives == 3 else _front_by_blocks(costs)


def _front_of_three(costs: FloatArray) -> BoolArray:
    """Sweep along the first objective with the staircase of the other two: O(D log D) steps (Kung and others 1975)."""
    kept = np.zeros(len(costs), dtype=bool)
    seconds: list[float] = []  # ascending
    thirds: list[float] = []  # descending
    for row, (second, third) in enumerate(costs[:, 1:].tolist()):
        at = bisect_left(seconds, second)
        if at < len(seconds) and seconds[at] == second and thirds[at] <= third:
            continue
        if at and thirds[at - 1] <= third:
            continue
        kept[row] = True
        end = at
        while end < len(seconds) and thirds[end] >= third:
            end += 1
        seconds[at:end] = [second]
        thirds[at:end] = [third]
    return kept


def _front_by_blocks(costs: FloatArray) -> BoolArray:
    """Compare blocks with the front so far; a row that beats another comes before it in lexicographic order."""
    kept = np.zeros(len(costs), dtype=bool)
    best = costs[:0]
    for start in range(0, len(costs), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(costs)))
        for group in range(0, len(best), _BLOCK):
            rows = rows[~_beaten(costs[rows], best[group : group + _BLOCK])]
        block = costs[rows]
        rows = rows[~_beaten(block, block)]
        kept[rows] = True
        best = np.vstack([best, costs[rows]])
    return kept


def _beaten(rows: FloatArray, others: FloatArray) -> BoolArray:
    """Which `rows` [R, K] some of `others` [O, K] beats."""
    no_worse = np.ones((len(rows), len(others)), dtype=bool)
    better = np.zeros_like(no_worse)
    for k in range(rows.shape[1]):
        no_worse &= others[None, :, k] <= rows[:, None, k]
        better |= others[None, :, k] < rows[:, None, k]
    beaten: BoolArray = np.any(no_worse & better, axis=1)
    return beaten


def _sweep(costs: FloatArray, reference: FloatArray) -> float:
    """Volume of three objectives: the area below the staircase of the last two times each step of the first."""
    end, right, top = reference.tolist()
    seconds, thirds = [-np.inf, right], [top, -np.inf]  # sentinels at both ends
    area = volume = at_first = 0.0
    for first, second, third in costs[np.lexsort(costs.T[::-1])].tolist():
        volume += area * (first - at_first)
        at_first = first
        at = bisect_left(seconds, second)
        if thirds[at - 1] <= third or (seconds[at] == second and thirds[at] <= third):
            continue
        stop, left, level = at, second, thirds[at - 1]
        while thirds[stop] >= third:  # steps that the new point covers
            area += (seconds[stop] - left) * (level - third)
            left, level = seconds[stop], thirds[stop]
            stop += 1
        area += (seconds[stop] - left) * (level - third)
        seconds[at:stop] = [second]
        thirds[at:stop] = [third]
    return float(volume + area * (end - at_first))


def require_hypervolume(objectives: int) -> None:
    """Refuse, before anything is evaluated, as many objectives as nothing installed measures the front of.

    Raises:
        ExplorationError: more than three objectives without moocore.
    """
    if objectives <= _SWEPT:
        return
    try:
        import moocore  # noqa: F401, PLC0415 - optional
    except ImportError:
        raise ExplorationError(
            f"the hypervolume of {objectives} objectives needs moocore: pip install 'roofscape[explore]', "
            f"or give at most {_SWEPT} objectives"
        ) from None


def _hypervolume_of_many(costs: FloatArray, reference: FloatArray) -> float:
    require_hypervolume(len(reference))
    import moocore  # noqa: PLC0415 - optional

    return float(moocore.hypervolume(costs, ref=reference))
