"""Exported files: valid by the format's own document, figures equal to the trace's, names that do nothing."""

import gzip
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner
from work import python_calls

from profiler.storage import save_trace
from profiler.traces import Kernels
from reports.cli import app
from reports.errors import ReportError
from reports.exporters.csv import export_csv
from reports.exporters.perfetto import export_perfetto
from reports.exporters.rates import binned_amounts
from reports.exporters.registry import find_exporter, list_exporters
from reports.exporters.tracks import lanes, spans_of
from simulator import analytic, event


def load_beside(name):
    specification = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


read_events = load_beside("trace_event_format").read_events


def exported(trace, tmp_path, simulation=None):
    return read_events(export_perfetto(trace, tmp_path / "t.json", simulation=simulation).read_text())


def slices(document, category):
    return [event for event in document["traceEvents"] if event["ph"] == "X" and event["cat"] == category]


@pytest.fixture
def launched(decoding):
    """Three steps of three calls of 2 us; the first call of each ran as two kernels on stream 7 and a copy on 8."""
    calls = np.array([0, 0, 0, 3, 3, 3, 6, 6, 6])
    start_s = np.repeat([0.0, 6e-6, 12e-6], 3) + np.tile([0.0, 1e-6, 0.5e-6], 3)
    kernels = Kernels(
        call=calls,
        name=np.tile([0, 1, 2], 3),
        category=np.tile([0, 0, 1], 3),
        attribution=np.zeros(9, dtype=np.int64),
        stream=np.tile([7, 7, 100_008], 3),
        start_s=start_s,
        duration_s=np.tile([1e-6, 0.5e-6, 1.5e-6], 3),
    )
    return replace(decoding.trace, kernels=kernels, kernel_names=("gemm<64>", "reduce", "Memcpy HtoD"))


def test_every_call_is_a_slice_with_its_time_and_its_work(decoding, tmp_path):
    document = exported(decoding.trace, tmp_path)
    ops = slices(document, "cpu_op")
    assert [event["ts"] for event in ops] == [2.0 * i for i in range(9)]
    assert {event["dur"] for event in ops} == {2.0}
    gemm = ops[3]
    assert gemm["name"] == "aten::mm"
    assert gemm["args"]["flops"] == 1024 and gemm["args"]["bytes"] == 448
    assert (gemm["args"]["phase"], gemm["args"]["step"]) == ("decode", 1)


def test_phases_and_steps_span_their_calls(decoding, tmp_path):
    document = exported(decoding.trace, tmp_path)
    (phase,) = slices(document, "phase")
    assert (phase["name"], phase["ts"], phase["dur"]) == ("decode", 0.0, 18.0)
    assert [(s["name"], s["ts"], s["dur"]) for s in slices(document, "step")] == [
        ("step 0", 0.0, 6.0),
        ("step 1", 6.0, 6.0),
        ("step 2", 12.0, 6.0),
    ]


def test_modules_are_nested_as_in_their_paths(decoding, tmp_path):
    trace = decoding.trace
    module = np.array([0, 1, 1, 0, 2, 2, 0, 1, 2])
    trace = replace(trace, calls=replace(trace.calls, module=module), modules=("M", "M.layers.0", "M.layers.1"))
    found = [(s["name"], s["ts"], s["dur"]) for s in slices(exported(trace, tmp_path), "module")]
    assert sorted(found, key=lambda each: (each[1], -each[2])) == [
        ("M", 0.0, 6.0), ("layers", 2.0, 4.0), ("0", 2.0, 4.0),
        ("M", 6.0, 6.0), ("layers", 8.0, 4.0), ("1", 8.0, 4.0),
        ("M", 12.0, 6.0), ("layers", 14.0, 4.0), ("0", 14.0, 2.0), ("1", 16.0, 2.0),
    ]  # fmt: skip


def test_kernels_stand_on_their_streams_with_arrows_from_their_calls(launched, tmp_path):
    document = exported(launched, tmp_path)
    kernels, copies = slices(document, "kernel"), slices(document, "gpu_memcpy")
    assert (len(kernels), len(copies)) == (6, 3)
    assert sum(event["dur"] for event in kernels) == pytest.approx(3 * 1.5)
    assert {(event["args"]["device"], event["args"]["stream"]) for event in copies} == {(1, 8)}
    assert len({event["tid"] for event in (*kernels, *copies)}) == 2
    arrows = [event for event in document["traceEvents"] if event["ph"] in "sf"]
    assert len(arrows) == 2 * 9
    of_first = [event for event in arrows if event["id"] == 2]
    assert [(event["ph"], event["ts"]) for event in of_first] == [("s", 0.0), ("f", 1.0)]


