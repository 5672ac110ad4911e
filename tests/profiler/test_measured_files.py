"""Every measured file imports whole: kernels, times and counters as an independent reading of it finds them."""

import gzip
import json
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from profiler.counter_join import join_counters
from profiler.errors import TraceError
from profiler.importers.registry import find_importer
from profiler.importers.summary import summarize_kernels
from profiler.traces import KERNEL_CATEGORIES

KINETO = (
    "kineto_h100_qwen1.5-0.5b-chat.json.gz",
    "kineto_a100_alexnet.json.gz",
    "kineto_a100_nccl.json.gz",
    "kineto_mi300x_sglang_qwen3-8b_decode.json.gz",
)
NCU = "ncu_bert_flashattn_nsight.csv.gz"
NSYS = "nsys_h100x2_fastvideo_1s.sqlite.gz"
ROCPROF = "rocprof_mi300x_vcopy_pmc_perf.csv"


def busy(intervals: pd.DataFrame) -> float:
    """Length of the union of [start, end), by sweeping over the sorted edges."""
    edges = sorted([(start, 1) for start in intervals.start] + [(end, -1) for end in intervals.end])
    total, depth, since = 0.0, 0, 0.0
    for at, change in edges:
        if depth == 0 and change == 1:
            since = at
        depth += change
        if depth == 0:
            total += at - since
    return total


@pytest.mark.slow
@pytest.mark.parametrize("file", KINETO)
def test_kineto_kernels_busy_time_and_span_are_those_of_the_events(traces_folder: Path, file: str) -> None:
    events = json.loads(gzip.decompress((traces_folder / file).read_bytes()))["traceEvents"]
    device = pd.DataFrame(
        [
            {"cat": event["cat"], "start": event["ts"], "end": event["ts"] + event["dur"]}
            for event in events
            if event.get("ph") == "X" and event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")
        ]
    )
    summary = summarize_kernels(find_importer("kineto")(traces_folder / file))
    assert summary.kernel_count == (device.cat == "kernel").sum()
    # Microseconds since 1970 in 64-bit floats are good to a quarter of a microsecond.
    slack_s = 0.25e-6 * len(device)
    assert summary.busy_s == pytest.approx(busy(device) * 1e-6, abs=slack_s)
    assert summary.span_s == pytest.approx((device.end.max() - device.start.min()) * 1e-6, abs=1e-6)


def test_decode_step_is_busy_for_a_fiftieth_of_the_span_that_its_other_events_stretch(traces_folder: Path) -> None:
    summary = summarize_kernels(find_importer("kineto")(traces_folder / KINETO[3]))
    assert (summary.kernel_count, summary.busy_s) == (555, pytest.approx(9.77e-3, abs=5e-6))
    assert summary.span_s == pytest.approx(474e-3, abs=0.5e-3)


def test_rank_of_distributed_training_is_named(traces_folder: Path) -> None:
    notes = find_importer("kineto")(traces_folder / KINETO[2]).provenance.notes
    assert any("rank 0 of 2 (nccl 2.17.1)" in note for note in notes)


