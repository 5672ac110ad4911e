"""Scans by hand: bytes and FLOPs of a recurrence, the kernels of a chunked one, and measured relatives of Mamba-2's."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from roofline.chipfile import load_chip
from simulator.bands import op_bands
from simulator.chip_columns import ChipColumns
from simulator.kernels.scan_phases import chunked_phases
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns, plan_ops
from simulator.validation.scores import predict_s, score
from simulator.validation.silicon import package_folder, silicon_table

# One sequence of 32 positions in 2 chunks; 2 heads of width 4 share one group of 8 states.
SMALL = {"kind": "scan", "dtype": "bfloat16", "rows": 8, "columns": 32, "state": 8, "head_dim": 4, "chunk": 16}
LAYER = {"kind": "scan", "dtype": "bfloat16", "rows": 128 * 64, "state": 128, "head_dim": 64, "groups": 8}


def columns(**changes):
    return ops_from_frame(pd.DataFrame([{**SMALL, **changes}]))


def seconds(chip="h100-sxm", **changes):
    ops = ops_from_frame(pd.DataFrame([{**LAYER, **changes}]))
    return plan_columns(ops, [load_chip(chip)]).duration_s.item()


def test_bytes_and_flops_of_a_recurrence():
    ops = columns()
    # x 8 x 32, step sizes 2 x 32, what enters and leaves the state 2 x 8 x 32; y; the last states 8 x 8.
    assert ops.read_bytes.item() == 2 * (256 + 64 + 512)
    assert ops.write_bytes.item() == 2 * (256 + 64)
    assert columns(starts=1).read_bytes.item() == ops.read_bytes.item() + 2 * 64
    # Into the state and out of it 2 x 8 a channel and position; within chunks 2 x 16 x (8 channels + 8 states).
    assert ops.matrix_flops.item() == 2 * (2 * 256 * 8) + 32 * 2 * 16 * (8 + 8)
    # Nothing else is needed: every input enters the states, every output is read from them.
    assert ops.required_matrix_flops.item() == 2 * (2 * 256 * 8)


def test_a_short_sequence_needs_no_state_for_its_outputs():
    # Two positions: 3 pairs of (2 x 8 states + 2 x 8 channels) FLOPs instead of 2 x 2 x 8 x 8 through the state.
    assert columns(columns=2).required_matrix_flops.item() == 2 * 16 * 8 + 2 * 3 * (8 + 8)


def test_a_cumulative_sum_has_no_state():
    ops = ops_from_frame(pd.DataFrame([{"kind": "scan", "dtype": "float32", "rows": 10, "columns": 100}]))
    assert (ops.vector_flops.item(), ops.read_bytes.item(), ops.write_bytes.item()) == (1000, 4000, 4000)


def test_five_kernels_of_the_dual_form():
    phases = chunked_phases(columns())
    assert [phase.moved_bytes.item() for phase in phases] == [
        10 * 64,  # step sizes in 16 bits to step sizes and decays in 32
        (2 * 4 + 8) * 64 + 2 * 8 * 32 + 4 * 128,  # 4 chunk-heads of 4 x 8 states
        (4 + 2) * 128 + 4 * 64,
        (2 * 2 * 8 + 4 * 16) * 32,
        (2 * 2 * 4 + 8) * 64 + (4 * 16 + 2 * 8) * 32 + 2 * 128,
        0,
    ]
    assert [phase.flops.item() for phase in phases] == [
        *(0, 2 * 64 * 4 * 8, 0, 2 * 32 * 16 * 8, 2 * 4 * (4 * 16 * 16 + 64 * 8), 0)
    ]
    assert [phase.load_steps.item() for phase in phases] == [0, 0, 2, 0, 0, 0]


def test_a_causal_chunk_leaves_out_tiles_above_its_diagonal():
    phases = chunked_phases(columns(columns=256, chunk=256))
    # 4 x 4 tiles of 64, 10 of them on or below the diagonal; then 256 positions against 8 states; 2 heads of 4.
    assert phases[4].flops.item() == 2 * 2 * 4 * (10 * 64 * 64 + 256 * 8)


def test_the_delta_rule_passes_states_on_with_products():
    phases = chunked_phases(columns(columns=128, chunk=64, delta=1))
    assert [int(phase.product_steps.item()) for phase in phases] == [0, 0, 0, 0, 2, 0]
    assert phases[4].flops.item() == 4 * 2 * 128 * 8 * 4  # two products of state x width a position and head
    assert phases[3].flops.item() == 2 * 2 * 128 * 64 * (8 + 4)


def test_kernels_follow_one_another(build):
    """Five kernels of fixed cost, products at half the peak, bytes at half the bandwidth, none overlapped."""
    constants = (("scan.setup_s", 1.0), ("scan.kernel_s", 0.25), ("scan.matrix_efficiency", 0.5))
    chip = build.chip(calibration=(*constants, ("scan.memory_efficiency", 0.5), ("t0_s", 0.0)))
    ops = columns()
    plan = plan_columns(ops, [chip])
    phases = chunked_phases(ops)
    chips = ChipColumns.from_chips([chip])
    macs = chips.macs[ops.dtype[0, 0]].item()
    busiest = [
        phase.flops.item() / phase.blocks.item() * np.ceil(phase.blocks.item() / chip.cores) for phase in phases[:5]
    ]
    products_s = sum(busiest) / (2 * 0.5 * macs * chip.clock_hz)
    waits_s = 2 * chip.main_memory.latency_s
    assert plan.columns.core_s.item() == pytest.approx(products_s + waits_s)
    assert plan.memory_s.item() >= ops.moved_bytes.item() / (0.5 * chip.main_memory.bandwidth_bytes_per_s)
    rest_s = plan.columns.core_s.item() + plan.memory_s.item()
    assert plan.duration_s.item() == pytest.approx(1.0 + 4 * 0.25 + rest_s)


def test_one_position_is_its_states():
    one = seconds(columns=1, rows=256 * 128 * 64, sequences=256)
    states = 2 * 2 * 256 * 128 * 64 * 128  # read and written, 16 bits
    assert states / 3.35e12 < one < 1.5 * states / 3.35e12
    wide = seconds(columns=1, rows=256 * 128 * 64, sequences=256, state_dtype="float32")
    assert wide == pytest.approx(2 * one, rel=0.02)


def test_time_is_linear_in_length_and_chunks_have_a_best_size():
    times = [seconds(columns=n, chunk=128) for n in (8192, 16384, 32768)]
    assert times[1] / times[0] == pytest.approx(2, rel=0.05)
    assert times[2] / times[1] == pytest.approx(2, rel=0.05)
    by_chunk = [seconds(columns=16384, chunk=chunk) for chunk in (16, 128, 4096)]
    assert by_chunk[1] < by_chunk[0]  # few positions carry each chunk's states through memory
    assert by_chunk[1] < by_chunk[2]  # and long chunks are quadratic


def test_a_captured_scan_runs_along_its_rows():
    """Mamba's own operation has a state and no chunks: exponentials bind it, as they do on a GPU."""
    torch = pytest.importorskip("torch")
    from profiler.capture import capture
    from workloads.selective_scan import selective_scan

    x = torch.empty(2, 4096, 5120, dtype=torch.bfloat16, device="meta")
    shared = torch.empty(2, 4096, 16, dtype=torch.bfloat16, device="meta")
    decay, state = (torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in ((5120, 16), (2, 5120, 16)))
    with capture() as recording:
        selective_scan(x, x, decay, shared, shared, state)
    (op,) = (op for op in recording.trace.ops if op.kind == "scan")
    assert (op.size("rows"), op.size("columns"), op.size("state"), op.size("sequences")) == (2 * 5120, 4096, 16, 2)
    chip = load_chip("h100-sxm")
    plan = plan_ops([op], [chip]).plan(0)
    exponentials_s = 2 * 4096 * 5120 * 16 / (chip.special_flops * chip.cores * chip.clock_hz)
    assert plan.special_s == pytest.approx(exponentials_s, rel=0.02)  # 10,240 blocks on 132 cores: 78 rounds of 77.6
    assert plan.duration_s > exponentials_s


