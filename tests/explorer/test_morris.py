"""Elementary effects against functions whose effects are known in closed form."""

import numpy as np
import pytest

from explorer.errors import ExplorationError
from explorer.morris import morris_effects
from explorer.parameters import Parameter, ParameterSpace
from explorer.result import Result

UNIT = tuple((np.arange(8) / 7).tolist())
CUBE = ParameterSpace(parameters=tuple(Parameter(name=name, values=UNIT) for name in ("a", "b", "c")))


def result(value):
    return Result(costs=np.asarray(value, dtype=float)[:, None], violation=np.zeros(len(value)))


def test_a_linear_function_has_its_slopes_and_no_spread():
    found = morris_effects(CUBE, lambda d: result(3 * d["a"] - 2 * d["b"]), trajectories=16)
    assert found.mean[:, 0] == pytest.approx([3, -2, 0])
    assert found.mean_absolute[:, 0] == pytest.approx([3, 2, 0])
    assert found.spread[:, 0] == pytest.approx([0, 0, 0], abs=1e-12)
    assert found.evaluations <= 16 * 4


def test_a_product_has_the_spread_of_its_other_factor():
    # the effect of a is b, uniform on 8 levels from 0 to 1: mean 1/2, variance (8^2 - 1) / 12 / 7^2
    found = morris_effects(CUBE, lambda d: result(d["a"] * d["b"]), trajectories=4000, seed=2)
    spread = np.sqrt(63 / 12) / 7
    # 4,000 draws: a standard error of 0.33 / sqrt(4000) = 0.005
    assert found.mean[:, 0] == pytest.approx([0.5, 0.5, 0], abs=0.03)
    assert found.mean_absolute[:, 0] == pytest.approx([0.5, 0.5, 0], abs=0.03)
    assert found.spread[:, 0] == pytest.approx([spread, spread, 0], abs=0.03)


def test_effects_that_cancel_keep_their_size():
    # jumps by half of 8 levels: (x - 1/2)^2 changes by (4/7) (2 x + 4/7 - 1), x of 0, 1, 2, 3 sevenths, over 4/7
    effects = [2 * level / 7 + 4 / 7 - 1 for level in range(4)]
    found = morris_effects(CUBE, lambda d: result((d["a"] - 0.5) ** 2), trajectories=4000, seed=5)
    assert found.mean[0, 0] == pytest.approx(np.mean(effects), abs=0.03)
    assert found.mean_absolute[0, 0] == pytest.approx(np.mean(np.abs(effects)), abs=0.03)


def test_names_and_logarithms():
    space = ParameterSpace(
        parameters=(
            Parameter(name="dram", values=("hbm3", "gddr7")),
            Parameter(name="stacks", values=(2, 4)),
            Parameter(name="only", values=(1,)),
        )
    )

    def bandwidth(designs):
        per_stack = np.where(designs["dram"] == "hbm3", 3.0, 1.0)
        return result(per_stack * designs["stacks"])

    found = morris_effects(space, bandwidth, trajectories=8, log=True)
    assert found.mean[:, 0] == pytest.approx([-np.log(3), np.log(2), 0])
    assert found.spread[:, 0] == pytest.approx([0, 0, 0], abs=1e-12)
    assert found.evaluations == 4


def test_steps_without_objectives_are_left_out():
    def holes(designs):
        return result(np.where(designs["b"] > 0.9, np.nan, 3 * designs["a"] + designs["b"]))

    found = morris_effects(CUBE, holes, trajectories=200)
    assert found.mean[:, 0] == pytest.approx([3, 1, 0])
    nothing = morris_effects(CUBE, lambda d: result(np.full(len(d["a"]), np.nan)), trajectories=4)
    assert np.isnan(nothing.mean_absolute).all()
    with pytest.raises(ExplorationError, match="at least 2, got 1"):
        morris_effects(CUBE, holes, trajectories=1)


def test_each_walk_changes_each_parameter_once():
    seen = []

    def watch(designs):
        seen.append(np.column_stack([designs[name] for name in CUBE.names]))
        return result(designs["a"] + 10 * designs["b"] + 100 * designs["c"])

    found = morris_effects(CUBE, watch, trajectories=2, seed=1)
    assert found.mean[:, 0] == pytest.approx([1, 10, 100])
    assert len(np.concatenate(seen)) == found.evaluations == 8
