"""The search for tiles and splits finds what costing every candidate finds, the first of equals, bit for bit."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.chip_columns import ChipColumns
from simulator.kernels import gemm
from simulator.kernels.gemm_constants import GemmConstants
from simulator.kernels.gemm_search import CANDIDATES, best_candidates
from simulator.kernels.gemm_tiles import SIDES, cost_s, far_bytes, least_split_s, main_bytes, tiling
from simulator.op_frame import ops_from_frame

# Rules of libraries and odd constants, each at a value at which it tells on the products below.
RULES = (
    ("k_step_clocks", 600.0),
    ("pipeline_steps", 5.0),
    ("split_k_s", 1e-6),
    ("gemm.memory_ramp_s", 2e-6),
    ("gemm.stream_latency_s", 1e-6),
    ("gemm.overlap_loss", 0.4),
    ("gemm.epilogue_overlap", 0.5),
    ("gemm.split_part_s", 1e-8),
    ("gemm.k_padding_bytes", 64.0),
    ("gemm.power_of_two_tiles", 1.0),
    ("gemm.largest_tiles_first", 1.0),
    ("gemm.split_least_macs", 2.0**24),
    ("gemm.skinny_split_fill", 0.5),
    ("gemm.least_rows_of_96_tiles", 200.0),
    ("gemm.split_least_k", 512.0),
    ("gemm.slice_below_macs", 2.0**21),
    ("gemm.slice_s", 2e-6),
    ("gemm.slow_most_rows", 64.0),
    ("gemm.slow_step_ratio", 3.0),
    ("gemm.vector_ingest_bytes_per_clock_per_core", 20.0),
    ("gemm.vector_s", 1e-6),
    ("cluster_cores", 2.0),
)
DTYPES = ("bfloat16", "float8_e4m3fn", "float32", "int8")


def products_on(chips, dtype, *, count, seed):
    """Products of random and of edge sizes."""
    draw = np.random.default_rng(seed)
    edges = np.array([1, 2, 15, 16, 17, 63, 64, 65, 96, 97, 127, 128, 129, 255, 257, 1000, 4097, 8192, 8193])
    sizes = {
        name: np.where(draw.random(count) < 0.4, draw.choice(edges, count), np.exp2(draw.uniform(0, 15, count)))
        for name in ("m", "n", "k")
    }
    frame = pd.DataFrame({name: column.astype(int) for name, column in sizes.items()})
    frame = frame.assign(kind="gemm", dtype=dtype, batch=draw.choice([1, 1, 3, 40], count))
    frame = frame.assign(weight_copies=draw.choice([0, 0, 4], count))
    columns = ChipColumns.from_chips(chips)
    return gemm.products_of(ops_from_frame(frame), columns, GemmConstants.from_chips(columns, dtype))


def every_cost_s(products):
    """Time of each candidate, costed one at a time, [K, O, C]."""
    costs = [
        cost_s(products, tiling(products, *one), main_bytes(products, far_bytes(products, *one))) for one in CANDIDATES
    ]
    return np.stack(np.broadcast_arrays(*costs))


def is_considered(products):
    """Whether a candidate is one to choose from, [K, O, 1]: its sides are the next ones above the output's at most,
    and at least 64 where both sides of the output are beyond every tile's (one of them: and the other beyond 32).
    """
    sides = np.array(SIDES, dtype=float)
    tile_m, tile_n = (CANDIDATES[:, side][:, None, None] for side in (0, 1))
    next_m, next_n = (
        np.where(size > 256, 256, sides[np.searchsorted(sides, np.minimum(size, 256))])
        for size in (products.m, products.n)
    )
    on_core = (tile_m <= next_m) & (tile_n <= next_n)
    on_core &= (tile_m >= 64) | (products.m <= 256) | (products.n <= 64)
    on_core &= (tile_n >= 64) | (products.n <= 256) | (products.m <= 64)
    return on_core | (tile_m == 1) | (tile_m * tile_n > 128 * 256)


def assert_searched(products):
    costs = np.where(is_considered(products), every_cost_s(products), np.inf)
    best = best_candidates(products)
    chosen = np.take_along_axis(costs, best[None], axis=0)[0]
    assert np.isfinite(chosen).all()
    assert (chosen == costs.min(axis=0)).all()
    assert (best == costs.argmin(axis=0)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_search_finds_what_costing_every_candidate_finds_on_shipped_chips(shipped_chips, dtype):
    chips = shipped_chips()
    assert_searched(products_on(chips, dtype, count=60, seed=DTYPES.index(dtype)))
    for number, chip in enumerate(chips):
        assert_searched(products_on([chip], dtype, count=60, seed=number))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_search_finds_what_costing_every_candidate_finds_under_every_rule(build, data):
    chips = [
        build.chip(
            name=name,
            cores=data.draw(st.integers(1, 300)),
            calibration=tuple(rule for rule in RULES if data.draw(st.booleans())),
            matrix_array=data.draw(st.sampled_from([(1, 1), (1, 1), (128, 128)])),
            memories=build.memories(rate=data.draw(st.sampled_from([0.1, 1.0, 20.0]))),
        )
        for name in ("one", "other")
    ]
    assert_searched(products_on(chips, "bfloat16", count=30, seed=data.draw(st.integers(0, 10**6))))


def test_bounds_are_never_above_the_time_that_they_bound(shipped_chips):
    products = products_on(shipped_chips(), "bfloat16", count=200, seed=5)
    costs = every_cost_s(products)
    without_far = np.stack([cost_s(products, tiling(products, *one), products.main_bytes) for one in CANDIDATES])
    assert (without_far <= costs * (1 + 1e-12)).all()
    assert (least_split_s(products) <= costs[CANDIDATES[:, 2] > 1] * (1 + 1e-12)).all()


def test_the_choice_does_not_depend_on_the_company(shipped_chips):
    chips = [chip for chip in shipped_chips() if chip.name in ("h100-sxm", "tpu-v6e")]
    products = products_on([*chips, replace(chips[0], name="half", cores=66)], "bfloat16", count=60, seed=9)
    together = best_candidates(products)
    for row in range(len(products)):
        assert (best_candidates(products.take(np.array([row]))) == together[row]).all()
