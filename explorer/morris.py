"""How much each parameter moves each objective over the space, by elementary effects (Morris).

Morris 1991 (Technometrics 33(2)) with the mean of absolute effects of Campolongo and others 2007 (Environ. Model.
Softw. 22(10)). The list of a parameter's values is a scale from 0 to 1 in equal steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.errors import ExplorationError
from explorer.parameters import ParameterSpace
from explorer.result import Evaluate, FloatArray, IntArray
from explorer.sensitivity import costs_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MorrisEffects:
    """Elementary effects of each parameter: the change of an objective, as if over all values of the parameter.

    Attributes:
        parameters: names, [P].
        mean: of the effects (mu), [P, K]; NaN where no trajectory has any.
        mean_absolute: of their sizes (mu*), by which parameters are ranked, [P, K].
        spread: their standard deviation (sigma): large beside `mean_absolute` where the effect depends on the others or
            is not even, [P, K].
        trajectories: walks through the space.
        evaluations: different designs evaluated.
    """

    parameters: tuple[str, ...]
    mean: FloatArray
    mean_absolute: FloatArray
    spread: FloatArray
    trajectories: int
    evaluations: int


def morris_effects(
    space: ParameterSpace,
    evaluate: Evaluate,
    *,
    trajectories: int = 64,
    seed: int = 0,
    log: bool | Sequence[bool] = False,
) -> MorrisEffects:
    """Walk through the space from random designs, every parameter changed once a walk, in random order.

    A parameter jumps by half of its values, as Morris advises; one of names takes any other name, which counts as its
    whole range, upward where that stands later in the list. Effects of steps to or from designs without objectives are
    left out.

    Args:
        space: what may vary.
        evaluate: gives objectives of `trajectories * (parameters + 1)` designs at most, each once.
        trajectories: how many walks.
        seed: of the walks.
        log: effects on the objectives' logarithms, of all or of each: 0.69 is then a factor of two.

    Raises:
        ExplorationError: fewer than two trajectories are asked for.

    >>> from explorer.parameters import Parameter
    >>> from explorer.result import Result
    >>> space = ParameterSpace(parameters=(Parameter(name="x", values=(0.0, 1.0, 2.0, 3.0)),))
    >>> def line(designs):
    ...     return Result(costs=(-5.0 * designs["x"])[:, None], violation=np.zeros(len(designs["x"])))
    >>> found = morris_effects(space, line, trajectories=8)
    >>> found.mean.tolist(), found.mean_absolute.tolist(), found.spread.tolist()
    ([[-15.0]], [[15.0]], [[0.0]])
    """
    if trajectories < 2:
        raise ExplorationError(f"the number of trajectories must be at least 2, got {trajectories}")
    digits, order, part = _walks(space, trajectories, np.random.default_rng(seed))
    index = space.encode(digits.reshape(-1, digits.shape[-1])).reshape(digits.shape[:2])
    costs, evaluations = costs_of(space, evaluate, index, log)
    steps = costs[:, 1:] - costs[:, :-1]  # [trajectories, P, K], in the order of the walk
    with np.errstate(divide="ignore", invalid="ignore"):
        effects = steps / part[..., None]
    effects = np.where(part[..., None] == 0, 0.0, effects)  # of one value alone nothing comes
    by_parameter = np.take_along_axis(effects, np.argsort(order, axis=1)[..., None], axis=1)
    usable = np.isfinite(by_parameter)
    count = np.maximum(usable.sum(axis=0), 1)
    known = np.where(usable, by_parameter, 0.0)
    mean = known.sum(axis=0) / count
    squares = np.where(usable, (by_parameter - mean) ** 2, 0.0).sum(axis=0)
    empty = ~usable.any(axis=0)
    return MorrisEffects(
        parameters=space.names,
        mean=np.where(empty, np.nan, mean),
        mean_absolute=np.where(empty, np.nan, np.abs(known).sum(axis=0) / count),
        spread=np.where(empty, np.nan, np.sqrt(squares / np.maximum(count - 1, 1))),
        trajectories=trajectories,
        evaluations=evaluations,
    )


def _walks(
    space: ParameterSpace, trajectories: int, random: np.random.Generator
) -> tuple[IntArray, IntArray, FloatArray]:
    """(digits of each design [T, P + 1, P], which parameter each step changes [T, P], by which signed part [T, P])."""
    lengths = space.lengths
    count = len(lengths)
    at = random.integers(0, lengths, (trajectories, count))
    order = random.permuted(np.tile(np.arange(count), (trajectories, 1)), axis=1)
    rows = np.arange(trajectories)
    digits, parts = [at], []
    for step in range(count):
        moved = order[:, step]
        length, before = lengths[moved], at[rows, moved]
        jump = length // 2
        up = before + jump < length
        both = up & (before >= jump)
        up = np.where(both, random.random(trajectories) < 0.5, up)
        ordered = np.array([parameter.is_ordered for parameter in space.parameters])[moved]
        other = (before + random.integers(1, np.maximum(length, 2))) % length
        after = np.where(ordered, np.where(up, before + jump, before - jump), other)
        part = np.where(ordered, (after - before) / np.maximum(length - 1, 1), np.sign(after - before))
        at = at.copy()
        at[rows, moved] = after
        digits.append(at)
        parts.append(part)
    return np.stack(digits, axis=1), order, np.stack(parts, axis=1)