@pytest.mark.skipif(package_folder() is None, reason="the extra `silicon` (aiconfigurator-core) is not installed")
@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm", "b200-sxm"])
def test_measured_scans_of_the_delta_rule(name):
    """The nearest relatives of Mamba-2's scan that a table holds, whole sequences and single positions."""
    chip = load_chip(name)
    held = silicon_table(chip, "delta_rule", "bfloat16", "trtllm").half(held_out=True)
    for phase in (held.ops.size("chunk")[:, 0] > 0, held.ops.size("chunk")[:, 0] == 0):
        rows = held.take(np.flatnonzero(phase))
        assert len(rows) > 30
        assert score(rows, predict_s(rows, chip)).mape_percent < 8


def mamba2(heads, length, sequences=1, **changes):
    """A layer of Mamba-2 as the published measurements have it: heads of 64, 128 states, one group, chunks of 256."""
    rows = sequences * heads * 64
    return {**LAYER, "rows": rows, "sequences": sequences, "groups": 1, "columns": length, "chunk": 256, **changes}


def kernel_s(layer, phase, chip):
    """One of the kernels of a scan, by hand, on full cores: products, pairs, bytes; nothing overlaps."""
    kernel = chunked_phases(ops_from_frame(pd.DataFrame([layer])))[phase]
    own = dict(chip.calibration)
    products_s = kernel.flops.item() / (own["scan.matrix_efficiency"] * chip.matrix_flops_per_s("bfloat16"))
    pairs_s = kernel.pairs.item() * own["scan.pair_clocks"] / (chip.clock_hz * chip.cores)
    rate = own["scan.memory_efficiency"] * chip.main_memory.bandwidth_bytes_per_s
    return products_s + pairs_s + kernel.moved_bytes.item() / rate


