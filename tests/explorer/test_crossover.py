"""Crossover: the rule of generation at one sequence and at many, and chips placed by closed form and simulation."""

import numpy as np
import pytest

from explorer.crossover import achieved, dense_ratio, place
from explorer.workload import workload_from_trace
from roofline.chipfile import load_chip


@pytest.mark.parametrize("batch", [1.0, 8.0])
@pytest.mark.parametrize("tokens", [4.0, 1e9])
def test_dense_models_cross_where_the_rule_says(batch, tokens):
    """Squares of an AR token, (2/r)^2 + (2/b)^2, and of a diffusion token, (2v/r)^2 + (2/nb)^2, are equal there."""
    visits = np.array([5.0, 20.0, 100.0])
    ridge = batch * np.sqrt((visits**2 - 1) / (1 - 1 / tokens**2))
    assert ridge == pytest.approx(visits * batch, rel=0.05)  # the rule of generation, for many visits and tokens
    assert dense_ratio(ridge, visits, batch=batch, tokens_per_forward=tokens) == pytest.approx([1.0] * 3)
    assert (dense_ratio(ridge * 1.1, visits, batch=batch, tokens_per_forward=tokens) > 1).all()
    assert (dense_ratio(ridge * 0.9, visits, batch=batch, tokens_per_forward=tokens) < 1).all()


def test_memory_bound_diffusion_wins_by_its_tokens_a_forward():
    assert dense_ratio(np.array(1e6), np.array(10.0), batch=1, tokens_per_forward=4.0) == pytest.approx(4.0)


def test_achieved_rates_are_below_the_peaks_and_near_what_was_measured():
    """H100: 787 TFLOP/s median of big products, 2.9 TB/s streamed (measured: tables of aiconfigurator-core)."""
    flops, moved, kernel_s = achieved([load_chip("h100-sxm")])
    assert flops[0] == pytest.approx(787e12, rel=0.15)
    assert moved[0] == pytest.approx(2.9e12, rel=0.10)
    assert 2e-6 < kernel_s[0] < 4e-6  # launched inside a CUDA graph: 2.5 us (the same tables)


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
    assert abs(placed["h200-sxm"].error) < 0.1
    # by hand: 8192^2 weights of 2 bytes and rows of 2 x 8192 in and out; a kernel each token, a quarter of one
    found = placed["h200-sxm"]
    ridge, kernel = found.flops_per_s / found.bytes_per_s, found.kernel_s * found.bytes_per_s
    one, many = (np.hypot(2 * rows * 8192**2 / ridge, 2 * 8192**2 + 4 * rows * 8192) + kernel for rows in (1, 512))
    assert found.closed_ratio == pytest.approx(one / (many / 4), rel=1e-6)
