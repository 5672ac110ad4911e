"""The quadratic guess: exact where costs are quadratic, and what it proposes where some designs do not count."""

import numpy as np
import pytest

from explorer.parameters import Parameter, ParameterSpace
from explorer.result import Result
from explorer.surrogate import features, promising

SPACE = ParameterSpace(
    parameters=(
        Parameter(name="x", values=(1.0, 2.0, 4.0, 8.0, 16.0)),
        Parameter(name="y", values=(1.0, 3.0, 9.0, 27.0)),
        Parameter(name="kind", values=("a", "b", "c")),
    )
)
RANDOM = np.random.default_rng(0)


def evaluate(index):
    """Two products of powers, which are linear in logarithms; the kind is a factor."""
    at = SPACE.decode(index)
    kind = np.array([{"a": 1.0, "b": 2.0, "c": 0.5}[name] for name in at["kind"]])
    costs = np.column_stack([kind * at["x"] ** 0.5 / at["y"], kind * at["y"] ** 0.7])
    return Result(costs=costs, violation=np.maximum(at["x"] - 8.0, 0.0))


def test_features_tell_ordered_values_by_their_logarithms():
    columns = features(SPACE, np.arange(SPACE.size))
    # 1, x^2, y^2; x, y, b, c; x y, x b, x c, y b, y c
    assert columns.shape == (60, 12)
    x = columns[:, 3]
    assert sorted(set(x.round(6))) == [-1.0, -0.5, 0.0, 0.5, 1.0]


def test_the_true_front_is_proposed_from_half_of_the_designs():
    """Costs grow with x and c is the least kind: the front is x = 1, kind c, every y."""
    known = np.arange(0, SPACE.size, 2)
    best = {SPACE.index_of({"x": 1.0, "y": y, "kind": "c"}) for y in (1.0, 3.0, 9.0, 27.0)} - set(known.tolist())
    assert best
    unknown = np.setdiff1d(np.arange(SPACE.size), known)
    proposed = promising(SPACE, known, evaluate(known), unknown, len(best), RANDOM)
    assert set(proposed.tolist()) == best


def test_what_breaks_a_limit_is_not_proposed():
    known = np.arange(0, SPACE.size, 2)
    unknown = np.setdiff1d(np.arange(SPACE.size), known)
    proposed = promising(SPACE, known, evaluate(known), unknown, 60, RANDOM)
    assert len(proposed) and (SPACE.decode(proposed)["x"] <= 8.0).mean() > 0.9


@pytest.mark.parametrize("count", [0, 5])
def test_nothing_is_guessed_from_nothing(count):
    known = np.array([0])
    assert len(promising(SPACE, known, evaluate(known), np.array([1, 2]), count, RANDOM)) == 0
