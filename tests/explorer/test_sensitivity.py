"""Sensitivity against closed forms: Ishigami's function, a linear one, and SciPy's own indices."""

import numpy as np
import pytest

from explorer.errors import ExplorationError
from explorer.parameters import Parameter, ParameterSpace
from explorer.result import Result
from explorer.sensitivity import local_sensitivity, sobol_indices

LEVELS = 256
MIDDLES = tuple(((np.arange(LEVELS) + 0.5) / LEVELS * 2 * np.pi - np.pi).tolist())
ISHIGAMI = ParameterSpace(parameters=tuple(Parameter(name=name, values=MIDDLES) for name in ("x1", "x2", "x3")))


def ishigami(designs):
    x1, x2, x3 = designs["x1"], designs["x2"], designs["x3"]
    value = np.sin(x1) + 7 * np.sin(x2) ** 2 + 0.1 * x3**4 * np.sin(x1)
    return Result(costs=np.column_stack([value, 3 * x2, np.ones(len(x1))]), violation=np.zeros(len(x1)))


def closed_form():
    """First order and total of Ishigami's function, a = 7, b = 0.1 (Ishigami and Homma 1990)."""
    a, b = 7, 0.1
    v1, v2, v13 = (1 + b * np.pi**4 / 5) ** 2 / 2, a**2 / 8, b**2 * np.pi**8 * 8 / 225
    whole = v1 + v2 + v13
    return np.array([v1, v2, 0]) / whole, np.array([v1 + v13, v2, v13]) / whole


def test_sobol_indices_of_ishigami():
    found = sobol_indices(ISHIGAMI, ishigami, samples=4096, seed=1)
    first_order, total = closed_form()
    assert first_order == pytest.approx([0.3139, 0.4424, 0.0], abs=1e-4)  # as published
    # 256 levels instead of a line move the indices by less than the sampling error, which is about 0.01
    assert found.first_order[:, 0] == pytest.approx(first_order, abs=0.02)
    assert found.total[:, 0] == pytest.approx(total, abs=0.02)
    assert (np.abs(found.first_order[:, 0] - first_order) < 5 * found.first_order_error[:, 0] + 1e-3).all()
    assert found.first_order[:, 1] == pytest.approx([0, 1, 0], abs=0.02)
    assert found.total[:, 1] == pytest.approx([0, 1, 0], abs=0.02)
    assert found.total[:, 2].tolist() == [0, 0, 0]  # an objective that does not vary depends on nothing


def test_sobol_indices_agree_with_scipy():
    from scipy import stats

    def on_a_line(x):
        return ishigami({"x1": x[0], "x2": x[1], "x3": x[2]}).costs[:, 0]

    uniform = [stats.uniform(loc=-np.pi, scale=2 * np.pi)] * 3
    theirs = stats.sobol_indices(func=on_a_line, n=4096, dists=uniform, rng=np.random.default_rng(3))
    ours = sobol_indices(ISHIGAMI, ishigami, samples=4096, seed=3)
    assert ours.first_order[:, 0] == pytest.approx(theirs.first_order, abs=0.03)
    assert ours.total[:, 0] == pytest.approx(theirs.total_order, abs=0.03)


def test_products_are_additive_in_logarithms_and_no_design_is_evaluated_twice():
    space = ParameterSpace(
        parameters=(
            Parameter.range("x", 1.0, 16.0, steps=5, log=True),
            Parameter.range("y", 1.0, 4.0, steps=3, log=True),
        )
    )
    seen = []

    def product(designs):
        seen.extend(zip(designs["x"].tolist(), designs["y"].tolist(), strict=True))
        return Result(costs=(designs["x"] * designs["y"])[:, None], violation=np.zeros(len(designs["x"])))

    found = sobol_indices(space, product, samples=1024, log=True)
    # variances of evenly spaced logarithms: (n^2 - 1) / 12 of 5 and of 3 values
    assert found.first_order[:, 0] == pytest.approx([24 / 32, 8 / 32], abs=0.03)
    assert found.total[:, 0] == pytest.approx([24 / 32, 8 / 32], abs=0.03)
    assert len(seen) == len(set(seen)) == found.evaluations == 15


def test_samples_without_objectives_are_left_out_and_counted():
    def holes(designs):
        result = ishigami(designs)
        return Result(costs=np.where(designs["x1"][:, None] > 3, np.nan, result.costs), violation=result.violation)

    found = sobol_indices(ISHIGAMI, holes, samples=1024)
    assert 900 < found.samples < 1024
    with pytest.raises(ExplorationError, match="only 0 of 64 samples have objectives in all their designs"):
        sobol_indices(
            ISHIGAMI, lambda d: Result(costs=np.full((len(d["x1"]), 1), np.nan), violation=d["x1"]), samples=64
        )
    with pytest.raises(ExplorationError, match="a power of two of at least 4, got 100"):
        sobol_indices(ISHIGAMI, ishigami, samples=100)


def test_single_steps_by_hand():
    space = ParameterSpace(
        parameters=(
            Parameter(name="bandwidth", values=(1.0, 2.0, 4.0)),
            Parameter(name="dram", values=("hbm3", "gddr7")),
            Parameter(name="fixed", values=(1,)),
        )
    )

    def evaluate(designs):
        time_s = 8 / designs["bandwidth"]
        price = designs["bandwidth"] * np.where(designs["dram"] == "hbm3", 10, 5)
        return Result(costs=np.column_stack([time_s, price, time_s * 0]), violation=np.maximum(price - 30, 0))

    steps = local_sensitivity(space, evaluate, space.index_of({"bandwidth": 2.0, "dram": "hbm3", "fixed": 1}))
    assert [(step.parameter, step.before, step.after, step.is_feasible) for step in steps] == [
        ("bandwidth", 2.0, 1.0, True),
        ("bandwidth", 2.0, 4.0, False),
        ("dram", "hbm3", "gddr7", True),
    ]
    assert [step.changes[:2] for step in steps] == [(1.0, -0.5), (-0.5, 1.0), (0.0, -0.5)]
    assert all(np.isnan(step.changes[2]) for step in steps)  # relative to zero there is none
