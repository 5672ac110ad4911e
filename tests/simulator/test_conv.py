"""Depthwise convolutions by hand: bytes, blocks and kept inputs; other convolutions as products; measured ones."""

import numpy as np
import pandas as pd
import pytest

from roofline.chipfile import load_chip
from simulator.op_columns import OpColumns
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns, plan_ops
from simulator.validation.scores import predict_s, score
from simulator.validation.silicon import package_folder, silicon_table

LAYER = {"kind": "conv", "dtype": "bfloat16", "sequences": 2, "positions": 16, "channels": 32, "window": 4}
CONSTANTS = (("conv.setup_s", 1e-3), ("conv.block_clocks", 1e6), ("conv.part_s", 1e-5), ("conv.scalar_ratio", 2.0))


def columns(**changes):
    return ops_from_frame(pd.DataFrame([{**LAYER, **changes}]))


def test_bytes_and_flops():
    ops = columns()
    inputs, weights, kept = (
        2 * 2 * 16 * 32,
        2 * 32 * 5,
        2 * 2 * 32 * 3,
    )  # a bias a channel, 3 inputs kept of a window of 4
    assert ops.read_bytes.item() == inputs + weights
    assert ops.write_bytes.item() == inputs + kept
    assert columns(update=1).read_bytes.item() == inputs + weights + kept
    assert ops.matrix_flops.item() == 2 * 2 * 16 * 32 * 4


def test_many_short_rows_cost_what_their_blocks_cost(build):
    chip = build.chip(calibration=CONSTANTS)
    rounds = np.ceil(2 * 4000 / chip.cores)

    def seconds(positions):
        return plan_columns(columns(channels=4000, positions=positions), [chip]).duration_s.item()

    block_s = 1e6 / chip.clock_hz
    assert seconds(16) == pytest.approx(1e-3 + 1e-5 + rounds * block_s, rel=1e-3)
    assert seconds(17) == pytest.approx(1e-3 + 1e-5 + 2 * rounds * block_s, rel=1e-3)  # no vector loads
    assert seconds(2048) == pytest.approx(1e-3 + 2e-5 + rounds * block_s, rel=1e-2)  # two parts, one after the other


def test_an_update_pays_for_its_kept_inputs_and_not_for_blocks(build):
    chip = build.chip(calibration=(*CONSTANTS, ("conv.update_setup_s", 2e-3)))
    ops = columns(sequences=4096, positions=1, channels=4096, update=1)
    assert ops.moved_bytes.item() == pytest.approx((2 + 2 + 6 + 6) * 4096 * 4096, rel=0.001)
    bytes_s = ops.moved_bytes.item() / chip.main_memory.bandwidth_bytes_per_s
    assert plan_columns(ops, [chip]).duration_s.item() == pytest.approx(2e-3 + bytes_s, rel=0.2)


def test_a_repeated_update_finds_small_states_in_the_cache():
    chip = load_chip("h100-sxm")

    def main_bytes(sequences, copies):
        ops = columns(sequences=sequences, positions=1, channels=20480, update=1, weight_copies=copies)
        return plan_columns(ops, [chip]).plan(0).traffic_bytes[-1][1] / ops.moved_bytes.item()

    assert main_bytes(16, 0) == main_bytes(4096, 0) == 1  # cold
    assert main_bytes(16, 1) < 0.01  # 2.6 MB
    assert main_bytes(4096, 1) > 0.99  # 670 MB


def test_only_depthwise_convolutions_leave_the_matrix_units(build):
    whole, depthwise = build.gemm(4096, 64, 576, kind="conv"), build.gemm(4096, 1, 4, batch=512, kind="conv")
    product = build.gemm(4096, 64, 576)
    chip = load_chip("h100-sxm")
    together = plan_ops([depthwise, whole, product, depthwise], [chip])
    assert together.duration_s[1] == together.duration_s[2]
    assert together.columns.matrix_s[[0, 3]].sum() == 0 < together.columns.vector_s[0].item()
    np.testing.assert_array_equal(together.duration_s[0], together.duration_s[3])
    np.testing.assert_allclose(together.duration_s[:1], plan_ops([depthwise], [chip]).duration_s)


def test_a_captured_convolution_tells_its_sequences():
    torch = pytest.importorskip("torch")
    from profiler.capture import capture

    conv = torch.nn.Conv1d(96, 96, 4, groups=96, device="meta")
    with capture() as recording:
        conv(torch.empty(3, 96, 35, device="meta"))
        conv(torch.empty(3, 96, 4, device="meta"))
    ops = OpColumns.from_ops([op for op in recording.trace.ops if op.kind == "conv"])
    assert {name: ops.size(name)[:, 0].tolist() for name in ("sequences", "tokens", "batch", "n", "k", "update")} == {
        "sequences": [3, 3],
        "tokens": [3 * 32, 3],
        "batch": [96, 96],
        "n": [1, 1],
        "k": [4, 4],
        "update": [0, 1],  # one position is a step of generation
    }


@pytest.mark.skipif(package_folder() is None, reason="the extra `silicon` (aiconfigurator-core) is not installed")
@pytest.mark.parametrize(("name", "limits"), [("h100-sxm", (8, 15)), ("h200-sxm", (8, 15)), ("b200-sxm", (8, 15))])
def test_measured_convolutions_of_mamba_layers(name, limits):
    chip = load_chip(name)
    held = silicon_table(chip, "mamba2", "bfloat16", "trtllm").half(held_out=True)
    assert set(np.unique(held.size_class)) == {"tokens 1-256", "tokens 257-4096", "tokens >=4097"}
    is_update = held.ops.size("update")[:, 0] > 0
    for phase, limit in zip((~is_update, is_update), limits, strict=True):
        rows = held.take(np.flatnonzero(phase))
        assert len(rows) > 20
        assert score(rows, predict_s(rows, chip)).mape_percent < limit


@pytest.mark.skipif(package_folder() is None, reason="the extra `silicon` (aiconfigurator-core) is not installed")
def test_constants_move_to_a_chip_of_the_same_cores():
    """H200 differs from H100 in its memory alone; so do the constants that it needs."""
    from dataclasses import replace

    h100, h200 = load_chip("h100-sxm"), load_chip("h200-sxm")
    held = silicon_table(h200, "mamba2", "bfloat16", "trtllm").half(held_out=True)
    moved = replace(h200, calibration=h100.calibration)
    assert score(held, predict_s(held, moved)).mape_percent < 10
