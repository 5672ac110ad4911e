from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.op import KINDS, Op, Operand
from roofline.bounds import op_bounds
from roofline.chip import Chip, Memory
from simulator.plans import plan_ops

SIZE = st.one_of(st.integers(1, 40), st.sampled_from((63, 65, 127, 128, 129, 1000, 1024, 4097)))


@st.composite
def chips(draw, build):
    """A random chip: any number of memory levels in any order of speed, with and without calibration."""
    names = ("l1", "l2", "llc", "hbm")[-draw(st.integers(1, 4)) :]
    memories = tuple(
        Memory(
            name=name,
            capacity_bytes=draw(st.floats(1e4, 1e10)),
            bandwidth_bytes_per_s=draw(st.floats(1e9, 1e14)),
            latency_s=draw(st.floats(0, 1e-6)),
            per_core=name == "l1",
        )
        for name in names
    )
    calibration = draw(
        st.dictionaries(
            st.sampled_from(("matrix_efficiency", "memory_efficiency", "ingest_bytes_per_clock_per_core")),
            st.floats(0.3, 1.2),
        )
    )
    calibration |= draw(st.dictionaries(st.sampled_from(("t0_s", "wave_s", "split_k_s")), st.floats(0, 1e-5)))
    calibration |= draw(st.dictionaries(st.sampled_from(("smooth_max_p", "cluster_cores")), st.floats(1, 8)))
    return build.chip(
        cores=draw(st.integers(1, 300)),
        clock_hz=draw(st.floats(1e8, 4e9)),
        launch_s=draw(st.floats(0, 1e-5)),
        matrix_macs=(("bfloat16", draw(st.floats(1, 1e4))),) if draw(st.booleans()) else (),
        memories=memories,
        calibration=tuple(calibration.items()),
    )


