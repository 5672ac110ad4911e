"""Kernels of eager programs: FlashAttention-2 on Hopper and Blackwell, against what others measured of it."""

import numpy as np
import pytest
import torch

from profiler.capture import capture
from profiler.traces import Trace
from roofline.chipfile import load_chip
from simulator import analytic, event
from simulator.eager_kernels import eager_chip

# Forward TFLOP/s of FlashAttention-2 on an H100 SXM5, arXiv:2407.08608, figure 5: 16,384 tokens, 2,048 elements of all
# heads, sequences of 512 to 16,384; a causal mask counts half of the FLOPs.
_LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
_MEASURED = {
    (64, False): (282, 306, 318, 321, 322, 324),
    (64, True): (180, 229, 262, 284, 295, 299),
    (128, False): (309, 350, 362, 368, 370, 370),
    (128, True): (191, 260, 298, 319, 333, 335),
    (256, False): (275, 313, 321, 323, 324, 326),
    (256, True): (208, 251, 278, 293, 297, 298),
}


def _attention(batch: int, heads: int, length: int, head_dim: int, *, causal: bool) -> Trace:
    q_BHSC = torch.empty(batch, heads, length, head_dim, dtype=torch.float16, device="meta")
    with capture(name="attention") as recording:
        torch.nn.functional.scaled_dot_product_attention(q_BHSC, q_BHSC, q_BHSC, is_causal=causal)
    return recording.trace


def test_eager_attention_on_h100_takes_the_measured_time_of_flash_attention_2() -> None:
    """Constants come from the A100 and one published rate of instructions; none was fitted to these figures."""
    chip = load_chip("h100-sxm")
    errors, engine_errors = [], []
    for (head_dim, causal), rates in _MEASURED.items():
        for length, measured in zip(_LENGTHS, rates, strict=True):
            batch, heads = 16384 // length, 2048 // head_dim
            flops = 4 * batch * heads * length**2 * head_dim * (0.5 if causal else 1.0)
            trace = _attention(batch, heads, length, head_dim, causal=causal)
            eager = analytic.simulate(trace, chip, mode="eager", host_dispatch_s=0.0)
            errors.append(flops / eager.makespan_s / 1e12 / measured - 1)
            engine_errors.append(flops / analytic.simulate(trace, chip).makespan_s / 1e12 / measured - 1)
    assert np.abs(errors).mean() < 0.08
    assert np.abs(errors).max() < 0.25
    assert np.mean(engine_errors) > 0.5  # an engine's FlashAttention-3 is another kernel


@pytest.mark.parametrize(
    ("length", "measured_us", "tolerance"), [(4_096, 589.9, 0.04), (8_308, 2_368.1, 0.02), (16_384, 9_288.0, 0.03)]
)
def test_attention_of_torch_on_h200_takes_the_measured_time(length: int, measured_us: float, tolerance: float) -> None:
    """24 heads of 128 in PyTorch 2.10 (vllm-project/vllm-omni, pull request 1923); no constant is set to them."""
    assert _eager_us("h200-sxm", 1, 24, length, 128) == pytest.approx(measured_us, rel=tolerance)


# PyTorch's FlashAttention-2 with a causal mask, ms (NVIDIA/cudnn-frontend, benchmark/sdpa_benchmark_training/artifacts,
# pyt_flash_attention, @bb37575 and @d48a60e): 128 heads of 128, which share 8 of keys; these are repeated first.
_B200_CAUSAL = {4096: 1.692, 8192: 5.889, 16384: 22.297, 32768: 87.146, 65536: 344.321}
_GB200_CAUSAL = {512: 0.053, 1024: 0.135, 2048: 0.409, 4096: 1.422, 8192: 5.308, 16384: 20.445, 32768: 80.322}


def _grouped_ms(length: int) -> float:
    """Attention, and keys and values written once for every head at what streams reach: two kernels more."""
    written_s = 2 * (2 * 128 * length * 128) / (0.8243 * 8e12)
    return 1e-3 * _eager_us("b200-sxm", 1, 128, length, 128, causal=True) + 1e3 * written_s + 2 * 0.0047