def test_pairs_are_decayed_one_by_one_between_two_products(build):
    """2 heads, 256 positions in one chunk: 10 of 16 tiles of 64 x 64 are on or below the diagonal, for each head."""
    ops = columns(columns=256, chunk=256)
    assert [phase.pairs.item() for phase in chunked_phases(ops)] == [0, 0, 0, 0, 2 * 10 * 64 * 64, 0]
    # 8 blocks (2 heads, 4 tiles of rows) on at least as many cores: the busiest core has an eighth of the pairs.
    chip = build.chip(calibration=(("t0_s", 0.0),))
    assert chip.cores >= 8
    slower = build.chip(calibration=(("t0_s", 0.0), ("scan.pair_clocks", 0.5)))
    more_s = plan_columns(ops, [slower]).duration_s.item() - plan_columns(ops, [chip]).duration_s.item()
    assert more_s == pytest.approx(81920 / 8 * 0.5 / chip.clock_hz)
    assert all(phase.pairs.item() == 0 for phase in chunked_phases(columns(columns=128, chunk=64, delta=1)))


def test_the_outputs_kernel_that_pair_clocks_are_fitted_to():
    """tile-ai/TileOPs-nightly@076dd68: mamba_ssm 2.3.2 on an H200 locked at 1.5 GHz, main memory at its full rate."""
    chip = replace(load_chip("h200-sxm"), clock_hz=1.5e9)
    measured = ((mamba2(48, 4096), 102.0), (mamba2(80, 2048, 4), 309.2), (mamba2(64, 32768, 2), 2034.6))  # us
    ratios = [1e6 * kernel_s(layer, 4, chip) / measured_us for layer, measured_us in measured]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.02)
    assert ratios == pytest.approx([1.0] * 3, abs=0.06)


def test_kernels_of_the_same_run_that_no_constant_is_set_to():
    """The states' kernel, and all five: a profiler's busy time, without what lies between kernels."""
    chip = replace(load_chip("h200-sxm"), clock_hz=1.5e9)
    for layer, measured_us in ((mamba2(48, 4096), 26.4), (mamba2(80, 2048, 4), 80.3)):
        assert 1e6 * kernel_s(layer, 1, chip) / measured_us == pytest.approx(1.0, abs=0.08)
    own = dict(chip.calibration)
    between_s = own["scan.setup_s"] + 4 * own["scan.kernel_s"]
    for layer, measured_us in ((mamba2(80, 2048), 109.1), (mamba2(64, 8192), 313.3)):
        predicted_s = plan_columns(ops_from_frame(pd.DataFrame([layer])), [chip]).duration_s.item() - between_s
        assert 1e6 * predicted_s / measured_us == pytest.approx(1.0, abs=0.2)  # efficiencies are another scan's


# Tokens a second of one layer, 128 heads, on an H100: vllm-project/vllm pull request 27299, vLLM's five kernels.
VLLM_H100 = {
    1024: 3.452741e6,
    2048: 7.044192e6,
    4096: 12.06409e6,
    8192: 12.62327e6,
    16384: 12.92440e6,
    32768: 11.80002e6,
    65536: 11.06830e6,
    131072: 10.70444e6,
    262144: 10.81547e6,
}


def test_a_layer_on_an_h100_that_no_constant_is_set_to():
    errors = {n: seconds(**{**mamba2(128, n)}) / (n / rate) - 1.0 for n, rate in VLLM_H100.items()}
    long = np.array([error for n, error in errors.items() if n >= 4096])
    assert np.abs(long).mean() < 0.10
    assert np.abs(long).max() < 0.16
    # Shorter ones wait for the host: 0.29 ms for 1,024 positions as for 2,048.
    assert errors[1024] < -0.6 and errors[2048] < -0.3


def test_another_library_does_without_the_pairs():
    """tile-ai/tilelang@be9c08f benchmark/mamba2 on an H800: its outputs kernel takes 0.6 of what Triton's takes."""
    for length, measured_s in {1024: 0.169e-3, 4096: 0.645e-3, 32768: 5.076e-3}.items():
        assert kernel_s(mamba2(80, length, 8), 4, load_chip("h100-sxm")) / measured_s == pytest.approx(1.67, abs=0.06)


def test_bands_say_what_was_measured():
    rows = [{**SMALL, "delta": delta} for delta in (1, 0)]
    filters = {"kind": "conv", "dtype": "bfloat16", "sequences": 1, "positions": 64, "channels": 512}
    frame = pd.DataFrame([*rows, {**filters, "window": 4}, {**filters, "window": 49}])
    bands = [op_bands(ops_from_frame(frame.iloc[[row]]), load_chip("h100-sxm")) for row in range(4)]
    unseen = "kinds that no table holds: the widest band taken"
    assert [band.basis for band in bands] == [
        ("delta_rule measured on h100-sxm",),
        (unseen,),  # Mamba-2's scan borrows constants, not their error
        ("mamba2 measured on h100-sxm",),
        (unseen,),
    ]
    assert bands[1].high_ratio.item() > bands[0].high_ratio.item() > 1