def assert_physical(ops: list[Op], chip: Chip) -> None:
    table = plan_ops(ops, [chip])
    duration_s = table.duration_s[:, 0]
    bound_s = np.nan_to_num(op_bounds(ops, chip).bound_s)
    assert np.isfinite(duration_s).all()
    assert (duration_s >= bound_s * (1 - 1e-12)).all()
    assert np.isfinite(table.columns.traffic_bytes).all()
    for unit in ("matrix_s", "vector_s", "special_s"):
        assert (getattr(table.columns, unit) >= 0).all()
        assert (getattr(table.columns, unit) <= table.columns.core_s).all()
    np.testing.assert_allclose(table.bound_s[:, 0], bound_s, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_time_is_never_below_the_roofline_bound_on_random_chips(build, data):
    chip = data.draw(chips(build))
    ops = [build.any_op(kind, data.draw(SIZE), data.draw(SIZE), data.draw(SIZE)) for kind in KINDS]
    assert_physical(ops, chip)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_time_is_never_below_the_roofline_bound_on_shipped_chips(build, shipped_chips, data):
    ops = [build.any_op(kind, data.draw(SIZE), data.draw(SIZE), data.draw(SIZE)) for kind in KINDS]
    for chip in shipped_chips():
        assert_physical(ops, chip)


def test_doubling_all_rates_without_overheads_halves_the_time(build):
    ops = [build.any_op(kind, a, b, c) for kind in KINDS for a, b, c in ((1000, 777, 512), (1, 4096, 4096), (33, 1, 7))]
    slow = build.chip()
    fast = build.chip(
        clock_hz=2e9,
        memories=build.memories(rate=2),
        links=tuple(type(link)(name=link.name, bandwidth_bytes_per_s=2e11, latency_s=0.0) for link in slow.links),
    )
    slow_s, fast_s = plan_ops(ops, [slow, fast]).duration_s.T
    assert (slow_s == 2 * fast_s).all()


def test_empty_ops_cost_only_their_launch(build):
    ops = [build.any_op(kind, 0, 0, 0) for kind in KINDS]
    chip = build.chip(launch_s=2e-6, memories=build.memories(latency_s=5e-7))
    assert plan_ops(ops, [chip]).duration_s[:, 0] == pytest.approx(2e-6)


def test_columns_agree_with_one_op_on_one_chip(build):
    ops = [build.any_op(kind, 300, 200, 100) for kind in KINDS]
    flat = Chip(
        **{name: getattr(build.chip(name="flat"), name) for name in Chip.__slots__}
        | {"memories": (Memory(name="ram", capacity_bytes=1e9, bandwidth_bytes_per_s=1e11, latency_s=1e-7),)}
    )
    several = [build.chip(), flat, build.chip(name="small", cores=7)]
    together = plan_ops(ops, several)
    for c, chip in enumerate(several):
        for o, op in enumerate(ops):
            alone = plan_ops([op], [chip])
            assert alone.duration_s[0, 0] == together.duration_s[o, c]
            assert alone.plan(0) == together.plan(o, c)
            assert alone.plan(0).duration_s == pytest.approx(alone.duration_s[0, 0], rel=1e-12)


def test_large_aligned_gemm_without_overheads_takes_its_flops_at_peak(build):
    # 6400 x 6400 in 128 x 128 tiles is 2,500 tiles, 25 for each of 100 cores: no quantization loss.
    plan = plan_ops([build.gemm(6400, 6400, 8192)], [build.chip(memories=build.memories(rate=100))]).plan(0)
    flops_s = 2 * 6400 * 6400 * 8192 / (2 * 1024 * 100 * 1e9)
    assert plan.core_s == pytest.approx(flops_s, rel=1e-12)
    assert plan.duration_s == pytest.approx(flops_s, rel=0.01)  # the first operands' load remains


def test_wave_quantization_costs_a_whole_tile_of_time(build):
    # 101 heads of one 16 x 16 tile each on 100 cores: the busiest core has two.
    chip = build.chip(memories=build.memories(rate=1000), calibration=(("split_k_s", 1.0),))
    one, two = plan_ops(
        [build.gemm(16, 16, 4096, batch=100), build.gemm(16, 16, 4096, batch=101)], [chip]
    ).columns.matrix_s
    assert two[0] == 2 * one[0]


def test_split_k_fills_idle_cores_when_its_second_pass_is_cheap(build):
    deep = build.gemm(16, 16, 65536)
    cheap = plan_ops([deep], [build.chip()]).plan(0)
    dear = plan_ops([deep], [build.chip(calibration=(("split_k_s", 1.0),))]).plan(0)
    assert cheap.split > 1
    assert cheap.cores_used == cheap.split
    assert dear.split == 1


def test_gemv_moves_each_weight_once_and_is_bound_by_main_memory(build):
    plan = plan_ops([build.gemm(1, 16384, 8192)], [build.chip()]).plan(0)
    assert dict(plan.traffic_bytes)["hbm"] == 2 * (8192 + 16384 * 8192 + 16384)
    assert plan.memory_s == max(seconds for _, seconds in plan.level_s)
    assert plan.memory_s > plan.core_s


def test_operands_beyond_the_last_cache_are_read_again(build):
    op = build.gemm(16384, 16384, 16384)
    moved = 2 * 3 * 16384**2
    small = build.chip()
    large = build.chip(
        memories=tuple(
            m if m.name != "l2" else Memory(name="l2", capacity_bytes=4e9, bandwidth_bytes_per_s=5e12, latency_s=0.0)
            for m in small.memories
        )
    )
    assert dict(plan_ops([op], [small]).plan(0).traffic_bytes)["hbm"] > moved
    assert dict(plan_ops([op], [large]).plan(0).traffic_bytes)["hbm"] == moved


def test_clusters_fetch_a_common_panel_once(build):
    alone = plan_ops([build.gemm(4096, 4096, 4096)], [build.chip()]).plan(0)
    pair = plan_ops([build.gemm(4096, 4096, 4096)], [build.chip(calibration=(("cluster_cores", 2),))]).plan(0)
    assert dict(alone.traffic_bytes)["l2"] == dict(alone.traffic_bytes)["l1"]
    assert dict(pair.traffic_bytes)["l2"] < dict(pair.traffic_bytes)["l1"]
    assert pair.duration_s <= alone.duration_s


def test_type_without_matrix_units_runs_on_the_vector_units(build):
    matrix, vector = (
        plan_ops([build.gemm(1024, 1024, 1024, dtype=d)], [build.chip()]).plan(0) for d in ("bfloat16", "float32")
    )
    assert matrix.vector_s == 0
    assert vector.matrix_s == 0
    assert vector.vector_s >= 2 * 1024**3 / (256 * 100 * 1e9)


def test_fitted_efficiency_above_one_does_not_beat_the_peak(build):
    op = build.gemm(6400, 6400, 8192)
    beyond, peak = (
        plan_ops([op], [build.chip(calibration=calibration)]).duration_s[0, 0]
        for calibration in ((("matrix_efficiency", 1.03), ("memory_efficiency", 1.2)), ())
    )
    assert beyond == peak


def test_causal_attention_takes_about_half_of_full_attention(build):
    causal, full = plan_ops(
        [build.attention(4, 32, 32, 8192, 8192, 128, causal) for causal in (True, False)], [build.chip()]
    ).duration_s[:, 0]
    assert 0.5 <= causal / full < 0.54  # the tiles along the diagonal are computed whole


def test_decode_attention_splits_keys_and_packs_query_heads(build):
    # A core takes in 32 GB/s of the memory's 1 TB/s, so 8 KV heads on 8 cores would leave three quarters of it idle.
    chip = build.chip(calibration=(("ingest_bytes_per_clock_per_core", 32.0),))
    plan = plan_ops([build.attention(1, 32, 8, 1, 65536, 128, False)], [chip]).plan(0)
    assert plan.split >= 4
    assert plan.cores_used >= 32
    # Each KV head is read once for its four query heads: the K and V that exist, and little else.
    assert dict(plan.traffic_bytes)["l2"] < 1.01 * (2 * 2 * 8 * 65536 * 128)


def test_exponentials_bound_attention_where_special_units_are_slow(build):
    op = build.attention(8, 16, 16, 4096, 4096, 64, False)
    slow = plan_ops([op], [build.chip(special_flops=1.0)]).plan(0)
    exponentials = 8 * 16 * 4096 * 4096
    assert slow.special_s >= exponentials / (1.0 * 100 * 1e9)
    assert slow.core_s >= slow.special_s


def test_few_elements_do_not_reach_the_memory_bandwidth(build):
    """Little's law: the latency is paid before the stream, so 1 us at 1 TB/s halves the bandwidth of 1 MB."""
    chip = build.chip(memories=build.memories(latency_s=1e-6))
    op = build.pointwise(1_000_000 // 6 + 1)
    expected_s = 1e-6 + 1e-6 / 3 + 1e-6
    assert plan_ops([op], [chip]).duration_s[0, 0] == pytest.approx(expected_s, rel=0.25)


def test_softmax_reads_again_what_a_core_cannot_hold_of_its_rows(build):
    """A core holds 200,000 bytes and has one row: of 8,192 bytes, then of 400,000, of which it loses the half."""
    short, long = plan_ops(
        [build.rows("softmax", 100, 4096), build.rows("softmax", 100, 200_000)], [build.chip()]
    ).columns.traffic_bytes[1, :, 0]
    assert short == 2 * 2 * 100 * 4096
    assert long == 2.5 * 2 * 100 * 200_000


def test_gathered_rows_move_in_whole_sectors(build):
    narrow, wide = plan_ops(
        [build.indexed("gather", 1000, 1), build.indexed("gather", 1000, 16)], [build.chip()]
    ).columns.traffic_bytes[0, :, 0]
    assert narrow == 1000 * (2 + 8 + 2) + 1000 * 30
    assert wide == 1000 * (32 + 8 + 32)


def test_ring_all_reduce_takes_its_closed_form(build):
    # 2 (r - 1) / r of 2 MB over 100 GB/s with r = 4: 30 us.
    plan = plan_ops([build.collective(1_000_000, 4)], [build.chip()]).plan(0)
    assert plan.link_s == pytest.approx(30e-6)
    assert plan_ops([build.collective(1_000_000, 4)], [build.chip(links=())]).plan(0).link_s == 0


@pytest.mark.parametrize("kind", KINDS)
def test_four_times_the_size_never_takes_less_time(build, shipped_chips, kind):
    small = [build.any_op(kind, n, n, 64) for n in (16, 64, 256, 1024)]
    large = [build.any_op(kind, 4 * n, 4 * n, 64) for n in (16, 64, 256, 1024)]
    # Small products of a library may take longer than larger ones (docs/kernels/products.md): its rule is left out.
    chips = [
        replace(chip, calibration=tuple(entry for entry in chip.calibration if "slice_below_macs" not in entry[0]))
        for chip in shipped_chips()
    ]
    table = plan_ops([*small, *large], chips)
    assert (table.duration_s[4:] >= table.duration_s[:4]).all()


def test_unknown_bytes_and_flops_are_partial_not_zero(build):
    op = Op(
        kind="unknown",
        name="my::op",
        dtype="float32",
        inputs=(Operand(shape=(4,), dtype="float32", moved_bytes=None),),
        matrix_flops=None,
        vector_flops=None,
    )
    assert plan_ops([op, build.pointwise(8)], [build.chip()]).op_columns.is_partial[:, 0].tolist() == [True, False]