@pytest.fixture(scope="module")
def nsys_tables(traces_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    path = tmp_path_factory.mktemp("nsys") / "plain.sqlite"
    path.write_bytes(gzip.decompress((traces_folder / NSYS).read_bytes()))
    return sqlite3.connect(path)


def test_nsys_kernels_and_copies_are_those_of_the_tables(traces_folder: Path, nsys_tables: sqlite3.Connection) -> None:
    tables = [
        pd.read_sql(f'SELECT start, "end", deviceId FROM CUPTI_ACTIVITY_KIND_{kind}', nsys_tables)
        for kind in ("KERNEL", "MEMCPY", "MEMSET")
    ]
    trace = find_importer("nsys")(traces_folder / NSYS)
    summary = summarize_kernels(trace)
    assert (summary.kernel_count, summary.copy_count) == (3442, len(tables[1]) + len(tables[2]))
    assert summary.kernel_count == len(tables[0])
    assert summary.kernel_s == pytest.approx((tables[0].end - tables[0].start).sum() * 1e-9, rel=1e-12)
    both = pd.concat(tables)
    assert summary.busy_s == pytest.approx(busy(both) * 1e-9, rel=1e-9)
    assert summary.span_s == pytest.approx((both.end.max() - both.start.min()) * 1e-9, rel=1e-12)
    assert set((trace.kernels.stream // 100_000).tolist()) == set(both.deviceId)
    assert trace.provenance.device == ""
    assert any("does not name the GPU" in note for note in trace.provenance.notes)


def test_nsys_kernels_whose_launch_was_recorded_have_the_op_of_the_range_around_it(
    traces_folder: Path, nsys_tables: sqlite3.Connection
) -> None:
    """The same join in SQL: the innermost range of the launching thread, among those with a rule that costs."""
    (launched,) = nsys_tables.execute(
        "SELECT count(*) FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN CUPTI_ACTIVITY_KIND_RUNTIME r "
        "ON r.correlationId = k.correlationId AND (r.globalTid & ~16777215) = k.globalPid"
    ).fetchone()
    trace = find_importer("nsys")(traces_folder / NSYS)
    is_kernel = trace.kernels.category == KERNEL_CATEGORIES.index("kernel")
    names = np.array([op.name for op in trace.ops])[trace.calls.op[trace.kernels.call]]
    assert is_kernel.sum() == 3442
    assert np.char.startswith(names[is_kernel], "aten::").sum() == launched == 1632
    gemm = np.array(["gemm" in name for name in trace.kernel_names])[trace.kernels.name] & is_kernel
    assert set(names[gemm & np.char.startswith(names, "aten::")]) <= {
        "aten::mm",
        "aten::bmm",
        "aten::addmm",
        "aten::linear",
    }


def test_ncu_counters_are_those_of_the_file(traces_folder: Path) -> None:
    rows = pd.read_csv(traces_folder / NCU, thousands=",", dtype={"Metric Value": str}, index_col=False)
    values = rows[rows["Metric Name"].str.contains("__", na=False)].copy()
    values["value"] = values["Metric Value"].str.replace(",", "").astype(float)
    table = values.pivot_table(index="ID", columns="Metric Name", values="value", aggfunc="first").sort_index()
    trace = find_importer("ncu")(traces_folder / NCU)
    assert len(trace.kernels) == len(table) == 10
    for counter, metric in (
        ("dram_bytes", "dram__bytes.sum"),
        ("l2_bytes", "lts__t_bytes.sum"),
        ("l1_bytes", "l1tex__t_bytes.sum"),
    ):
        assert trace.counted(counter).tolist() == table[metric].tolist()
    instructions = table.filter(like="sm__sass_thread_inst_executed_op_")
    weights = [2 if "fma" in name else 1 for name in instructions.columns]
    assert trace.counted("vector_flops").tolist() == (instructions @ weights).tolist()
    cycles, rate = table["sm__cycles_elapsed.avg"], table["sm__cycles_elapsed.avg.per_second"]
    assert trace.calls.duration_s.tolist() == pytest.approx((cycles / rate).tolist(), abs=1e-12)
    assert trace.provenance.clock_hz == pytest.approx(rate.median())
    assert summarize_kernels(trace).busy_s is None


def test_rocprof_vector_copy_moves_what_it_must(traces_folder: Path) -> None:
    """1,048,576 doubles are read and written: 8.4 MB each way across the fabric, a little more for code."""
    trace = find_importer("rocprof")(traces_folder / ROCPROF)
    assert trace.kernel_names == ("vecCopy(double*, double*, double*, int, int)",)
    assert len(trace.kernels) == 3
    must_move = 2 * 8 * 1_048_576
    assert trace.counted("dram_bytes").tolist() == pytest.approx([must_move] * 3, rel=2e-3)
    assert (trace.counted("dram_bytes") >= must_move).all()
    assert (trace.counted("vector_flops") == 0).all()
    assert trace.provenance.device == "MI300X_A1"
    assert ("rocm", "6.2.0-13611") in trace.provenance.packages


def test_rocprof_channels_add_up_to_the_sums_of_the_file(traces_folder: Path) -> None:
    from profiler.importers.amd_counters import total_instances
    from profiler.importers.rocprof_rows import read_rocprof

    for dispatch in read_rocprof(traces_folder / ROCPROF).dispatches:
        channels = {name: value for name, value in dispatch.counters.items() if "[" in name}
        assert len([name for name in channels if name.startswith("TCC_WRITE[")]) == 128
        sums = total_instances(channels)
        for name in ("TCC_WRITE_sum", "TCC_EA0_WRREQ_sum", "TCC_EA0_WRREQ_64B_sum"):
            assert sums[name] == dispatch.counters[name]


def test_rocprof_times_that_a_spreadsheet_rounded_are_unknown(traces_folder: Path) -> None:
    trace = find_importer("rocprof")(traces_folder / ROCPROF)
    assert np.isnan(trace.calls.duration_s).all()
    assert any("rounded, as a spreadsheet does" in note for note in trace.provenance.notes)
    assert summarize_kernels(trace).kernel_s is None


def test_counters_of_another_program_do_not_join(traces_folder: Path) -> None:
    counted = find_importer("rocprof")(traces_folder / ROCPROF)
    with pytest.raises(TraceError, match="are they runs of the same program"):
        join_counters(find_importer("kineto")(traces_folder / KINETO[1]), counted)
