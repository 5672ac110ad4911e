"""What varies: values of ranges, designs as numbers, sampling, and one line for each kind of nonsense."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.errors import ExplorationError
from explorer.parameters import Parameter, ParameterSpace


def space_of(*lengths):
    return ParameterSpace(
        parameters=tuple(
            Parameter.range(f"p{i}", 1, n, steps=n) if n > 1 else Parameter(name=f"p{i}", values=(1,))
            for i, n in enumerate(lengths)
        )
    )


@pytest.mark.parametrize(
    ("low", "high", "options", "values"),
    [
        (1, 5, {"steps": 3}, (1, 3, 5)),
        (1.0, 2.0, {"steps": 3}, (1.0, 1.5, 2.0)),
        (8, 64, {"steps": 4, "log": True}, (8, 16, 32, 64)),
        (8, 100, {"step": 2, "log": True}, (8, 16, 32, 64)),
        (0.1, 0.7, {"step": 0.2}, (0.1, 0.3, 0.5, 0.7)),
        (1, 8, {"step": 3}, (1, 4, 7)),
        (5, 5, {"steps": 1}, (5,)),
    ],
)
def test_ranges(low, high, options, values):
    found = Parameter.range("x", low, high, **options).values
    assert found == pytest.approx(values)
    assert [type(value) for value in found] == [type(value) for value in values]


def test_designs_are_counted_like_itertools_product_does():
    space = ParameterSpace(
        parameters=(
            Parameter(name="cores", values=(4, 8, 16)),
            Parameter(name="dram", values=("hbm3", "lpddr5x")),
            Parameter(name="clock_hz", values=(1.0e9, 2)),
            Parameter(name="sampler", values=(False, True)),
        )
    )
    index = np.concatenate(list(space.grid(block=5)))
    columns = space.decode(index)
    expected = list(itertools.product((4, 8, 16), ("hbm3", "lpddr5x"), (1e9, 2.0), (False, True)))
    assert list(zip(*(column.tolist() for column in columns.values()), strict=True)) == expected
    assert [columns[name].dtype.kind for name in space.names] == ["i", "U", "f", "b"]
    assert space.index_of({"cores": 8, "dram": "hbm3", "clock_hz": 2, "sampler": True}) == 11


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.data())
def test_encoding_undoes_decoding(lengths, data):
    space = space_of(*lengths)
    assert space.size == math.prod(lengths)
    index = np.array(data.draw(st.lists(st.integers(0, space.size - 1), min_size=1, max_size=20)))
    digits = space.digits(index)
    assert (digits < space.lengths).all()
    assert space.encode(digits).tolist() == index.tolist()


def test_blocks_cover_the_grid_once():
    blocks = list(space_of(7, 11, 13).grid(3, 1000, block=64))
    assert np.concatenate(blocks).tolist() == list(range(3, 1000))
    assert {len(block) for block in blocks[:-1]} == {64}


def test_sobol_points_differ_and_are_even_and_seeded():
    space = space_of(8, 8, 8)
    index = space.sobol(256, seed=1)
    assert len(np.unique(index)) == 256
    assert index.tolist() == space.sobol(256, seed=1).tolist() != space.sobol(256, seed=2).tolist()
    counts = np.stack([np.bincount(column, minlength=8) for column in space.digits(index).T])
    assert counts.min() > 0.7 * 32 and counts.max() < 1.3 * 32  # 256 even points put 32 on each value of 8


def test_sobol_fills_up_a_space_that_is_nearly_exhausted():
    index = space_of(10, 10).sobol(99, seed=0)
    assert len(np.unique(index)) == 99
    assert space_of(10, 10).sobol(500, seed=0).tolist() == list(range(100))


def test_neighbors_differ_by_one_step_or_by_any_name():
    space = ParameterSpace(
        parameters=(Parameter(name="n", values=(1, 2, 3, 4)), Parameter(name="kind", values=("a", "b", "c")))
    )
    found = space.decode(space.neighbors(np.array([space.index_of({"n": 1, "kind": "b"})])))
    assert sorted(zip(found["n"].tolist(), found["kind"].tolist(), strict=True)) == [(1, "a"), (1, "c"), (2, "b")]


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: ParameterSpace(parameters=()), "the space is empty: it has no parameters"),
        (lambda: Parameter(name="cores", values=()), "parameter 'cores' has no values"),
        (lambda: Parameter.range("cores", 9, 3, steps=2), "parameter 'cores': low 9 is above high 3"),
        (lambda: Parameter.range("bw", 0, 3, steps=2, log=True), "'bw': low must be > 0 on a log scale, got 0"),
        (lambda: Parameter.range("bw", math.nan, 3, steps=2), "'bw': low must be a finite number, got nan"),
        (lambda: Parameter.range("bw", 1, math.inf, steps=2), "'bw': high must be a finite number, got inf"),
        (lambda: Parameter.range("bw", 1, 2), "'bw' needs either steps"),
        (lambda: Parameter.range("bw", 1, 2, steps=0), "steps must be a whole number of at least 2, got 0"),
        (lambda: Parameter.range("bw", 1, 2, step=0), "'bw': step must be > 0, got 0"),
        (lambda: Parameter.range("bw", 1, 2, step=1, log=True), "'bw': step must be > 1 on a log scale, got 1"),
        (lambda: Parameter.range("bw", 1, 2, step=1e-12), "more than 5,000,000 values"),
        (lambda: Parameter.range("bw", 1, 2, steps=10**9), "more than 5,000,000"),
        (lambda: Parameter.range("n", 1, 2, steps=5), "5 whole numbers do not fit between 1 and 2"),
        (lambda: Parameter(name="bw", values=(0.0, 1e12), positive=True), "parameter 'bw' must be > 0, got 0.0"),
        (lambda: Parameter(name="bw", values=(math.nan,), positive=True), "'bw' has the value nan; only finite"),
        (lambda: Parameter(name="bw", values=("a",), positive=True), "'bw' must be > 0, got 'a'"),
        (lambda: Parameter(name="x", values=(1, "a")), "parameter 'x' mixes numbers and text"),
        (lambda: Parameter(name="x", values=(1, 2, 1)), "'x' has the value 1 twice"),
        (lambda: Parameter(name="x", values=(None,)), "'x' has the value None; allowed: numbers, text or booleans"),
        (lambda: ParameterSpace(parameters=(Parameter(name="x", values=(1,)),) * 2), "parameter 'x' is given twice"),
        (
            lambda: space_of(100, 100, 100, 100, 100).grid(),
            "has 10,000,000,000 designs, more than 5,000,000; sample it (--sampling sobol --designs N)",
        ),
        (lambda: space_of(*[1000] * 7), "the space has 1.0e+21 designs"),
        (lambda: space_of(2).digits(np.array([2])), "design 2 is not in the space; allowed: 0 to 1"),
        (lambda: space_of(2).sobol(0, 1), "the number of designs must be at least 1, got 0"),
        (
            lambda: space_of(2).check_names(["p01"], "constraint"),
            "constraint: 'p01' is not a parameter of the space; did you mean 'p0'? known: p0",
        ),
        (lambda: space_of(2).index_of({"p0": 7}), "p0 = 7 is not in the space; allowed: 1, 2"),
    ],
)
def test_nonsense_is_one_line(make, line):
    with pytest.raises(ExplorationError) as error:
        make()
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_ten_billion_designs_can_still_be_sampled():
    index = space_of(100, 100, 100, 100, 100).sobol(1000, seed=0)
    assert len(np.unique(index)) == 1000
    assert index.max() > 9e9
