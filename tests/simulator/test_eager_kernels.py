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


# FlashAttention-2 on a B200, forward TFLOP/s without a mask: 16,384 tokens, 32 heads of 64 (Dao-AILab/flash-attention,
# issue 1589), and 8 x 16 heads of 128 (meta-pytorch/tritonbench, pull request 171).
_B200_HEADS_OF_64 = {512: 308.40, 1024: 359.30, 2048: 380.99, 4096: 306.94, 8192: 343.07, 16384: 379.44}
_B200_HEADS_OF_128 = {512: 245.26, 1024: 315.11, 2048: 352.10, 4096: 353.91, 8192: 361.59, 16384: 330.59}


@pytest.mark.parametrize(("length", "rate"), _B200_HEADS_OF_64.items())
def test_eager_attention_on_b200_with_heads_that_no_constant_is_set_to(length: int, rate: float) -> None:
    """Measured rates themselves go up and down by a fifth from length to length."""
    batch = 16_384 // length
    predicted_us = _eager_us("b200-sxm", batch, 32, length, 64)
    assert 4e-6 * batch * 32 * length**2 * 64 / predicted_us == pytest.approx(rate, rel=0.13)


@pytest.mark.parametrize(("length", "rate"), _B200_HEADS_OF_128.items())
def test_eager_attention_on_b200_takes_the_measured_time(length: int, rate: float) -> None:
    """One ratio is set to 2,048 and 8,192; that the longest is slower again is not in the model."""
    tolerance = {2048: 0.01, 4096: 0.02, 8192: 0.01}.get(length, 0.12)
    predicted_us = _eager_us("b200-sxm", 8, 16, length, 128)
    assert 4e-6 * 8 * 16 * length**2 * 128 / predicted_us == pytest.approx(rate, rel=tolerance)
    engine = analytic.simulate(_attention(8, 16, length, 128, causal=False), load_chip("b200-sxm"))
    assert 1e6 * engine.makespan_s < 0.7 * predicted_us  # an engine's kernel is another one


def test_one_more_block_of_keys_on_b200_takes_the_measured_time() -> None:
    """The same benchmark at 128 and 256 positions, 60.57 and 147.49 TFLOP/s: it adds some microseconds to each."""
    measured_us = [4e-6 * 8 * 16 * length**2 * 128 / rate for length, rate in ((128, 60.57), (256, 147.49))]
    short, long = (_eager_us("b200-sxm", 8, 16, length, 128) for length in (128, 256))
    assert long - short == pytest.approx(measured_us[1] - measured_us[0], rel=0.05)
    assert 7.0 < measured_us[0] - short < 9.0


def _eager_us(name: str, batch: int, heads: int, length: int, head_dim: int) -> float:
    trace = _attention(batch, heads, length, head_dim, causal=False)
    return 1e6 * float(analytic.simulate(trace, load_chip(name), mode="eager").duration_s.sum())


def test_constants_are_those_of_the_a100_but_for_the_rate_of_its_instructions() -> None:
    """mma.sync reaches 62.9 % of Hopper's peak (arXiv:2501.12084); a B200's share is fitted to its own kernels."""
    a100 = dict(load_chip("a100-sxm-80gb").calibration)
    for name, rate in (("h100-sxm", 0.629), ("h200-sxm", 0.629), ("b200-sxm", 0.2716)):
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
