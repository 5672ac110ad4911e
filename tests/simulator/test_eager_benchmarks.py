"""Kernels of eager programs against benchmarks of others: norms and rotary embeddings in single operations, softmax.

linkedin/Liger-Kernel, benchmark/data: a100_all_benchmark_data.csv (@bdbfead, A100 80 GB PCIe) and
h100_all_benchmark_data.csv (@3534d44, H100 NVL), forward, medians, in microseconds; PyTorch profiles of an A100 of
40 GB: ResNet-50 and AlexNet in float32 (facebookresearch/HolisticTraceAnalysis, tests/data @3cb077c, @66e3c54). On a
B200 three pull requests of PyTorch: 159682 (norms), 149893 (concatenations), 174553 (a copy).
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from eager_kernels import eager_us, full
from torch.nn import functional

from roofline.chip import Chip
from roofline.chipfile import load_chip

_BF16, _F32 = torch.bfloat16, torch.float32
# What the benchmark itself takes: Liger's layer norms, one kernel each, go with their bytes but for 9.1 us on the A100
# and 6.3 us on the H100 (least squares over five sizes), of which 3.1 and 2.3 are a launch: it empties the caches
# before, and what they still have to write comes after.
_BENCHMARK_US = {"a100 pcie": 6.0, "h100 nvl": 4.0, "a100 40 gb": 0.0}
_ROWS = 16_384  # of a softmax: 8 x 2,048


def _board(name: str) -> Chip:
    """Boards that are no shipped chips: other memory on the same die."""
    like, bandwidth, clock_hz = {
        "a100 pcie": ("a100-sxm-80gb", 1.935e12, 1.41e9),
        "a100 40 gb": ("a100-sxm-80gb", 1.555e12, 1.41e9),
        "h100 nvl": ("h100-sxm", 3.938e12, 1.785e9),
        "h200": ("h200-sxm", 4.8e12, 1.83e9),
    }[name]
    chip = load_chip(like)
    memories = tuple(
        replace(memory, bandwidth_bytes_per_s=bandwidth) if memory.name == "hbm" else memory for memory in chip.memories
    )
    return replace(chip, memories=memories, clock_hz=clock_hz)


def _eager_us(run: Callable[[], object], board: str) -> float:
    return eager_us(run, _board(board))


def _rms_norm(columns: int) -> torch.Tensor:
    """LlamaRMSNorm over 2,048 rows in bfloat16, its weight in float32."""
    wide = full((2_048, columns)).to(_F32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
    return full((columns,), _F32) * wide.to(_BF16)


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _rotary(positions: int, width: int) -> tuple[torch.Tensor, ...]:
    """`apply_rotary_pos_emb`: 32 heads of queries and 8 of keys as projections leave them."""
    tables = [full((1, 1, positions, width // 32)) for _ in range(2)]
    return tuple(_turn(full((1, positions, heads, width // 32)).transpose(1, 2), *tables) for heads in (32, 8))


def _layer_norm(columns: int) -> torch.Tensor:
    weight, bias = (full((columns,), _F32) for _ in range(2))
    return functional.layer_norm(full((4_096, columns), _F32), (columns,), weight, bias)


@pytest.mark.parametrize(
    ("run", "board", "measured_us", "tolerance"),
    [
        (lambda: _rms_norm(4_096), "a100 pcie", 282.6, 0.06),
        (lambda: _rms_norm(8_192), "a100 pcie", 523.3, 0.05),
        (lambda: _rms_norm(16_384), "a100 pcie", 992.3, 0.03),
        (lambda: _rms_norm(32_768), "a100 pcie", 1_933.3, 0.03),
        (lambda: _rotary(1_024, 8_192), "a100 pcie", 280.6, 0.03),
        (lambda: _rotary(2_048, 8_192), "a100 pcie", 519.2, 0.03),
        (lambda: _rotary(4_096, 8_192), "a100 pcie", 1_008.6, 0.03),
        (lambda: _rotary(8_192, 8_192), "a100 pcie", 1_992.7, 0.03),
        (lambda: _rotary(16_384, 8_192), "a100 pcie", 3_963.9, 0.03),
        # Tensors of 4 to 17 MB, which partly lie in the last cache, and launches.
        (lambda: _rms_norm(1_024), "a100 pcie", 78.8, 0.18),
        (lambda: _rms_norm(2_048), "a100 pcie", 138.2, 0.10),
        (lambda: _rotary(2_048, 512), "a100 pcie", 76.8, 0.05),
        (lambda: _rotary(2_048, 2_048), "a100 pcie", 155.6, 0.07),
        # On Hopper, where the clocks come from: norms in single operations are too fast by an eighth at most.
        (lambda: _rms_norm(4_096), "h100 nvl", 179.5, 0.13),
        (lambda: _rms_norm(8_192), "h100 nvl", 326.1, 0.10),
        (lambda: _rms_norm(16_384), "h100 nvl", 609.5, 0.08),
        (lambda: _rms_norm(32_768), "h100 nvl", 1_219.3, 0.10),
        (lambda: _rotary(1_024, 8_192), "h100 nvl", 189.5, 0.03),
        (lambda: _rotary(2_048, 8_192), "h100 nvl", 344.0, 0.03),
        (lambda: _rotary(4_096, 8_192), "h100 nvl", 649.4, 0.03),
        (lambda: _rotary(8_192, 8_192), "h100 nvl", 1_321.7, 0.03),
        (lambda: _rotary(16_384, 8_192), "h100 nvl", 2_566.6, 0.03),
        # Streams and sums with a bias in profiles.
        (lambda: full((25_690_112,), _F32).add_(full((25_690_112,), _F32)), "a100 40 gb", 221.4, 0.07),
        (lambda: full((12_845_056,), _F32).add_(full((12_845_056,), _F32)), "a100 40 gb", 107.9, 0.11),
        (lambda: full((25_690_112,), _F32).relu_(), "a100 40 gb", 149.8, 0.06),
        (lambda: full((12_845_056,), _F32).relu_(), "a100 40 gb", 75.8, 0.07),
        (lambda: full((128, 64, 55, 55), _F32).add_(full((1, 64, 1, 1), _F32)), "a100 40 gb", 187.0, 0.10),
        (lambda: full((128, 192, 27, 27), _F32).add_(full((1, 192, 1, 1), _F32)), "a100 40 gb", 136.0, 0.10),
    ],
)
def test_kernels_that_find_elements_one_by_one_are_met_on_cards_that_no_clock_is_set_to(
    run, board, measured_us, tolerance
) -> None:
    assert _eager_us(run, board) + _BENCHMARK_US[board] == pytest.approx(measured_us, rel=tolerance)


@pytest.mark.parametrize(
    ("columns", "board", "measured_us", "tolerance"),
    [
        (1_024, "a100 pcie", 33.8, 0.11),  # set to 1,024, 4,096 and 16,384 on the A100
        (2_048, "a100 pcie", 56.3, 0.08),
        (4_096, "a100 pcie", 121.9, 0.08),
        (8_192, "a100 pcie", 258.0, 0.10),
        (16_384, "a100 pcie", 507.9, 0.07),
        (1_024, "h100 nvl", 23.9, 0.21),
        (2_048, "h100 nvl", 38.3, 0.23),
        (4_096, "h100 nvl", 63.0, 0.03),
        (8_192, "h100 nvl", 140.9, 0.05),
        (16_384, "h100 nvl", 295.2, 0.07),
    ],
)
def test_layer_norms_in_float32_read_rows_again_that_sixteen_blocks_a_core_cannot_keep(
    columns: int, board: str, measured_us: float, tolerance: float
) -> None:
    predicted_us = _eager_us(lambda: _layer_norm(columns), board) + _BENCHMARK_US[board]
    assert predicted_us == pytest.approx(measured_us, rel=tolerance)


@pytest.mark.parametrize(("rows", "measured_us"), [(4_608 * 48, 144.74), (27_030 * 24, 403.14), (27_075 * 24, 403.94)])
def test_norms_of_queries_by_head_take_their_rows_one_by_one(rows: int, measured_us: float) -> None:
    """sgl-project/sglang pull request 20632; its shortest call, 140 rows of 4,096, takes 15.3 us, of which 12 wait."""
    weight = full((128,))
    predicted_us = _eager_us(lambda: functional.rms_norm(full((rows, 128)), (128,), weight, 1e-6), "h200")
    assert predicted_us + 12.0 == pytest.approx(measured_us, rel=0.02)


@pytest.mark.parametrize(
    ("rows", "columns", "measured_us", "tolerance"),
    [
        (65_536, 1_024, 97, 0.03),  # set to this one and the next
        (65_536, 2_048, 101, 0.03),
        (65_536, 4_096, 167, 0.02),
        (32_768, 1_024, 52, 0.07),
        (32_768, 2_048, 54, 0.07),
        (32_768, 4_096, 88, 0.05),
        # What the benchmark itself takes counts here: up to 20 % too fast.
        (16_384, 1_024, 32, 0.21),
        (16_384, 2_048, 31, 0.16),
        (16_384, 4_096, 48, 0.11),
    ],
)
def test_root_mean_square_norms_in_one_kernel_on_a_b200(rows, columns, measured_us, tolerance) -> None:
    """PyTorch's pull request 159682, fp16, Default Eager."""
    x, weight = full((rows, columns), torch.float16), full((columns,), torch.float16)
    predicted_us = eager_us(lambda: functional.rms_norm(x, (columns,), weight), load_chip("b200-sxm"))
    assert predicted_us == pytest.approx(measured_us, rel=tolerance)