def test_counters_hold_all_work_that_was_done(launched, decoding, tmp_path):
    """The integral of a rate is the work: 3 x (1,024 + 100) FLOPs, 3 x (448 + 800 + 400) bytes, kernels or not."""
    for trace in (decoding.trace, launched):
        events = exported(trace, tmp_path)["traceEvents"]
        for name, total in (("achieved FLOP/s", 3 * 1124), ("achieved bytes/s", 3 * 1648)):
            counter = [event for event in events if event["ph"] == "C" and event["name"] == name]
            at = np.array([event["ts"] for event in counter]) * 1e-6
            values = np.array([next(iter(event["args"].values())) for event in counter])
            assert (values[:-1] * np.diff(at)).sum() == pytest.approx(total, rel=0.01)  # edges in whole ns
            assert values[-1] == 0.0


def test_power_is_shown_where_energy_was_measured_and_nowhere_else(decoding, tmp_path):
    energy_j = np.array([1e-4, 1e-4, 1e-4, np.nan, np.nan, np.nan, 2e-4, 2e-4, 2e-4])
    trace = replace(decoding.trace, calls=replace(decoding.trace.calls, energy_j=energy_j))
    power = [event for event in exported(trace, tmp_path)["traceEvents"] if event.get("name") == "power"]
    assert [round(event["args"]["power_w"], 6) for event in power if event["ts"] < 6] == [50.0]
    assert not [event for event in power if 6.01 < event["ts"] < 11.98]
    assert {round(event["args"]["power_w"]) for event in power if event["ts"] > 11.98} == {100}
    assert not [event for event in exported(decoding.trace, tmp_path)["traceEvents"] if event.get("name") == "power"]


@pytest.mark.parametrize("engine", [analytic, event])
def test_simulated_timeline_is_a_group_of_its_own_that_says_so(decoding, toy_chip, tmp_path, engine):
    simulation = engine.simulate(decoding.trace, toy_chip)
    document = exported(decoding.trace, tmp_path, simulation)
    simulated = slices(document, "simulated")
    assert len(simulated) == 9
    assert sum(event["dur"] for event in simulated) == pytest.approx(simulation.duration_s.sum() * 1e6, abs=9e-3)
    (pid,) = {event["pid"] for event in simulated}
    names = {e["pid"]: e["args"]["name"] for e in document["traceEvents"] if e["name"] == "process_name"}
    assert "predicted" in names[pid] and simulation.engine in names[pid]
    assert all("measured" in name for number, name in names.items() if number != pid)
    assert {event["pid"] for event in slices(document, "cpu_op")}.isdisjoint({pid})


def test_shapes_alone_have_no_timeline_until_simulated(denoising, tmp_path):
    with pytest.raises(ReportError, match=r"nothing of it was measured.*--chip"):
        export_perfetto(denoising.trace, tmp_path / "t.json")
    assert list(tmp_path.iterdir()) == []
    assert len(slices(exported(denoising.trace, tmp_path, denoising.simulation), "simulated")) == 4


def test_hostile_names_stay_names(hostile, tmp_path):
    path = export_perfetto(hostile.trace, tmp_path / "t.json")
    text = path.read_text(encoding="ascii")
    assert "<" not in text and "\x1b" not in text
    document = read_events(text)
    assert {event["name"] for event in slices(document, "kernel")} == set(hostile.trace.kernel_names)
    unknown = next(event for event in slices(document, "cpu_op") if event["args"]["kind"] == "unknown")
    assert unknown["args"]["flops"] is None and unknown["name"] == hostile.trace.ops[1].name
    assert document["otherData"]["calls_with_unknown_flops_or_bytes"] == 1


def test_odd_names_and_times_are_still_valid(launched, tmp_path):
    kernels = replace(
        launched.kernels,
        start_s=np.where(np.arange(9) == 4, np.inf, launched.kernels.start_s),
        duration_s=np.where(np.arange(9) == 5, 9.2e18, launched.kernels.duration_s),
    )
    trace = replace(launched, kernels=kernels, kernel_names=("\ud800\x1b]0;x\x07", '"\\', "\u2028\U0001f600"))
    document = exported(trace, tmp_path)
    assert len(slices(document, "kernel")) == 5
    assert {event["name"] for event in slices(document, "kernel")} == {"?\x1b]0;x\x07", '"\\'}


