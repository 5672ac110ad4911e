"""Kernels without a matrix product by hand: fixed cost, rows and their parts, top-k; and held against measured ones."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from roofline.chipfile import load_chip
from simulator.bands import op_bands
from simulator.eager_kernels import eager_chip
from simulator.errors import SimulationError
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns, plan_ops
from simulator.validation.runs import chosen_table, chosen_tables
from simulator.validation.scores import predict_s, score
from simulator.validation.silicon import package_folder, silicon_backends, silicon_table
from simulator.validation.tables import held_out_rows

needs_tables = pytest.mark.skipif(
    package_folder() is None, reason="the extra `silicon` (aiconfigurator-core) is not installed"
)


def columns(**row):
    return ops_from_frame(pd.DataFrame([{"dtype": "bfloat16", **row}]))


def test_a_pointwise_op_may_write_another_type():
    ops = columns(kind="pointwise", elements=1000, output_dtype="float8_e4m3fn")
    assert (ops.read_bytes.item(), ops.write_bytes.item()) == (2000, 1000)
    same = columns(kind="pointwise", elements=1000, inputs=2)
    assert (same.read_bytes.item(), same.write_bytes.item()) == (4000, 2000)


def test_a_stream_takes_its_setup_and_its_bytes(build):
    """6 MB at 0.5 x 1 TB/s are 12 us; the toy memories answer at once."""
    chip = build.chip(calibration=(("elementwise.setup_s", 3e-6), ("elementwise.memory_efficiency", 0.5)))
    assert plan_ops([build.pointwise(1_000_000)], [chip]).duration_s.item() == pytest.approx(15e-6, rel=0.01)


def test_a_cold_stream_waits_longer_for_its_first_access_than_a_replayed_one(build):
    """Main memory answers 1 us after the last cache would, and 600 bytes take no time."""
    chip = build.chip(
        memories=build.memories(latency_s=1e-6),
        calibration=(("elementwise.setup_s", 3e-6), ("elementwise.memory_efficiency", 1.0)),
    )
    cold, warm = (
        plan_columns(columns(kind="pointwise", elements=100, inputs=2, weight_copies=copies), [chip]).duration_s.item()
        for copies in (0, 1)
    )
    extra_s = chip.memories[-1].latency_s - chip.memories[-2].latency_s
    assert extra_s > 0.5e-6
    assert cold - warm == pytest.approx(extra_s, rel=0.01)
    assert warm == pytest.approx(3e-6, rel=0.01)


def test_a_chip_without_constants_keeps_the_latencies_of_its_file(build):
    chip = build.chip(launch_s=5e-6, memories=build.memories(latency_s=1e-6))
    plan = plan_ops([build.pointwise(8)], [chip]).plan(0)
    assert (plan.launch_s, plan.prologue_s) == (5e-6, pytest.approx(1e-6 + chip.memories[-2].latency_s))


def test_rows_cost_their_blocks_or_the_parts_of_one_row(build):
    """Each core of the toy chip takes its blocks one after another, and a long row part by part, twice."""
    constants = (("rows.setup_s", 1e-6), ("rows.row_clocks", 1000), ("rows.part_s", 1e-6))
    chip = build.chip(calibration=constants)
    block_s = 1000 / chip.clock_hz
    many, long = build.rows("norm", 50 * chip.cores, 16), build.rows("norm", 1, 10 * 4096)
    plans = plan_ops([many, long], [chip])
    assert plans.columns.core_s[:, 0].tolist() == pytest.approx([50 * block_s, 20e-6])


def test_short_rows_of_a_softmax_and_of_a_sum_share_a_block(build):
    """A block of a softmax has four warps with two rows of up to 128 columns each; one of a sum takes 4,096 numbers."""
    ops = [build.rows(kind, 6400, 64) for kind in ("norm", "softmax", "reduction")]
    assert plan_ops(ops, [build.chip()]).columns.tiles[:, 0].tolist() == [6400, 800, 100]
    # Eight threads of a warp take a row of 8; a warp one row of more than 128.
    ops = [build.rows("softmax", 6400, width) for width in (8, 5, 128, 129, 1024, 1025)]
    assert plan_ops(ops, [build.chip()]).columns.tiles[:, 0].tolist() == [200, 200, 800, 1600, 1600, 6400]


@pytest.mark.parametrize(
    ("kind", "columns", "clocks"),
    [
        ("norm", 511, 1000),
        ("norm", 512, 2000),  # as long as the shortest that were measured
        ("softmax", 1024, 300),  # four rows a block
        ("softmax", 1032, 1000),  # 2,064 bytes, 129 vectors
        ("softmax", 1033, 4000 + 2 * 1033),  # element by element
    ],
)
def test_rows_of_eager_programs_have_kernels_of_their_own(build, kind, columns, clocks):
    """Eight blocks on every core."""
    constants = (
        *(("rows.setup_s", 1e-6), ("rows.row_clocks", 1000), ("rows.part_s", 1e-12), ("rows.norm_row_clocks", 2000)),
        *(("rows.warp_block_clocks", 300), ("rows.odd_row_clocks", 4000), ("rows.odd_column_clocks", 2)),
    )
    chip = build.chip(calibration=constants)
    rows = 8 * chip.cores * (4 if columns == 1024 else 1)
    frame = pd.DataFrame([{"kind": kind, "rows": rows, "columns": columns, "dtype": "bfloat16"}])
    planned = plan_columns(ops_from_frame(frame), [chip])
    assert planned.columns.core_s.item() == pytest.approx(8 * clocks / chip.clock_hz)


@pytest.mark.parametrize(("flops", "clocks"), [(4, 30_000), (7, 50_000)])
def test_root_mean_square_norms_have_clocks_of_their_own(build, flops, clocks):
    """Four FLOPs an element, where a layer norm has seven; two rows on every core."""
    constants = (("rows.setup_s", 1e-6), ("rows.norm_row_clocks", 50_000), ("rows.rms_row_clocks", 30_000))
    chip = build.chip(calibration=constants)
    op = replace(build.rows("norm", 2 * chip.cores, 600), vector_flops=flops * 2 * chip.cores * 600)
    assert plan_ops([op], [chip]).columns.core_s.item() == pytest.approx(2 * clocks / chip.clock_hz)


@pytest.mark.parametrize("p", [2.0, 8.0])
def test_rows_overlap_clocks_and_bytes_as_their_scope_says(build, p):
    """Clocks set to take as long as the bytes: together 2^(1/p) of either, whatever products of the chip do."""
    constants = (("rows.setup_s", 1e-6), ("rows.part_s", 1e-12), ("smooth_max_p", 1.5), ("rows.smooth_max_p", p))
    rows = 1000 * build.chip().cores
    frame = pd.DataFrame([{"kind": "norm", "rows": rows, "columns": 600, "dtype": "bfloat16"}])
    bytes_s = plan_columns(ops_from_frame(frame), [build.chip(calibration=constants)]).plan(0).memory_s
    row_clocks = bytes_s * build.chip().clock_hz / 1000
    chip = build.chip(calibration=(*constants, ("rows.row_clocks", row_clocks)))
    planned = plan_columns(ops_from_frame(frame), [chip]).plan(0)
    core_s = bytes_s
    assert planned.memory_s == pytest.approx(core_s, rel=0.01)
    assert planned.core_s + planned.exposed_s == pytest.approx(2 ** (1 / p) * core_s, rel=0.01)


def test_a_top_k_takes_a_core_a_row(build):
    """1,000 clocks and one a column: rows of 4,000 columns, two on the busiest core."""
    chip = build.chip(calibration=(("topk.setup_s", 1e-6), ("topk.row_clocks", 1000), ("topk.column_clocks", 1)))
    plan = plan_ops([build.rows("topk", chip.cores + 1, 4000)], [chip])
    assert plan.columns.core_s.item() == pytest.approx(2 * 5000 / chip.clock_hz)


def test_kinds_that_no_table_holds_name_their_relative():
    chip = load_chip("h100-sxm")
    rows = [
        {"kind": "pointwise", "elements": 10_000_000},
        {"kind": "copy", "elements": 10_000_000},
        {"kind": "softmax", "rows": 128, "columns": 4096},
    ]
    found = op_bands(ops_from_frame(pd.DataFrame(rows).assign(dtype="bfloat16")), chip)
    assert found.basis == (
        "elementwise measured on h100-sxm",
        "copy by its nearest relative, elementwise, with constants of another family",
        "softmax by its nearest relative, row_scale, with constants of another family",
    )
    width = found.high_ratio / found.low_ratio
    assert width[0] < width[1]


@needs_tables
@pytest.mark.parametrize(
    ("op", "dtype", "backend", "most_percent"),
    [
        ("elementwise", "bfloat16", "vllm", 5),
        ("row_scale", "bfloat16", "vllm", 7),
        ("topk", "float32", "sglang", 12),
    ],
)
@pytest.mark.parametrize("chip", ["h100-sxm", "h200-sxm"])
def test_rows_that_no_fit_has_seen_are_met(op, dtype, backend, most_percent, chip):
    loaded = load_chip(chip)
    held = silicon_table(loaded, op, dtype, backend).half(held_out=True)
    found = score(held, predict_s(held, loaded))
    assert found.mape_percent < most_percent
    assert abs(found.bias_percent) < 3


@needs_tables
@pytest.mark.parametrize("chip", ["h100-sxm", "b200-sxm", "l40s"])
def test_large_streams_of_a_kernel_that_no_fit_looked_at_are_met(chip):
    """Mixing residual streams: kernels of another library, with other operands, beyond the caches."""
    loaded = load_chip(chip)
    table = silicon_table(loaded, "mixing", "bfloat16", "vllm")
    large = table.take(np.flatnonzero(table.ops.moved_bytes[:, 0] > 5e8))
    assert len(large) > 20
    assert score(large, predict_s(large, loaded)).mape_percent < 8


@needs_tables
def test_tables_of_single_kernels_only():
    assert silicon_backends("h100-sxm", "elementwise") == ("trtllm", "vllm")
    assert silicon_backends("h100-sxm", "row_scale") == ("vllm",)
    table = silicon_table(load_chip("h100-sxm"), "row_scale", "bfloat16", "vllm")
    # 32,768 rows of 16,384 columns: 0.5244 ms with a fixed scale and 0.1771 ms beyond that.
    row = np.flatnonzero((table.ops.size("rows")[:, 0] == 32768) & (table.ops.size("columns")[:, 0] == 16384))
    assert table.measured_s[row].item() == pytest.approx(0.5244e-3 + 0.1771e-3, rel=1e-3)
    assert table.ops.moved_bytes[row].item() == 3 * 32768 * 16384


@needs_tables
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"chip": "h100-sxm", "op": "row_scale", "backend": "trtllm"}, "no measured row_scale of backend 'trtllm'"),
        ({"op": "moe_as_measured"}, r"op must be one of gemm, moe, .*, got 'moe_as_measured'"),
        ({"chip": "a100-sxm-80gb", "op": "gemm", "dtype": "int8", "backend": "vllm"}, "no rows of dtype int8 in the"),
        ({"chip": "a100-sxm-80gb", "op": "moe", "dtype": "float8_e4m3fn"}, "op 'moe' in float8_e4m3fn on a100-sxm"),
    ],
)
def test_tables_that_there_are_not_are_one_clear_line(asked, message):
    with pytest.raises(SimulationError, match=message):
        chosen_tables(**asked)


@needs_tables
def test_backends_whose_tables_lack_a_type_are_left_out_unless_they_are_named():
    """On an A100 only TensorRT-LLM's table of products holds int8; SGLang's tables of experts hold no 8-bit floats."""
    found = chosen_tables(chip="a100-sxm-80gb", op="gemm", dtype="int8")
    assert [table.backend.split()[0] for table, _ in found] == ["trtllm"]
    experts = chosen_tables(chip="h100-sxm", op="moe", dtype="float8_e4m3fn")
    assert [table.backend.split()[0] for table, _ in experts] == ["trtllm", "vllm"]


@needs_tables
def test_a_fit_to_a_family_that_the_chip_has_no_table_of_is_one_clear_line():
    with pytest.raises(SimulationError, match=r"no measured mixing .* a100-sxm-80gb; backends with a table: none"):
        chosen_table(load_chip("a100-sxm-80gb"), "mixing", "bfloat16", "", None)


_CLOCKS = (
    *(("elementwise.setup_s", 0.0), ("elementwise.thread_clocks", 4.0), ("elementwise.dimension_clocks", 0.25)),
    *(("elementwise.operand_clocks", 0.5), ("elementwise.conversion_clocks", 1.0), ("elementwise.join_clocks", 9.0)),
    *(("elementwise.function_clocks", 2.0), ("elementwise.gelu_clocks", 3.0)),
)


@pytest.mark.parametrize(
    ("sizes", "clocks"),
    [
        # Four elements a thread: 4 / 4; a dimension's division; three operands.
        ({"kind": "pointwise", "inputs": 2, "single_accesses": 3, "single_dimensions": 2}, 1 + 2 * 0.25 + 3 * 0.5),
        ({"kind": "pointwise", "inputs": 2, "single_accesses": 3}, 1 + 0.25 + 3 * 0.5),  # unsaid: one dimension
        # Two a thread where the output is wide, unless it is converted.
        ({"kind": "copy", "dtype": "float32", "single_accesses": 2}, 4 / 2 + 0.25 + 2 * 0.5),
        ({"kind": "copy", "output_dtype": "float32", "single_accesses": 2, "converts": 1}, 1 + 0.25 + 2 * 1.5),
        ({"kind": "copy", "single_accesses": 2, "joins": 1}, 9.0),
        ({"kind": "pointwise", "name": "silu"}, 2.0),
        ({"kind": "pointwise", "name": "gelu"}, 3.0),
        ({"kind": "pointwise", "name": "gelu", "single_accesses": 2}, 3.0),  # the larger of 2.25 and 3
    ],
)
def test_elements_of_eager_kernels_take_clocks_of_their_core(build, sizes, clocks):
    """1,000 tiles of 1,024 elements on 100 cores of 1 GHz: 10 x 1,024 elements on the busiest."""
    chip = build.chip(calibration=_CLOCKS)
    given = {"dtype": "bfloat16", **sizes, "elements": 1_024_000}
    given["single_accesses"] = 1_024_000 * sizes.get("single_accesses", 0)
    assert plan_columns(columns(**given), [chip]).columns.core_s.item() == pytest.approx(10.24e-6 * clocks)


def test_kernels_that_go_along_memory_take_no_such_clocks(build):
    chip = build.chip(calibration=_CLOCKS)
    together = columns(kind="pointwise", name="add", dtype="bfloat16", elements=1_024_000, inputs=2)
    assert plan_columns(together, [chip]).columns.core_s.item() < 1e-6
    compiled = build.chip(calibration=(("elementwise.setup_s", 0.0),))
    single = columns(kind="copy", dtype="bfloat16", elements=1_024_000, single_accesses=2_048_000)
    assert plan_columns(single, [compiled]).columns.core_s.item() < 1e-6


def test_elements_that_lie_apart_take_the_time_of_their_sectors(build):
    """1e6 elements of 2 bytes: 4 MB, and 30 MB more of sectors, through half of the last cache's bandwidth."""
    chip = build.chip(calibration=(("elementwise.setup_s", 0.0), ("elementwise.sector_efficiency", 0.5)))
    cache = next(memory for memory in chip.memories if memory.name == "l2")
    ops = columns(kind="copy", dtype="bfloat16", elements=1e6, scattered_bytes=30e6)
    expected_s = 34e6 / (0.5 * cache.bandwidth_bytes_per_s)
    assert plan_columns(ops, [chip]).columns.core_s.item() == pytest.approx(expected_s)
    unsaid = build.chip(calibration=(("elementwise.setup_s", 0.0),))
    assert plan_columns(ops, [unsaid]).columns.core_s.item() < 0.5 * expected_s