@pytest.mark.parametrize(
    ("columns", "measured_us", "tolerance"),
    [((16, 32), 150, 0.16), ((64, 16), 240, 0.13), ((128, 64), 500, 0.02), ((256, 128), 990, 0.02)],
)
def test_concatenations_on_a_b200_go_with_their_bytes(columns, measured_us, tolerance) -> None:
    """2,097,152 rows of int32 (pull request 149893, original); parts of 64 and 128 bytes are slower than that."""
    parts = [full((2_097_152, width), torch.int32) for width in columns]
    assert eager_us(lambda: torch.cat(parts, 1), load_chip("b200-sxm")) == pytest.approx(measured_us, rel=tolerance)


def test_a_copy_on_a_b200_goes_with_its_bytes() -> None:
    """128 MiB of uint8 cloned in 45.13 us (pull request 174553)."""
    copied_us = eager_us(lambda: full((134_217_728,), torch.uint8).clone(), load_chip("b200-sxm"))
    assert copied_us == pytest.approx(45.13, rel=0.04)


def test_a_mean_over_short_rows_takes_a_warp_for_each() -> None:
    """ResNet-50's pool of 7 x 7 in the profile of the A100 of 40 GB; over another dimension bytes alone count."""
    pooled = full((32, 2_048, 7, 7), _F32)
    assert _eager_us(lambda: pooled.mean((-1, -2), keepdim=True), "a100 40 gb") == pytest.approx(27.2, rel=0.1)
    apart = full((49, 65_536), _F32)
    assert _eager_us(lambda: apart.mean(0), "a100 40 gb") == pytest.approx(49 * 65_536 * 4 / 1.555e6 / 0.856, rel=0.4)


