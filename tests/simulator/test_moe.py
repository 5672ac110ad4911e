"""Layers of experts by hand: loads of experts, weights of touched ones, tiles per expert."""

import numpy as np
import pandas as pd
import pytest

from roofline.chipfile import load_chip
from simulator.kernels.moe import expert_rows
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns

LAYER = {"kind": "moe", "dtype": "bfloat16", "hidden": 2048, "inter": 768, "experts": 128, "topk": 8}


def columns(**changes):
    return ops_from_frame(pd.DataFrame([{**LAYER, "tokens": 64, **changes}]))


def seconds(chip="h100-sxm", **changes):
    return plan_columns(columns(**changes), [load_chip(chip)]).duration_s.item()


def test_flops_and_bytes_are_those_of_the_touched_experts():
    ops = columns(tokens=4)
    assert ops.matrix_flops.item() == 2 * 4 * 8 * 3 * 2048 * 768
    assert ops.read_bytes.item() == 32 * 3 * 2048 * 768 * 2 + 4 * 2048 * 2  # 32 of 128 experts
    assert columns(tokens=1000).read_bytes.item() == 128 * 3 * 2048 * 768 * 2 + 1000 * 2048 * 2
    assert columns(tokens=4, gated=0).matrix_flops.item() == 2 * 4 * 8 * 2 * 2048 * 768


def test_rows_are_conserved_and_no_expert_has_more_than_the_tokens():
    for skew in (0.0, 1.01, 1.2):
        for tokens in (16, 300, 5000):
            rows = expert_rows(columns(tokens=tokens, skew=skew))
            assert rows.mean() * 128 == pytest.approx(tokens * 8, rel=0.02)
            assert rows.max() <= tokens
    assert np.ptp(expert_rows(columns(skew=0.0))) == 0 < np.ptp(expert_rows(columns(skew=1.2)))


def test_a_rank_has_its_share_of_balanced_rows_and_more_of_skewed_ones():
    alone = expert_rows(columns(tokens=4096)).mean() * 128
    shared = expert_rows(columns(tokens=4096, expert_ranks=8)).mean() * 16
    busiest = expert_rows(columns(tokens=4096, expert_ranks=8, skew=1.2)).mean() * 16
    assert shared == pytest.approx(alone / 8)
    assert busiest > 1.2 * shared


def test_a_block_step_costs_what_its_experts_weigh():
    """From 1 to 16 tokens the touched experts grow from 8 to all 128; from 16 to 64 they stay."""
    one, sixteen, many = (seconds(tokens=tokens) for tokens in (1, 16, 64))
    assert 6 < (sixteen - one) / one < 16
    assert many < 1.1 * sixteen
    assert seconds(tokens=64) >= 128 * 3 * 2048 * 768 * 2 / 3.35e12


def test_without_calibration_it_is_never_below_the_roofline(build):
    ops = ops_from_frame(pd.DataFrame([{**LAYER, "tokens": tokens} for tokens in (1, 7, 100, 9000)]))
    table = plan_columns(ops, [build.chip(), load_chip("h100-sxm"), load_chip("mi300x")])
    assert (table.duration_s >= table.bound_s).all()
