"""Crossover: the rule of generation at one sequence and at many, and chips placed by closed form and simulation."""

import numpy as np
import pytest

from explorer.crossover import achieved, dense_ratio, place
from explorer.workload import workload_from_trace
from roofline.chipfile import load_chip


@pytest.mark.parametrize("batch", [1.0, 8.0])
def test_dense_models_cross_where_the_ridge_is_the_visits_times_the_batch(batch):
    """An AR token costs 2 P / b bytes, a diffusion token 2 P v FLOPs: equal at ridge v b."""
    visits = np.array([5.0, 20.0, 100.0])
    assert dense_ratio(visits * batch, visits, batch=batch, tokens_per_forward=1e9) == pytest.approx([1.0] * 3)
    assert (dense_ratio(visits * batch * 1.1, visits, batch=batch, tokens_per_forward=1e9) > 1).all()
    assert (dense_ratio(visits * batch * 0.9, visits, batch=batch, tokens_per_forward=1e9) < 1).all()


def test_memory_bound_diffusion_wins_by_its_tokens_a_forward():
    assert dense_ratio(np.array(1e6), np.array(10.0), batch=1, tokens_per_forward=4.0) == pytest.approx(4.0)


def test_achieved_rates_are_below_the_peaks_and_near_what_was_measured():
    """H100: 787 TFLOP/s median of big products, 2.9 TB/s streamed (measured: tables of aiconfigurator-core)."""
    flops, moved = achieved([load_chip("h100-sxm")])
    assert flops[0] == pytest.approx(787e12, rel=0.15)
    assert moved[0] == pytest.approx(2.9e12, rel=0.10)


def test_chips_are_placed_by_both(build):
    decode = workload_from_trace(
        build.trace([build.gemm(1, 8192, 8192)], [0] * 8), name="ar", units=8, fused=False, needed_bytes=1e9
    )
    denoise = workload_from_trace(
        build.trace([build.gemm(512, 8192, 8192)], [0] * 2), name="dlm", units=8, fused=False, needed_bytes=90e9
    )
    placed = {each.chip: each for each in place([(decode, denoise)], [load_chip(n) for n in ("h100-sxm", "h200-sxm")])}
    assert placed["h200-sxm"].visits == pytest.approx(128.0)  # 512 rows twice for 8 tokens
    assert np.isnan(placed["h100-sxm"].simulated_ratio)  # 80 GB do not hold 90
    assert abs(placed["h200-sxm"].error) < 0.25
    assert placed["h200-sxm"].closed_ratio == pytest.approx(placed["h200-sxm"].ridge / 128.0, rel=0.05)
