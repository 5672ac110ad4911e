"""Fronts against their definition, hypervolumes against hand-worked volumes and moocore."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from work import python_calls

from explorer.errors import ExplorationError
from explorer.pareto import Bounds, find_bounds, front, hypervolume


def front_by_definition(costs):
    return np.array(
        [
            np.isfinite(row).all() and not any((other <= row).all() and (other < row).any() for other in costs)
            for row in costs
        ]
    )


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), st.integers(1, 60), st.integers(1, 12), st.integers(0, 10**6))
def test_front_is_what_nothing_beats(objectives, count, levels, seed):
    random = np.random.default_rng(seed)
    costs = random.integers(0, levels, (count, objectives)).astype(float)  # few levels: many ties and repeats
    assert front(costs).tolist() == front_by_definition(costs).tolist()


def test_rows_without_finite_costs_neither_count_nor_beat():
    costs = np.array([[1.0, np.nan], [-np.inf, 0.0], [5.0, 5.0], [np.inf, 1.0]])
    assert front(costs).tolist() == [False, False, True, False]
    assert not front(np.full((3, 2), np.nan)).any()
    assert front(np.empty((0, 3))).tolist() == []


@pytest.mark.parametrize("shape", ["cloud", "sphere"])
def test_front_of_100000_designs_takes_a_few_steps_for_each(shape):
    costs = np.abs(np.random.default_rng(0).normal(size=(100_000, 3)))
    if shape == "sphere":  # every design is in the front
        costs /= np.linalg.norm(costs, axis=1)[:, None]
    kept, steps = python_calls(lambda: front(costs))
    assert steps < 10 * len(costs)  # 0.02 and 4 per design as measured
    assert kept.all() == (shape == "sphere")


def test_hypervolume_by_hand():
    # three boxes from (2, 2, 2): 1*1*2 + 1*2*1 + 2*1*1, less the overlaps 3 * 1 and plus the cube that all share
    costs = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    assert hypervolume(costs, np.full(3, 2.0)) == 2 + 2 + 2 - 3 + 1
    assert hypervolume(np.array([[4.0], [1.0]]), np.array([3.0])) == 2
    assert hypervolume(np.array([[3.0, 0.0]]), np.array([3.0, 3.0])) == 0
    assert hypervolume(np.array([[np.nan, 0.0]]), np.array([3.0, 3.0])) == 0


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(1, 80), st.booleans(), st.integers(0, 10**6))
def test_hypervolume_agrees_with_moocore(objectives, count, ties, seed):
    moocore = pytest.importorskip("moocore", reason="moocore comes with roofscape[explore]")
    random = np.random.default_rng(seed)
    costs = random.integers(0, 6, (count, objectives)) / 5 if ties else random.random((count, objectives))
    reference = np.full(objectives, 0.9)
    assert hypervolume(costs, reference) == pytest.approx(moocore.hypervolume(costs, ref=reference), abs=1e-12)


def test_normalized_hypervolume_does_not_depend_on_units():
    costs = np.random.default_rng(1).random((200, 3))
    scale = np.array([1e-6, 1.0, 3e9])
    ours = find_bounds(costs).normalized_hypervolume(costs)
    assert 0 < ours < 1
    assert find_bounds(costs * scale + scale).normalized_hypervolume(costs * scale + scale) == pytest.approx(ours)


def test_normalized_hypervolume_of_a_line_by_hand():
    # two ends and the middle of a front from (0, 1) to (1, 0); reference (1.1, 1.1)
    costs = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    covered = 1.1 * 0.1 + 0.6 * 0.5 + 0.1 * 0.5
    assert find_bounds(costs).normalized_hypervolume(costs) == pytest.approx(covered / 1.21)


def test_objectives_that_do_not_vary_are_left_out():
    costs = np.array([[7.0, 0.0, 1.0], [7.0, 1.0, 0.0]])
    assert find_bounds(costs).normalized_hypervolume(costs) == find_bounds(costs[:, 1:]).normalized_hypervolume(
        costs[:, 1:]
    )
    point = Bounds(ideal=np.ones(2), nadir=np.ones(2))
    assert point.normalized_hypervolume(np.ones((1, 2))) == 1
    assert point.normalized_hypervolume(np.full((1, 2), 2.0)) == 0


def test_no_front_and_odd_shapes_are_one_line():
    with pytest.raises(ExplorationError, match="no design has finite objectives"):
        find_bounds(np.full((2, 2), np.nan))
    with pytest.raises(ExplorationError, match=r"costs must be designs x objectives, got the shape \(3,\)"):
        front(np.zeros(3))
    with pytest.raises(ExplorationError, match="the reference must be 2 finite numbers"):
        hypervolume(np.zeros((1, 2)), np.ones(3))