@pytest.mark.parametrize(("length", "measured_ms"), _B200_CAUSAL.items())
def test_causal_attention_on_b200_takes_the_measured_time(length: int, measured_ms: float) -> None:
    """One ratio is set to 16,384 and 65,536; shorter ones than these hold what the benchmark itself takes."""
    assert _grouped_ms(length) == pytest.approx(measured_ms, rel={4096: 0.09, 8192: 0.03}.get(length, 0.01))
    trace = _attention(1, 128, length, 128, causal=True)
    assert 1e3 * analytic.simulate(trace, load_chip("b200-sxm")).makespan_s < 0.5 * measured_ms  # an engine's kernel


def test_causal_attention_of_all_lengths_on_gb200_is_as_much_faster_than_on_b200() -> None:
    """No chip file is a GB200's; its clock is higher, so the shape of the times alone is held."""
    ratios = [_grouped_ms(length) / measured_ms for length, measured_ms in _GB200_CAUSAL.items()]
    assert np.mean(ratios) == pytest.approx(1.095, rel=0.01)
    assert max(ratios) - min(ratios) < 0.04


# Without a mask, forward TFLOP/s on a B200: 16,384 tokens, 32 heads of 64 (Dao-AILab/flash-attention, issue 1589), and
# 8 x 16 heads of 128 (meta-pytorch/tritonbench, pull request 171). No constant is set to them.
_B200_HEADS_OF_64 = {512: 308.40, 1024: 359.30, 2048: 380.99, 4096: 306.94, 8192: 343.07, 16384: 379.44}
_B200_HEADS_OF_128 = {512: 245.26, 1024: 315.11, 2048: 352.10, 4096: 353.91, 8192: 361.59, 16384: 330.59}


@pytest.mark.parametrize(("length", "rate"), _B200_HEADS_OF_64.items())
def test_eager_attention_on_b200_with_heads_of_64(length: int, rate: float) -> None:
    """Measured rates themselves go up and down by a fifth from length to length."""
    batch = 16_384 // length
    predicted = 4e-6 * batch * 32 * length**2 * 64 / _eager_us("b200-sxm", batch, 32, length, 64)
    assert predicted == pytest.approx(rate, rel={4096: 0.21, 8192: 0.10}.get(length, 0.06))


@pytest.mark.parametrize(("length", "rate"), _B200_HEADS_OF_128.items())
def test_eager_attention_on_another_b200_is_too_fast(length: int, rate: float) -> None:
    """A board of Meta's, which others of theirs limit to 750 W (facebookexperimental/triton, pull request 407)."""
    predicted = 4e-6 * 8 * 16 * length**2 * 128 / _eager_us("b200-sxm", 8, 16, length, 128)
    assert 1.09 < predicted / rate < {512: 1.18, 1024: 1.17, 16384: 1.24}.get(length, 1.13)


def _eager_us(name: str, batch: int, heads: int, length: int, head_dim: int, *, causal: bool = False) -> float:
    trace = _attention(batch, heads, length, head_dim, causal=causal)
    return 1e6 * float(analytic.simulate(trace, load_chip(name), mode="eager").duration_s.sum())


def test_constants_are_those_of_the_a100_but_for_the_rate_of_its_instructions() -> None:
    """mma.sync reaches 62.9 % of Hopper's peak (arXiv:2501.12084); a B200's share is fitted to its own kernels."""
    a100 = dict(load_chip("a100-sxm-80gb").calibration)
    for name, rate in (("h100-sxm", 0.629), ("h200-sxm", 0.629), ("b200-sxm", 0.3011)):
        moved = dict(eager_chip(load_chip(name)).calibration)
        assert moved.pop("attention.mask_ratio") == pytest.approx(229.5 / 144.8, rel=1e-3)  # see the chip's sources
        # 144.8 TFLOP/s on 132 cores of 1.83 GHz; 32 x 1,024 x 384 products of either kind in 70.64 us, all included.
        assert moved.pop("attention.wide_core_flops_per_clock") == pytest.approx(144.8e12 / 132 / 1.83e9, rel=1e-3)
        alone = moved.pop("attention.wide_block_flops_per_clock")
        assert alone == pytest.approx(4 * 32 * 1024 * 384 / (70.64e-6 * 1.83e9), rel=0.08)
        shared = {key for key in a100 if key.startswith("attention.")}
        assert shared == {key for key in moved if key.startswith("attention.")}
        for key in shared:
            factor = rate if key.endswith("matrix_efficiency") else 1.0
            assert moved[key] == pytest.approx(factor * a100[key], rel=1e-3), key