@needs_tables
@pytest.mark.parametrize(
    ("chip", "system", "tolerance"),
    [("h100-sxm", "h100_sxm", 0.02), ("h200-sxm", "h200_sxm", 0.03), ("b200-sxm", "b200_sxm", 0.05)],
)
def test_four_eager_kernels_of_pytorch_take_what_was_measured(chip, system, tolerance):
    """Scale, clamp, convert and copy of bfloat16 to 8 bits; the first converts, and its scale is one number.

    No constant is set to these rows.
    """
    path = package_folder() / system / "quantize/sglang/0.5.14/scale_matrix_perf.parquet"
    frame = pd.read_parquet(path)
    frame = frame[held_out_rows(frame, ("m", "k")) & (frame["m"] * frame["k"] * 21 > 4e8)]
    elements = frame["m"] * frame["k"]
    common = {"elements": elements, "weight_copies": 1}
    kernels = (
        {"kind": "pointwise", "name": "div", "dtype": "bfloat16", "output_dtype": "float32", "converts": 1},
        {"kind": "pointwise", "name": "clamp", "dtype": "float32"},
        {"kind": "copy", "dtype": "float32", "output_dtype": "float8_e4m3fn"},
        {"kind": "copy", "dtype": "float8_e4m3fn"},
    )
    singles = (3 * elements, 0 * elements, 0 * elements, 0 * elements)

    def seconds(loaded):
        planned = [
            plan_columns(ops_from_frame(pd.DataFrame({**common, **kernel, "single_accesses": single})), [loaded])
            for kernel, single in zip(kernels, singles, strict=True)
        ]
        return sum(table.duration_s[:, 0] for table in planned)

    measured_s = frame["latency"].to_numpy() * 1e-3
    assert len(frame) > 100
    assert np.abs(seconds(eager_chip(load_chip(chip))) / measured_s - 1).mean() < tolerance
    assert np.mean(seconds(load_chip(chip)) / measured_s - 1) < -0.15  # bytes alone are not what takes the time
