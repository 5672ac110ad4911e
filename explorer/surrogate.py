"""A guess at the objectives of designs that nobody has evaluated: quadratic in their parameters, by least squares.

Costs of chips are nearly products of powers of what is varied, so their logarithms are smooth; a quadratic surface
(Box and Wilson, "On the experimental attainment of optimum conditions", 1951) over the designs known so far tells which
others may beat them. It only proposes: every design that is proposed is evaluated.
"""

from itertools import combinations

import numpy as np

from explorer.parameters import ParameterSpace
from explorer.pareto import front
from explorer.result import FloatArray, IntArray, Result

_RIDGE = 1e-3  # of the mean square of a feature: holds terms that few designs tell apart near zero
_MOST_CANDIDATES = 20_000  # designs guessed at once


def promising(
    space: ParameterSpace,
    known: IntArray,
    result: Result,
    candidates: IntArray,
    count: int,
    random: np.random.Generator,
) -> IntArray:
    """At most `count` of the candidates that are guessed to beat what is known, spread at random over those.

    Args:
        space: of the designs.
        known: designs that were evaluated.
        result: of those.
        candidates: designs that were not.
        count: how many to propose.
        random: draws among candidates that are guessed to be as good.
    """
    usable = result.feasible & np.isfinite(result.costs).all(axis=1)
    if count < 1 or not len(candidates) or usable.sum() < 3:
        return candidates[:0]
    if len(candidates) > _MOST_CANDIDATES:
        candidates = random.permutation(candidates)[:_MOST_CANDIDATES]
    seen, unseen = features(space, known), features(space, candidates)
    costs = _scaled(result.costs[usable])
    guessed = _fitted(seen[usable], costs, unseen)
    if not usable.all():
        holds = _fitted(seen, np.where(usable, 1.0, -1.0)[:, None], unseen)[:, 0] > 0
        candidates, guessed = candidates[holds], guessed[holds]
    chosen = candidates[:0]
    while len(chosen) < count and len(candidates):
        best = front(np.concatenate([guessed, costs]) if not len(chosen) else guessed)[: len(guessed)]
        if not best.any():
            best = front(guessed)
        chosen = np.concatenate([chosen, random.permutation(candidates[best])[: count - len(chosen)]])
        candidates, guessed = candidates[~best], guessed[~best]
    return chosen


def features(space: ParameterSpace, index: IntArray) -> FloatArray:
    """Constant, parameters, their squares and products, [D, F]; ordered ones from -1 to 1, of others one each."""
    digits, columns = space.digits(index), [np.ones(len(index))]
    singles: list[tuple[int, FloatArray]] = []
    for number, parameter in enumerate(space.parameters):
        length = int(space.lengths[number])
        if length < 2:
            continue
        if parameter.is_ordered:
            at = _positions(parameter.values)[digits[:, number]]
            singles.append((number, at))
            if length > 2:
                columns.append(at**2)
        else:
            singles += [(number, np.where(digits[:, number] == value, 1.0, 0.0)) for value in range(1, length)]
    columns += [column for _, column in singles]
    columns += [one * other for (a, one), (b, other) in combinations(singles, 2) if a != b]
    return np.column_stack(columns)


def _positions(values: tuple[float | str, ...]) -> FloatArray:
    """Where ordered values lie from -1 to 1: by their logarithms where all are above zero."""
    given = np.array(values, dtype=np.float64)
    placed = np.log(given) if (given > 0).all() else given
    low, high = placed.min(), placed.max()
    positions: FloatArray = 2.0 * (placed - low) / (high - low) - 1.0
    return positions


def _scaled(costs: FloatArray) -> FloatArray:
    """Logarithms of the costs that are all above zero."""
    positive = (costs > 0).all(axis=0)
    return np.where(positive, np.log(np.where(positive, costs, 1.0)), costs)


def _fitted(known: FloatArray, values: FloatArray, asked: FloatArray) -> FloatArray:
    """Values at other points by ridge regression, [D, K]."""
    weight = _RIDGE * len(known) * np.eye(known.shape[1])
    weight[0, 0] = 1e-9
    solved = np.linalg.solve(known.T @ known + weight, known.T @ values)
    guessed: FloatArray = asked @ solved
    return guessed