# Of a core of Hopper, and taken for those of other generations.
_CLOCKS = {
    "thread_clocks": 0.483,
    "dimension_clocks": 0.0808,
    "operand_clocks": 0.128,
    "conversion_clocks": 0.116,
    "join_clocks": 1.1,
    "function_clocks": 0.244,
    "gelu_clocks": 0.322,
}


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm", "b200-sxm"])
def test_eager_streams_have_the_constants_of_all_streams_and_clocks_of_a_core(name: str) -> None:
    chip = load_chip(name)
    streams, eager = (
        {key.removeprefix(scope): value for key, value in chip.calibration if key.startswith(scope)}
        for scope in ("elementwise.", "eager.elementwise.")
    )
    found = {name: eager.pop(name) for name in tuple(eager) if name.endswith("_clocks")}
    assert found == _CLOCKS
    # Sectors come as fast as on an H100, or as much faster as cached streams do.
    h100 = dict(load_chip("h100-sxm").calibration)["elementwise.cache_efficiency"]
    share = streams["cache_efficiency"] / h100 if name == "b200-sxm" else 1.0
    assert eager.pop("sector_efficiency") == pytest.approx(0.461 * share, rel=1e-3)
    assert eager == streams


@pytest.mark.parametrize(("name", "value"), [("layout_efficiency", 0.6), ("bias_efficiency", 0.39)])
def test_layouts_of_convolutions_on_b200_move_as_many_bytes_a_clock_and_core_as_on_hopper(name, value) -> None:
    """Of an H100 0.6 x 3.35 TB/s on 132 cores of 1.83 GHz, 8.3 bytes a clock."""
    per_clock = value * 3.35e12 / (132 * 1.83e9)
    b200 = dict(load_chip("b200-sxm").calibration)[f"eager.conv.{name}"]
    assert b200 * 8e12 / (148 * 1.8557e9) == pytest.approx(per_clock, rel=2e-3)


def test_chip_without_eager_constants_stays_as_it_is() -> None:
    chip = load_chip("l40s")
    assert eager_chip(chip) is chip


def test_other_constants_of_the_chip_stay() -> None:
    chip = load_chip("h100-sxm")
    before, after = dict(chip.calibration), dict(eager_chip(chip).calibration)
    assert {key for key in before if key.startswith("gemm")} == {key for key in after if key.startswith("gemm")}
    assert "attention.split_limit" not in after  # of FlashAttention-3: a whole scope changes


def test_both_engines_run_the_same_kernels() -> None:
    chip, trace = load_chip("h100-sxm"), _attention(2, 16, 4096, 128, causal=False)
    closed, played = (engine.simulate(trace, chip, mode="eager") for engine in (analytic, event))
    assert played.makespan_s == pytest.approx(closed.makespan_s, rel=0.03)
    assert closed.makespan_s > 1.5 * analytic.simulate(trace, chip).makespan_s


def test_no_band_of_the_replaced_kernels_is_taken() -> None:
    chip, trace = load_chip("h100-sxm"), _attention(2, 16, 4096, 128, causal=False)
    assert analytic.simulate(trace, chip).band_basis == ("attention_bidirectional measured on h100-sxm",)
    eager = analytic.simulate(trace, chip, mode="eager")
    assert eager.band_basis == ("attention_bidirectional with constants of another family",)
