"""FlashAttention-2 in eager programs on Hopper and Blackwell: how far off it is, and its constants, fitted again.

    python benchmarks/eager_attention.py [TABLE.md]      errors by source, as a Markdown table
    python benchmarks/eager_attention.py --fit           the constants of `[calibration.eager.attention]`

The constants are fitted to 14 of 24 rates of the package flash-attn on an H100 at 1.83 GHz, the clock of the chip file
(arXiv 2407.08608: figure 5; version 2.5.8 and the clock: appendix C.1), for heads of 64 and 128. PyTorch runs the same
kernel, compiled with more instructions: see docs/kernels/attention.md. On a B200 one number more is fitted, the rate of
its `mma` instructions, to two times of PyTorch's own kernel.
"""

import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import least_squares

from profiler.capture import capture
from profiler.traces import Trace
from reports.markdown import markdown_table, print_or_write
from roofline.chip import Chip
from roofline.chipfile import load_chip
from simulator import analytic

SCOPE = "eager.attention"
_WIDEST_FITTED = 128  # wider heads run another kernel, of 64 rows in a block on Hopper
_REGIMES, _SHARED = ("prefill", "bidirectional"), ("matrix_efficiency", "softmax_ratio")  # with a mask and without
_HEADINGS = ("kernel", "source", "chip", "heads of", "mask", "rows", "mean error, %", "bias, %", "largest, %")
_PAPER, _PAIRED = "flash-attn 2.5.8, arXiv 2407.08608", "pytorch/benchmark, pull request 2443"

# Forward TFLOP/s by head size and mask, at _LENGTHS: 16,384 tokens, 2,048 elements of all heads; a causal mask counts
# half of the FLOPs.
_LENGTHS = (512, 1_024, 2_048, 4_096, 8_192, 16_384)
FIGURE_5 = {
    (64, False): (282, 306, 318, 321, 322, 324),
    (64, True): (180, 229, 262, 284, 295, 299),
    (128, False): (309, 350, 362, 368, 370, 370),
    (128, True): (191, 260, 298, 319, 333, 335),
    (256, False): (275, 313, 321, 323, 324, 326),
    (256, True): (208, 251, 278, 293, 297, 298),
}
# Milliseconds of PyTorch's attention and of the package on one H100, in one run: 16 heads of 128.
_PAIRED_MS = {
    False: (
        (0.24512, 0.442944, 0.845728, 1.65574, 3.27904, 6.55098),
        (0.236768, 0.41968, 0.798688, 1.55882, 3.08669, 6.14246),
    ),
    True: ((0.199136, 0.298208), (0.187424, 0.278048)),
}
# PyTorch's with a causal mask on a B200, ms by length (NVIDIA/cudnn-frontend@bb37575, benchmark/
# sdpa_benchmark_training/artifacts, pyt_flash_attention): 128 heads of 128 on 8 of keys, which are repeated first.
B200_CAUSAL_MS = {4_096: 1.692, 8_192: 5.889, 16_384: 22.297, 32_768: 87.146, 65_536: 344.321}
_B200_FITTED = (16_384, 65_536)
_B200_STREAM_BYTES_PER_S = 0.8243 * 8e12  # of large pointwise kernels (`elementwise.memory_efficiency`)
_B200_KERNEL_S = 2.2e-6 + 2.5e-6  # the same, `setup_s` and `launch_s`


@dataclass(frozen=True)
class Measured:
    """One measured kernel: whose, its shape, microseconds, and on which chip."""

    kernel: str
    source: str
    batch: int
    heads: int
    length: int
    head_dim: int
    measured_us: float
    causal: bool = False
    chip: str = "h100-sxm"

    @property
    def is_package(self) -> bool:
        """Whether it is the package's kernel, with fewer instructions, and not PyTorch's."""
        return self.kernel == "package"

    @property
    def is_fitted(self) -> bool:
        """Whether a constant is fitted to it: figure 5 up to heads of 128, where the shape's CRC-32 is even."""
        key = f"{self.batch},{self.length},{self.heads},{self.head_dim},{int(self.causal)}"
        is_even = zlib.crc32(key.encode()) % 2 == 0
        return self.source == _PAPER and self.head_dim <= _WIDEST_FITTED and is_even


