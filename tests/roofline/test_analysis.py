"""Roofline points of groups: sums, shares, conservation, what is unknown, and speed."""

import numpy as np
import pytest
from work import python_calls

from roofline.analysis import GROUPINGS, analyze, analyze_frame
from roofline.chipfile import load_chip
from roofline.errors import ChipError


@pytest.fixture
def mixed_trace(build_trace, gemm, softmax_op, unknown_op):
    ops = [gemm(1024, 1024, 1024), gemm(1, 4096, 4096), softmax_op, unknown_op]
    calls = [
        (0, "prefill", -1),
        (2, "prefill", -1),
        (1, "decode", 0),
        (3, "decode", 0),
        (1, "decode", 1),
        (1, "decode", 1),
    ]
    return build_trace(ops, calls, modules=["a", "a", "b", "b", "a", "b"])


def test_group_bound_is_the_sum_of_its_calls_bounds(toy_chip, mixed_trace):
    points = {point.label: point for point in analyze(mixed_trace, toy_chip, by="phase")}
    # prefill: GEMM 214.7 us by compute, softmax 80 us by HBM (8e6 bytes; 5e6 FLOPs take 50 us)
    prefill = points["prefill"]
    assert prefill.bound_s == pytest.approx(214.7483648e-6 + 80e-6, rel=1e-12)
    assert prefill.bound_by == "compute"
    assert prefill.phase == "prefill" and prefill.step is None and prefill.kind == ""
    assert prefill.flops == 2 * 1024**3 + 5_000_000
    # total FLOPs over total bytes: (2^31 + 5e6) / (6,291,456 + 8,000,000)
    assert prefill.intensity == pytest.approx(2_152_483_648 / 14_291_456, rel=1e-12)
    assert points["decode"].bound_by == "hbm"
    assert points["decode"].bound_s == pytest.approx(3 * 335.70816e-6 + 10e-6, rel=1e-12)


def test_modules_that_differ_in_numbers_alone_are_one_layer(toy_chip, build_trace, gemm):
    paths = [
        "net.blocks.0.up",
        "net.blocks.11.up",
        "net.blocks.0.down",
        "Net_0/Layer_3/Attention_3",
        "Net_0/Layer_4/Attention_4",
    ]
    more = ["net.conv2d", "net.norm1", "net.norm2", "net.4bit.x"]
    trace = build_trace([gemm(64, 64, 64)], [(0, "", -1)] * 9, modules=[*paths, *more])
    points = {point.label: point.calls for point in analyze(trace, toy_chip, by="layer")}
    assert points == {
        "net.blocks.*.up": 2,
        "net.blocks.*.down": 1,
        "Net_*/Layer_*/Attention_*": 2,
        "net.conv2d": 1,
        "net.norm1": 1,
        "net.norm2": 1,
        "net.4bit.x": 1,
    }
    up = next(point for point in analyze(trace, toy_chip, by="layer") if point.label == "net.blocks.*.up")
    assert up.flops == 2 * 2 * 64**3


def test_bound_by_is_the_largest_share_and_not_the_group_intensity(toy_chip, build_trace, gemm):
    # two products of 215 us of compute each, one GEMV of 336 us of HBM: in all 94 FLOP/byte, ridge at 100
    trace = build_trace([gemm(1024, 1024, 1024), gemm(1, 4096, 4096)], [(0, "", -1), (0, "", -1), (1, "", -1)])
    (point,) = analyze(trace, toy_chip, by="trace")
    assert point.intensity < toy_chip.ridge_flops_per_byte("bfloat16")
    assert point.bound_by == "compute"


@pytest.mark.parametrize("by", GROUPINGS)
def test_groups_add_up_to_the_trace(toy_chip, mixed_trace, by):
    (whole,) = analyze(mixed_trace, toy_chip, by="trace")
    points = analyze(mixed_trace, toy_chip, by=by)
    for name in ("calls", "bytes", "bound_s", "compute_s", "unknown_calls", "unbounded_calls"):
        assert sum(getattr(point, name) for point in points) == pytest.approx(getattr(whole, name), rel=1e-12), name
    assert sum(point.flops or 0 for point in points) == whole.flops
    roles = sum(value for point in points for _, value in (*point.read_bytes, *point.write_bytes))
    assert roles == whole.bytes
    assert sum(dict(point.memory_s)["hbm"] for point in points) == pytest.approx(whole.bytes / 1e11, rel=1e-12)


def test_steps_are_told_apart_by_phase(toy_chip, mixed_trace):
    points = analyze(mixed_trace, toy_chip, by="step")
    assert [(p.label, p.phase, p.step, p.calls) for p in points] == [
        ("prefill", "prefill", None, 2),
        ("decode[0]", "decode", 0, 2),
        ("decode[1]", "decode", 1, 2),
    ]


