"""How much each parameter moves each objective: by single steps around a design, and over the space (Sobol)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.errors import ExplorationError
from explorer.parameters import BLOCK_DESIGNS, ParameterSpace, Value
from explorer.result import Evaluate, FloatArray, IntArray, check_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One parameter changed by one step, all else equal.

    Attributes:
        parameter: that changes.
        before: its value in the design.
        after: its value after the step.
        changes: of each objective relative to the design, 0.1 for 10 % more, [K]; NaN where either has none.
        is_feasible: whether constraints hold after the step.
    """

    parameter: str
    before: Value
    after: Value
    changes: tuple[float, ...]
    is_feasible: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SobolIndices:
    """Parts of the variance of each objective over the space.

    Attributes:
        parameters: names, [P].
        first_order: part that a parameter explains alone, [P, K].
        total: part in which it takes part, alone or with others, [P, K].
        first_order_error: standard error of `first_order` by bootstrap over the samples, [P, K].
        total_error: the same of `total`, [P, K].
        samples: base samples that count; those with a design without objectives are left out.
        evaluations: different designs evaluated.
    """

    parameters: tuple[str, ...]
    first_order: FloatArray
    total: FloatArray
    first_order_error: FloatArray
    total_error: FloatArray
    samples: int
    evaluations: int


def local_sensitivity(space: ParameterSpace, evaluate: Evaluate, design: int) -> list[Step]:
    """What one step of each parameter does to each objective, around one design.

    Args:
        space: what may vary.
        evaluate: gives objectives.
        design: number of the design.

    >>> from explorer.parameters import Parameter
    >>> from explorer.result import Result
    >>> space = ParameterSpace(parameters=(Parameter(name="x", values=(1.0, 2.0, 4.0)),))
    >>> def halves(designs):
    ...     return Result(costs=(1 / designs["x"])[:, None], violation=np.zeros(len(designs["x"])))
    >>> [(step.after, step.changes) for step in local_sensitivity(space, halves, 1)]
    [(1.0, (1.0,)), (4.0, (-0.5,))]
    """
    center = np.array([design], dtype=np.int64)
    around = np.unique(space.neighbors(center))
    index = np.concatenate([center, around])
    result = check_rows(evaluate(space.decode(index)), len(index))
    digits = space.digits(index)
    with np.errstate(divide="ignore", invalid="ignore"):
        changes = np.where(result.costs[0] != 0, (result.costs[1:] - result.costs[0]) / np.abs(result.costs[0]), np.nan)
    moved = np.argmax(digits[1:] != digits[0], axis=1)
    steps = []
    for row in np.lexsort((digits[1:][np.arange(len(around)), moved], moved)).tolist():
        parameter = space.parameters[moved[row]]
        steps.append(
            Step(
                parameter=parameter.name,
                before=parameter.values[digits[0, moved[row]]],
                after=parameter.values[digits[row + 1, moved[row]]],
                changes=tuple(changes[row].tolist()),
                is_feasible=bool(result.feasible[row + 1]),
            )
        )
    return steps


def sobol_indices(
    space: ParameterSpace,
    evaluate: Evaluate,
    *,
    samples: int = 1024,
    seed: int = 0,
    log: bool | Sequence[bool] = False,
) -> SobolIndices:
    """First-order and total Sobol indices of each parameter, each value of a parameter being equally likely.

    First order: Saltelli and others 2010 (Comput. Phys. Commun. 181, table 2 b); total: Jansen (there, table 2 f), on
    scrambled Sobol points. Constraints are not looked at: the sample needs all corners of the space.

    Args:
        space: what may vary.
        evaluate: gives objectives of `samples * (parameters + 2)` designs at most, each once.
        samples: base samples, a power of two.
        seed: of the points and of the bootstrap.
        log: indices of the objectives' logarithms, for objectives that span orders of magnitude; of all, or of each.

    Raises:
        ExplorationError: `samples` is no power of two, or too few designs have objectives.
    """
    check_samples(samples)
    costs, evaluations = costs_of(space, evaluate, _saltelli_designs(space, samples, seed), log)
    usable = np.isfinite(costs).all(axis=(0, 2))
    if usable.sum() < 4:
        raise ExplorationError(
            f"only {usable.sum()} of {samples} samples have objectives in all their designs; narrow the space"
        )
    costs = costs[:, usable]
    count = costs.shape[1]
    first_order, total = _indices(costs)
    random = np.random.default_rng(seed)
    drawn = [_indices(costs[:, random.integers(0, count, count)]) for _ in range(100)]
    return SobolIndices(
        parameters=space.names,
        first_order=first_order,
        total=total,
        first_order_error=np.std([pair[0] for pair in drawn], axis=0),
        total_error=np.std([pair[1] for pair in drawn], axis=0),
        samples=count,
        evaluations=evaluations,
    )


def check_samples(samples: int) -> None:
    """Refuse a number of base samples that Sobol points do not come in."""
    if samples < 4 or samples & (samples - 1):
        raise ExplorationError(f"the number of samples must be a power of two of at least 4, got {samples}")


def costs_of(
    space: ParameterSpace, evaluate: Evaluate, index: IntArray, log: bool | Sequence[bool] = False
) -> tuple[FloatArray, int]:
    """(objectives of the designs `index` [...], or their logarithms, [..., K]; how many different ones were evaluated).

    Each design is evaluated once. NaN where one has no objectives, or no logarithm is to be had.
    """
    unique, where = np.unique(index, return_inverse=True)
    blocks = [unique[at : at + BLOCK_DESIGNS] for at in range(0, len(unique), BLOCK_DESIGNS)]
    costs = np.concatenate([check_rows(evaluate(space.decode(block)), len(block)).costs for block in blocks])
    logarithms = np.log(np.where(costs > 0, costs, np.nan))
    return np.where(np.asarray(log), logarithms, costs)[where.reshape(index.shape)], len(unique)


def _saltelli_designs(space: ParameterSpace, samples: int, seed: int) -> IntArray:
    """Designs A, B, and A with one parameter from B, [P + 2, samples]."""
    from scipy.stats import qmc  # noqa: PLC0415 - takes most of a second to import

    count = len(space.parameters)
    points = qmc.Sobol(d=2 * count, scramble=True, rng=np.random.default_rng(seed)).random(samples)
    lengths = np.concatenate([space.lengths, space.lengths])
    digits = np.minimum((points * lengths).astype(np.int64), lengths - 1)
    base, other = digits[:, :count], digits[:, count:]
    index = [space.encode(base), space.encode(other)]
    for p in range(count):
        mixed = base.copy()
        mixed[:, p] = other[:, p]
        index.append(space.encode(mixed))
    return np.stack(index)


def _indices(costs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """First-order and total indices, [P, K], of the objectives [P + 2, samples, K]; zero where nothing varies."""
    base, other, mixed = costs[0], costs[1], costs[2:]
    center = costs[:2].mean(axis=(0, 1))
    variance = costs[:2].var(axis=(0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        first_order = ((other - center) * (mixed - base)).mean(axis=1) / variance
        total = ((base - mixed) ** 2).mean(axis=1) / (2 * variance)
    varies = variance > 1e-24 * center**2
    return np.where(varies, first_order, 0.0), np.where(varies, total, 0.0)