def test_overlapping_calls_of_several_streams_get_lanes(launched, tmp_path):
    """Calls in whose order start times jump, as on several streams: the check of the format holds for every track."""
    generator = np.random.default_rng(0)
    calls = launched.calls
    start_s = generator.uniform(0, 5e-6, 9)
    calls = replace(calls, start_s=start_s, stream=np.arange(9) % 2, module=np.arange(9) % 3)
    trace = replace(launched, calls=calls, kernels=Kernels(), modules=("A.x", "A.y", "B"))
    assert len(slices(exported(trace, tmp_path), "cpu_op")) == 9


def test_lanes_hold_no_overlap_and_are_few():
    generator = np.random.default_rng(1)
    start = generator.integers(0, 1000, 300)
    end = start + generator.integers(0, 50, 300)
    lane = lanes(start, end)
    for each in range(lane.max() + 1):
        order = np.lexsort((end[lane == each], start[lane == each]))
        assert (end[lane == each][order][:-1] <= start[lane == each][order][1:]).all()
    busiest = max(int(((start <= t) & (t < end)).sum()) for t in range(1051))
    assert lane.max() + 1 <= busiest + 1  # one more where an interval without length falls into a busy moment


def test_binned_work_is_that_of_a_sum_over_every_interval():
    generator = np.random.default_rng(2)
    start = generator.integers(0, 10_000, 200)
    end = start + generator.integers(0, 300, 200) * generator.integers(0, 2, 200)
    amounts = generator.uniform(0, 5, 200)
    edges = np.linspace(0, 10_300, 38)
    expected = np.zeros(37)
    for s, e, amount in zip(start, end, amounts, strict=True):
        for i in range(37):
            if e == s:
                expected[i] += amount * (edges[i] <= s < edges[i + 1])
            else:
                expected[i] += amount * max(0, min(e, edges[i + 1]) - max(s, edges[i])) / (e - s)
    assert binned_amounts(start, end, amounts, edges) == pytest.approx(expected)


def test_compressed_file_holds_the_same(launched, tmp_path):
    plain = export_perfetto(launched, tmp_path / "a.json").read_bytes()
    packed = export_perfetto(launched, tmp_path / "a.json.gz").read_bytes()
    assert gzip.decompress(packed) == plain
    assert export_perfetto(launched, tmp_path / "b.json.gz").read_bytes() == packed