def measured_rows() -> list[Measured]:
    """All of FlashAttention-2 on Hopper that was found, but for kernels of single profiles and short sequences."""
    rows = []
    for (head_dim, causal), rates in FIGURE_5.items():
        for length, rate in zip(_LENGTHS, rates, strict=True):
            batch, heads = 16_384 // length, 2_048 // head_dim
            flops = 4 * batch * heads * length**2 * head_dim * (0.5 if causal else 1.0)
            rows.append(Measured("package", _PAPER, batch, heads, length, head_dim, flops / rate / 1e6, causal=causal))
    for causal, (torch_ms, package_ms) in _PAIRED_MS.items():
        for kernel, times in (("PyTorch", torch_ms), ("package", package_ms)):
            for length, ms in zip(_LENGTHS, times, strict=False):
                rows.append(Measured(kernel, _PAIRED, 16_384 // length, 16, length, 128, 1e3 * ms, causal=causal))
    flux_flops = 4 * 24 * 4_608**2 * 128
    rows.append(
        Measured("PyTorch", "meta-pytorch/tritonbench, pull request 97", 1, 24, 4_608, 128, flux_flops / 329.483e6)
    )
    rows.append(Measured("PyTorch", "pytorch/pytorch, pull request 128888", 1, 16, 4_096, 128, 457.07))
    for length, us in ((4_096, 589.9), (8_308, 2_368.1), (16_384, 9_288.0)):
        rows.append(
            Measured("PyTorch", "vllm-project/vllm-omni, pull request 1923", 1, 24, length, 128, us, chip="h200-sxm")
        )
    for head_dim, ms in ((64, 16.802874), (96, 23.631645)):
        source = "DeepLink-org/DLBlas, pull request 71 (some Hopper)"
        rows.append(Measured("PyTorch", source, 1, 32, 25_600, head_dim, 1e3 * ms))
    return rows


def traced(row: Measured) -> Trace:
    """The row's attention as a trace."""
    return attention_trace(row.batch, row.heads, row.length, row.head_dim, causal=row.causal)


def attention_trace(batch: int, heads: int, length: int, head_dim: int, *, causal: bool) -> Trace:
    """One call of PyTorch's attention, of as many queries as keys."""
    query = torch.empty(batch, heads, length, head_dim, dtype=torch.bfloat16, device="meta")
    with capture(name="attention") as recording:
        torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=causal)
    return recording.trace


def kernel_us(trace: Trace, chip: Chip) -> float:
    """Predicted microseconds of a trace's kernels in eager mode."""
    return 1e6 * float(analytic.simulate(trace, chip, mode="eager").duration_s.sum())


def of_package(chip: Chip) -> Chip:
    """The chip with the softmax of the package's kernel, which is that of other chips' constants, not PyTorch's."""
    kept = tuple(entry for entry in chip.calibration if entry[0] != f"{SCOPE}.softmax_instructions")
    return replace(chip, calibration=kept)


def with_constants(chip: Chip, values: Mapping[str, float]) -> Chip:
    """The chip with other constants of eager attention, by what follows `eager.attention.` in their names."""
    named = {f"{SCOPE}.{name}": value for name, value in values.items()}
    return replace(chip, calibration=tuple((dict(chip.calibration) | named).items()))


def grouped_ms(length: int, chip: Chip) -> float:
    """Milliseconds of a row of B200_CAUSAL_MS: attention, and keys and values written once for every head before it."""
    written_s = 2 * (2 * 128 * length * 128 / _B200_STREAM_BYTES_PER_S + _B200_KERNEL_S)
    return 1e-3 * kernel_us(attention_trace(1, 128, length, 128, causal=True), chip) + 1e3 * written_s


def fitted_constants() -> dict[str, float]:
    """Constants of FlashAttention-2 on an H100: one main loop for both masks, but a tile's own costs for each."""
    chip = of_package(load_chip("h100-sxm"))
    rows = [row for row in measured_rows() if row.is_fitted]
    traces = [traced(row) for row in rows]
    start = {"matrix_efficiency": 0.4, "softmax_ratio": 1.0, "full": 2_300.0, "causal": 3_000.0, "tail_ratio": 0.7}

    def constants(logarithms: np.ndarray) -> dict[str, float]:
        found = dict(zip(start, np.exp(logarithms).tolist(), strict=True))
        shared = {f"{regime}.{name}": found[name] for regime in _REGIMES for name in _SHARED}
        own = {"prefill.tile_clocks": found["causal"], "bidirectional.tile_clocks": found["full"]}
        return shared | own | {"prefill.tail_ratio": found["tail_ratio"]}

    def errors(logarithms: np.ndarray) -> list[float]:
        candidate = with_constants(chip, constants(logarithms))
        pairs = zip(traces, rows, strict=True)
        return [float(np.log(kernel_us(trace, candidate) / row.measured_us)) for trace, row in pairs]

    return constants(least_squares(errors, np.log(list(start.values())), diff_step=1e-3).x)


def fitted_b200_efficiency(constants: Mapping[str, float]) -> float:
    """The `matrix_efficiency` of `mma` instructions on a B200, with the softmax of an H100."""
    moved = {name: value for name, value in constants.items() if name.endswith("softmax_ratio")}
    chip = with_constants(load_chip("b200-sxm"), moved)

    def errors(efficiency: np.ndarray) -> list[float]:
        candidate = with_constants(chip, {f"{regime}.matrix_efficiency": efficiency[0] for regime in _REGIMES})
        return [float(np.log(grouped_ms(length, candidate) / B200_CAUSAL_MS[length])) for length in _B200_FITTED]

    return float(least_squares(errors, [0.2], diff_step=1e-3).x[0])


def table() -> str:
    """Errors of predicted times as a Markdown table, a line for each source, head size, mask and part."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for row in measured_rows():
        chip = load_chip(row.chip)
        predicted_us = kernel_us(traced(row), of_package(chip) if row.is_package else chip)
        source = f"{row.source}, fitted" if row.is_fitted else row.source
        mask = "causal" if row.causal else "none"
        key = (row.kernel, source, row.chip.split("-")[0].upper(), str(row.head_dim), mask)
        groups.setdefault(key, []).append(100.0 * (predicted_us / row.measured_us - 1.0))
    lines = [
        [*key, str(len(off)), f"{np.abs(off).mean():.1f}", f"{np.mean(off):+.1f}", f"{max(off, key=abs):+.1f}"]
        for key, off in groups.items()
    ]
    return markdown_table(_HEADINGS, lines, [False] * 3 + [True, False] + [True] * 4)


def main(*arguments: str) -> None:
    if arguments == ("--fit",):
        constants = fitted_constants()
        for name, value in constants.items():
            print(f"{name} = {value:.4g}")
        print(f"b200-sxm: matrix_efficiency = {fitted_b200_efficiency(constants):.4g}")
        return
    print_or_write(table(), *(arguments or ("",)))


if __name__ == "__main__":
    main(*sys.argv[1:])
