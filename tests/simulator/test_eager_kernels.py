"""Kernels of eager programs: FlashAttention-2 on Hopper, held against what others measured of it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

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


def test_constants_are_those_of_the_a100_but_for_the_rate_of_its_instructions() -> None:
    """mma.sync reaches 62.9 % of Hopper's peak (arXiv:2501.12084)."""
    a100 = dict(load_chip("a100-sxm-80gb").calibration)
    for name in ("h100-sxm", "h200-sxm"):
        moved = dict(eager_chip(load_chip(name)).calibration)
        assert moved.pop("attention.mask_ratio") == pytest.approx(229.5 / 144.8, rel=1e-3)  # see the chip's sources
        shared = {key for key in a100 if key.startswith("attention.")}
        assert shared == {key for key in moved if key.startswith("attention.")}
        for key in shared:
            factor = 0.629 if key.endswith("matrix_efficiency") else 1.0
            assert moved[key] == pytest.approx(factor * a100[key], rel=1e-3), key


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm", "b200-sxm"])
def test_eager_streams_have_the_constants_of_all_streams_and_a_rate_of_accesses(name: str) -> None:
    chip = load_chip(name)
    streams, eager = (
        {key.removeprefix(scope): value for key, value in chip.calibration if key.startswith(scope)}
        for scope in ("elementwise.", "eager.elementwise.")
    )
    assert eager.pop("accesses_per_clock_per_core") > 0
    assert (eager.pop("sector_efficiency", None) is None) == (name == "b200-sxm")
    assert eager == streams


# Kernels of PyTorch in a profile of Wan2.1-T2V-1.3B on an H100, in microseconds (AMD-AGI/TraceLens@07a2e27,
# tests/traces/h100, mean of 300 to 1,800 calls): 32,256 positions of 1,536 channels.
_POSITIONS, _CHANNELS = 32_256, 1_536


def _stream(dtype: torch.dtype, *, transposed: bool = False) -> torch.Tensor:
    if transposed:
        return torch.empty(1, _CHANNELS, _POSITIONS, dtype=dtype, device="meta").transpose(1, 2)
    return torch.empty(1, _POSITIONS, _CHANNELS, dtype=dtype, device="meta")


def _weights(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, dtype=torch.bfloat16, device="meta")


def _eager_us(run: Callable[[], object]) -> float:
    with torch.no_grad(), capture(name="kernels") as recording:
        run()
    return 1e6 * float(analytic.simulate(recording.trace, load_chip("h100-sxm"), mode="eager").duration_s.sum())


@pytest.mark.parametrize(
    ("run", "measured_us", "tolerance"),
    [
        (lambda: _stream(torch.float32, transposed=True).contiguous(), 401.7, 0.05),
        (lambda: _stream(torch.float32, transposed=True) + _stream(torch.float32), 434.1, 0.05),
        (lambda: _stream(torch.bfloat16, transposed=True) + _stream(torch.bfloat16), 404.3, 0.05),
        # Not used for any constant:
        (lambda: functional.layer_norm(_stream(torch.float32), (_CHANNELS,)), 155.0, 0.05),
        (lambda: functional.layer_norm(_stream(torch.float32, transposed=True), (_CHANNELS,)), 556.9, 0.05),
        (lambda: _stream(torch.float32).pow(2), 132.2, 0.05),
        (lambda: _stream(torch.float32).mean(-1, keepdim=True), 78.2, 0.05),
        (lambda: _stream(torch.float32).bfloat16(), 98.1, 0.05),
        (lambda: _stream(torch.bfloat16).float(), 154.1, 0.12),
        (lambda: _stream(torch.bfloat16) * _stream(torch.float32)[..., :1], 211.6, 0.12),
        (lambda: functional.linear(_stream(torch.bfloat16), _weights(1536, 1536), _weights(1536)), 202.7, 0.03),
        (lambda: functional.linear(_stream(torch.bfloat16), _weights(8960, 1536), _weights(8960)), 1148.9, 0.03),
    ],
)
def test_kernels_of_an_eager_program_take_what_a_profile_measured(run, measured_us, tolerance) -> None:
    assert _eager_us(run) == pytest.approx(measured_us, rel=tolerance)


def test_eager_attention_over_a_whole_video_takes_what_the_profile_measured() -> None:
    """The same profile: 12 heads of 128, 32,256 positions against themselves and against 512 of a text."""
    q, k = (_weights(1, 12, length, 128) for length in (_POSITIONS, 512))
    assert _eager_us(lambda: functional.scaled_dot_product_attention(q, q, q)) == pytest.approx(17_762, rel=0.02)
    assert _eager_us(lambda: functional.scaled_dot_product_attention(q, k, k)) == pytest.approx(324.7, rel=0.08)


def test_eager_convolutions_lay_their_tensors_out_and_add_a_bias() -> None:
    """The same profile (@2801c38): kernels of cuDNN around a product of 236.6 us, and one that adds the bias."""
    filters, bias = _weights(96, 96, 3, 3, 3), _weights(96)
    image = _weights(1, 96, 6, 258, 258)
    with_bias = _eager_us(lambda: functional.conv3d(image, filters, bias))
    without = _eager_us(lambda: functional.conv3d(image, filters))
    assert with_bias - without == pytest.approx(76.9, rel=0.02)
    with torch.no_grad(), capture(name="conv") as recording:
        functional.conv3d(image, filters)
    product = 1e6 * float(analytic.simulate(recording.trace, load_chip("h100-sxm")).duration_s.sum())
    assert without - product == pytest.approx(82.9 + 50.4 + 3.4, rel=0.1)
    assert with_bias == pytest.approx(451.2, rel=0.1)


def test_a_mask_given_as_a_tensor_takes_the_slower_kernel() -> None:
    """microsoft/onnxruntime pull request 21629: torch's efficient attention at 144.8 TFLOP/s, flash at 229.5."""
    q, mask = _weights(16, 32, 256, 128), _weights(16, 1, 256, 256)
    flash = _eager_us(lambda: functional.scaled_dot_product_attention(q, q, q))
    masked = _eager_us(lambda: functional.scaled_dot_product_attention(q, q, q, attn_mask=mask))
    flops = 4 * 16 * 32 * 256 * 256 * 128
    assert flops / flash / 1e6 == pytest.approx(229.5, rel=0.2)
    assert masked / flash == pytest.approx(229.5 / 144.8, rel=0.05)


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