def test_failed_export_leaves_the_old_file(launched, tmp_path, monkeypatch):
    target = export_perfetto(launched, tmp_path / "t.json")
    before = target.read_bytes()
    monkeypatch.setattr("reports.exporters.perfetto._separated", lambda events: iter(["{", 1 / 0]))
    with pytest.raises(ZeroDivisionError):
        export_perfetto(launched, target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_csv_reads_back_equal(decoding, tmp_path):
    path = export_csv(decoding.trace, tmp_path / "t.csv", simulation=decoding.simulation)
    read = pd.read_csv(path, keep_default_na=False, na_values=[""])
    frame = decoding.trace.to_frame()
    for name in frame:
        ours = frame[name].astype(str).replace("", np.nan) if frame[name].dtype == "category" else frame[name]
        pd.testing.assert_series_equal(read[name], ours, check_dtype=False, check_exact=True)
    assert read["simulated_duration_s"].tolist() == decoding.simulation.duration_s.tolist()


def test_csv_leaves_the_unknown_empty_and_disarms_formulas(hostile, tmp_path):
    trace = replace(hostile.trace, phases=("=HYPERLINK(1)\x1b[2J",))
    lines = export_csv(trace, tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(trace.calls)
    assert '"\'=HYPERLINK(1)\N{REPLACEMENT CHARACTER}[2J"' in lines[1]
    unknown = dict(zip(lines[0].replace('"', "").split(","), lines[2].split(","), strict=True))
    assert unknown["flops"] == "" and unknown["read_bytes"] == "8"


def test_exporters_are_found_by_file_and_keep_the_protocol(decoding, tmp_path):
    assert set(list_exporters()) == {"csv", "perfetto"}
    for name, description in list_exporters().items():
        assert description
        exporter, suffix = find_exporter(name)
        assert exporter(decoding.trace, tmp_path / f"x{suffix}", simulation=decoding.simulation).stat().st_size > 100


def test_command_exports_and_lists_formats(launched, tmp_path, capsys):
    save_trace(launched, tmp_path / "t.parquet")
    arguments = [
        "export",
        "perfetto",
        tmp_path / "t.parquet",
        "-o",
        tmp_path / "t.json",
        "--chip",
        "h100-sxm",
        "--json",
    ]
    result = CliRunner().invoke(app, [*map(str, arguments), "--engine", "event", "--mode", "eager"])
    assert json.loads(result.stdout)["kernels"] == 9
    assert len(slices(read_events((tmp_path / "t.json").read_text()), "simulated")) == 9
    with pytest.raises(ReportError, match=r"unknown export format 'svg'; did you mean 'csv'\? known: csv, perfetto"):
        find_exporter("svg")


def many_calls(trace, count):
    """The trace's calls again and again, one after another."""
    times = -(-count // len(trace.calls))
    calls = trace.calls
    columns = {name: np.tile(getattr(calls, name), times)[:count] for name in ("op", "phase", "module", "stream")}
    return replace(
        trace,
        calls=replace(
            calls,
            **columns,
            step=np.arange(count) // len(calls),
            start_s=np.arange(count) * 2e-6,
            duration_s=np.full(count, 2e-6),
            energy_j=np.full(count, np.nan),
        ),
    )


@pytest.mark.slow
def test_300_000_calls_are_exported_in_few_steps_each(decoding, tmp_path):
    trace = many_calls(decoding.trace, 300_000)
    path, steps = python_calls(lambda: export_perfetto(trace, tmp_path / "t.json"))
    _, more_steps = python_calls(lambda: export_csv(trace, tmp_path / "t.csv"))
    assert steps < 20 * 300_000  # 10 per call as measured
    assert more_steps < 300_000
    with path.open(encoding="ascii") as lines:
        assert sum(line.startswith('{"ph":"X"') and '"cat":"cpu_op"' in line for line in lines) == 300_000


MEASURED = ["kineto_h100_qwen1.5-0.5b-chat", "kineto_a100_nccl", "kineto_mi300x_sglang_qwen3-8b_decode"]


@pytest.mark.parametrize("name", MEASURED)
def test_measured_traces_keep_every_kernel_in_valid_events(name, traces_folder, tmp_path):
    from profiler.importers.kineto import import_kineto

    trace = import_kineto(traces_folder / f"{name}.json.gz")
    document = exported(trace, tmp_path)
    found = [event for category in ("kernel", "gpu_memcpy", "gpu_memset") for event in slices(document, category)]
    assert len(found) == len(trace.kernels)
    assert sum(event["dur"] for event in found) == pytest.approx(trace.kernels.duration_s.sum() * 1e6, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURED)
def test_holistic_trace_analysis_reads_the_same_counts_and_durations(name, traces_folder, tmp_path, monkeypatch):
    analysis = pytest.importorskip(
        "hta.trace_analysis", reason="HolisticTraceAnalysis is not installed (it needs all of JupyterLab)"
    )
    from profiler.importers.kineto import import_kineto

    monkeypatch.setenv("HTA_DISABLE_NS_ROUNDING", "1")  # else it rounds every start and end to whole microseconds
    trace = import_kineto(traces_folder / f"{name}.json.gz")
    path = export_perfetto(trace, tmp_path / "t.json.gz")
    read = analysis.TraceAnalysis(trace_files={0: str(path)})
    frame, symbols = read.t.get_trace(0), read.t.symbol_table.get_sym_table()
    category = np.array([symbols[index] for index in frame["cat"]])
    kernels, categories = trace.kernels, np.array(["kernel", "gpu_memcpy", "gpu_memset", "kernel"])
    for each in np.unique(categories):
        mask = categories[kernels.category] == each
        assert (category == each).sum() == mask.sum()
        assert frame["dur"][category == each].sum() == pytest.approx(kernels.duration_s[mask].sum() * 1e6, rel=1e-9)
    assert (category == "cpu_op").sum() == len(trace.calls)
    spans = spans_of(kernels.start_s, kernels.duration_s)
    breakdown = read.get_temporal_breakdown(visualize=False).iloc[0]
    assert breakdown["kernel_time(us)"] == pytest.approx((spans.end_ns.max() - spans.start_ns.min()) * 1e-3, rel=1e-9)
    by_name = read.get_gpu_kernel_breakdown(visualize=False, num_kernels=5)[1]
    assert len(by_name)