def test_points_of_ops_carry_kind_and_shapes(toy_chip, mixed_trace):
    point = analyze(mixed_trace, toy_chip, by="op")[1]
    assert point.label == "mm bfloat16 m=1 n=4096 k=4096"
    assert (point.kind, point.phase, point.calls) == ("gemm", "decode", 3)
    assert dict(point.read_bytes) == {
        "weights": 3 * 2 * 4096**2,
        "kv_cache": 0,
        "activations": 3 * 8192,
        "logits": 0,
    }


def test_unknown_flops_are_none_and_named(toy_chip, mixed_trace):
    points = {point.label: point for point in analyze(mixed_trace, toy_chip, by="kind")}
    secret = points["unknown"]
    assert secret.flops is None and secret.required_flops is None and secret.intensity is None
    assert secret.bound_s == pytest.approx(1e6 / 1e11)
    assert (secret.bound_by, secret.unknown_calls, secret.unbounded_calls) == ("hbm", 1, 0)
    assert secret.unknown_names == ("mylib::secret",)
    assert points["gemm"].unknown_calls == 0 and points["gemm"].unknown_names == ()


def test_unknown_bytes_do_not_dilute_the_intensity(toy_chip, build_trace, gemm, unknown_op):
    trace = build_trace([gemm(1024, 1024, 1024), unknown_op], [(0, "", -1), (1, "", -1)])
    (point,) = analyze(trace, toy_chip, by="trace")
    assert point.intensity == pytest.approx(1024 / 3, rel=1e-12)
    assert point.bytes == 6_291_456 + 1_000_000


def test_intensity_does_not_depend_on_the_caches(toy_chip, build_trace, gemm):
    trace = build_trace([gemm(64, 64, 64)], [(0, "", -1)])
    (cold,), (warm,) = (analyze(trace, toy_chip, by="trace", caches=caches) for caches in ("cold", "warm"))
    assert cold.intensity == warm.intensity == pytest.approx(64 / 3)
    assert dict(warm.level_bytes)["hbm"] == 0
    # 24,576 bytes: 246 ns from HBM, 52 ns of matrix units, 25 ns from L2
    assert (cold.bound_by, warm.bound_by) == ("hbm", "compute")


def test_measured_time_gives_efficiency_and_gap_of_the_same_calls(toy_chip, build_trace, gemm):
    trace = build_trace([gemm(1024, 1024, 1024)], [(0, "", -1)] * 3, duration_s=[400e-6, np.nan, 500e-6])
    (point,) = analyze(trace, toy_chip, by="trace")
    assert point.measured_s == pytest.approx(900e-6)
    assert point.measured_calls == 2
    assert point.efficiency == pytest.approx(2 * 214.7483648 / 900, rel=1e-12)
    assert point.gap_s == pytest.approx(900e-6 - 2 * 214.7483648e-6, rel=1e-12)
    assert point.bound_s == pytest.approx(3 * 214.7483648e-6, rel=1e-12)


def test_without_measurement_nothing_is_claimed(toy_chip, mixed_trace):
    (point,) = analyze(mixed_trace, toy_chip, by="trace")
    assert point.measured_s is None and point.efficiency is None and point.gap_s is None


def test_frame_has_one_row_per_group_and_flat_columns(toy_chip, mixed_trace):
    frame = analyze_frame(mixed_trace, toy_chip, by="kind")
    assert list(frame["label"]) == ["gemm", "softmax", "unknown"]
    assert frame.loc[0, "hbm_bytes"] == 6_291_456 + 3 * 33_570_816
    assert frame.loc[0, "read_weights_bytes"] == 2 * 1024**2 + 3 * 2 * 4096**2
    assert np.isnan(frame.loc[2, "flops"])


def test_empty_trace_gives_no_points(toy_chip, build_trace, gemm):
    assert analyze(build_trace([gemm(1, 1, 1)], []), toy_chip, by="phase") == ()


def test_unknown_grouping_is_refused(toy_chip, mixed_trace):
    with pytest.raises(ChipError, match="op, kind, phase, step, module, layer, trace, got 'depth'"):
        analyze(mixed_trace, toy_chip, by="depth")  # type: ignore[arg-type]


def test_quarter_million_calls_take_steps_for_their_points_only(build_trace, gemm, softmax_op):
    ops = [gemm(m, 4096, 4096) for m in range(1, 301)] + [softmax_op]
    rng = np.random.default_rng(0)
    calls = [(int(op), "denoise", index // 1000) for index, op in enumerate(rng.integers(0, len(ops), 250_000))]
    trace = build_trace(ops, calls)
    chip = load_chip("h100-sxm")
    points, steps = python_calls(lambda: analyze(trace, chip, by="step"))
    assert len(points) == 250
    assert steps < 250 * 200  # of each point and op some, of each call none