@pytest.mark.parametrize(
    ("columns", "board", "measured_us", "tolerance"),
    [
        # Cross entropies less those of half as many columns: what comes after the softmax goes with rows alone.
        (8_192, "a100 pcie", 1_204.2 - 895.0, 0.06),
        (16_384, "a100 pcie", 2_005.0 - 1_204.2, 0.03),
        (32_768, "a100 pcie", 5_392.9 - 2_005.0, 0.25),
        (65_536, "a100 pcie", 10_571.8 - 5_392.9, 0.03),
        (131_072, "a100 pcie", 20_611.6 - 10_571.8, 0.04),
        (8_192, "h100 nvl", 921.2 - 742.4, 0.15),
        (16_384, "h100 nvl", 1_291.3 - 921.2, 0.15),
        (32_768, "h100 nvl", 2_488.8 - 1_291.3, 0.04),
        (65_536, "h100 nvl", 5_395.4 - 2_488.8, 0.16),
        (131_072, "h100 nvl", 10_308.2 - 5_395.4, 0.02),  # set to this one
    ],
)
def test_a_softmax_reads_rows_three_times_that_shared_memory_cannot_keep(
    columns: int, board: str, measured_us: float, tolerance: float
) -> None:
    longer, shorter = (
        _eager_us(lambda width=width: functional.log_softmax(full((_ROWS, width), _F32), -1), board)
        for width in (columns, columns // 2)
    )
    assert longer - shorter == pytest.approx(measured_us, rel=tolerance)


def test_a_softmax_over_a_vocabulary_in_float64_moves_four_times_its_bytes() -> None:
    """2,394 x 126,464 numbers of 8 bytes, read three times and written: 9.69 GB at 0.856 of 2,039 GB/s are 5.55 ms."""
    took_us = eager_us(lambda: full((2_394, 126_464), torch.float64).softmax(-1), load_chip("a100-sxm-80gb"))
    assert took_us == pytest.approx(5.55e3, rel=0.03)
