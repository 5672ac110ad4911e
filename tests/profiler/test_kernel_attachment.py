"""Kernels joined to recorded calls: on hand-written profiler files, and on what torch.profiler writes on a CPU."""

import json
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
import torch

from profiler.capture import capture, phase
from profiler.capture.devices import DeviceDescription, describe_device
from profiler.errors import TraceError
from profiler.importers.kineto_attach import ClockLine, ClockMark, align_clocks, attach_kernels
from profiler.importers.kineto_file import read_kineto
from profiler.memory import memory_use
from profiler.storage import load_trace, save_trace
from profiler.traces import ATTRIBUTIONS, KERNEL_CATEGORIES

# In the files below, the profiler's clock is 1,000,000 us ahead of the host's, and calls count from 500 us of the host.
AHEAD_US = 1_000_000
ORIGIN_S = 500e-6


def event(cat, name, host_us, dur_us, tid=1, **args):
    return {
        "ph": "X",
        "cat": cat,
        "name": name,
        "pid": 7,
        "tid": tid,
        "ts": host_us + AHEAD_US,
        "dur": dur_us,
        "args": args,
    }


def launch(host_us, correlation, name="cudaLaunchKernel", tid=1):
    return event("cuda_runtime", name, host_us, 1, tid=tid, correlation=correlation)


def kernel(name, host_us, dur_us, correlation, cat="kernel", stream=7):
    return event(cat, name, host_us, dur_us, tid=stream, correlation=correlation, device=0, stream=stream)


MARKS = (event("user_annotation", "begin", 100, 2), event("user_annotation", "end", 9_000, 2))
BEGIN, END = (ClockMark(name="begin", host_ns=101_000),), (ClockMark(name="end", host_ns=9_001_000),)


def recorded(*spans_us):
    """A trace of products, exponentials, ... with the given (start, duration) on the host."""
    x = torch.ones(4, 8)
    with torch.no_grad(), capture() as recording:
        for position in range(len(spans_us)):
            with phase("encode", step=position):
                _ = x @ x.T if position % 2 == 0 else x.exp()
    calls = recording.trace.calls
    starts_s = np.array([start * 1e-6 - ORIGIN_S for start, _ in spans_us])
    calls = replace(calls, start_s=starts_s, duration_s=np.array([duration * 1e-6 for _, duration in spans_us]))
    return replace(recording.trace, calls=calls)


@pytest.fixture
def attach(tmp_path):
    def build(trace, *events):
        path = tmp_path / "profile.json"
        path.write_text(json.dumps({"traceEvents": [*MARKS, *events]}))
        file = read_kineto(path, may_lack_kernels=True)
        return attach_kernels(trace, file, align_clocks(file, BEGIN, END), ORIGIN_S)

    return build


def names_by_call(trace):
    found = [[] for _ in range(len(trace.calls))]
    for call, name in zip(trace.kernels.call, trace.kernels.name, strict=True):
        found[call].append(trace.kernel_names[name])
    return found


def test_each_call_gets_the_kernels_launched_during_it_and_their_times(attach):
    trace = attach(
        recorded((500, 50), (600, 50)),
        launch(510, 1), launch(520, 2), launch(610, 3),
        kernel("gemm", 700, 30, 1), kernel("splitk_reduce", 730, 5, 2), kernel("exp", 740, 8, 3),
    )  # fmt: skip
    assert names_by_call(trace) == [["gemm", "splitk_reduce"], ["exp"]]
    assert trace.to_frame().kind.tolist() == ["gemm", "pointwise"]
    assert trace.calls.start_s == pytest.approx([200e-6, 240e-6], abs=1e-9)  # 700 and 740 us, from 500 us
    assert trace.calls.duration_s == pytest.approx([35e-6, 8e-6], abs=1e-12)
    assert trace.calls.stream.tolist() == [7, 7]
    assert {ATTRIBUTIONS[index] for index in trace.kernels.attribution} == {"correlation"}
    assert trace.kernels.start_s == pytest.approx([200e-6, 230e-6, 240e-6], abs=1e-9)


def test_launch_between_two_calls_belongs_to_neither(attach):
    """A kernel that a program launches itself, with no operation of torch around it."""
    trace = attach(
        recorded((500, 50), (600, 50)),
        launch(510, 1), launch(570, 2), launch(610, 3),
        kernel("gemm", 700, 30, 1), kernel("triton_fused", 730, 6, 2), kernel("exp", 740, 8, 3),
    )  # fmt: skip
    assert names_by_call(trace) == [["gemm"], ["triton_fused"], ["exp"]]  # where it was launched
    frame = trace.to_frame()
    assert frame.kind.tolist()[1] == "unknown"
    assert frame.phase.tolist() == ["encode", "", "encode"]
    assert frame.step.tolist() == [0, -1, 1]
    assert trace.calls.duration_s == pytest.approx([30e-6, 6e-6, 8e-6])
    assert ATTRIBUTIONS[trace.kernels.attribution[1]] == "unexplained"
    assert "1 that no recorded call launched" in trace.provenance.notes[-1]


def test_kernels_of_a_graph_replay_stay_visible_even_where_a_call_surrounds_it(attach):
    trace = attach(
        recorded((500, 50)),
        launch(510, 1, name="cudaGraphLaunch"),
        kernel("gemm", 700, 30, 1), kernel("exp", 731, 4, 1),
    )  # fmt: skip
    assert sorted(map(tuple, names_by_call(trace))) == [(), ("exp",), ("gemm",)]
    assert [ATTRIBUTIONS[index] for index in trace.kernels.attribution] == ["unexplained"] * 2


def test_program_that_only_replays_a_graph_is_a_trace_of_its_kernels(attach):
    trace = attach(
        recorded(), launch(510, 1, name="cudaGraphLaunch"), kernel("gemm", 700, 30, 1), kernel("exp", 731, 4, 1)
    )
    assert names_by_call(trace) == [["gemm"], ["exp"]]
    assert trace.calls.duration_s == pytest.approx([30e-6, 4e-6])


def test_kernel_whose_launch_the_file_lacks_is_unexplained(attach):
    trace = attach(recorded((500, 50)), kernel("stray", 520, 30, 99))  # runs while the call does, and proves nothing
    assert [ATTRIBUTIONS[index] for index in trace.kernels.attribution] == ["unexplained"]


def test_call_without_a_kernel_has_no_time_rather_than_the_hosts(attach):
    trace = attach(recorded((500, 50), (600, 50)), launch(510, 1), kernel("gemm", 700, 30, 1))
    assert np.isnan(trace.calls.duration_s).tolist() == [False, True]
    assert np.isnan(trace.calls.start_s).tolist() == [False, True]
    assert "attached to 1 of 2 recorded calls" in trace.provenance.notes[-1]


def test_launch_on_another_thread_belongs_to_the_call_that_waits_for_it(attach):
    trace = attach(recorded((500, 50)), launch(510, 1, tid=2), kernel("gemm", 700, 30, 1))
    assert names_by_call(trace) == [["gemm"]]


def test_copies_and_collectives_keep_their_category(attach):
    trace = attach(
        recorded((500, 50)),
        launch(510, 1, name="cudaMemcpyAsync"), launch(580, 2),
        kernel("Memcpy HtoD", 700, 30, 1, cat="gpu_memcpy"), kernel("ncclDevKernel_AllReduce_Sum_f32", 740, 9, 2),
    )  # fmt: skip
    assert names_by_call(trace) == [["Memcpy HtoD"], ["ncclDevKernel_AllReduce_Sum_f32"]]
    assert [KERNEL_CATEGORIES[index] for index in trace.kernels.category] == ["memcpy", "collective"]


def test_dataflow_is_as_recorded_and_the_trace_survives_saving(attach, tmp_path):
    plain = recorded((500, 50), (600, 50))
    trace = attach(plain, launch(510, 1), launch(570, 2), kernel("gemm", 700, 30, 1), kernel("triton", 730, 6, 2))
    assert [trace.ops[op].name for op in trace.calls.op][1] == "triton"
    of_recorded = np.array([True, False, True])
    for column in ("reads", "writes", "replaces"):
        assert getattr(trace.select(of_recorded).calls, column).tolist() == getattr(plain.calls, column).tolist()
    stray = trace.select(~of_recorded).calls
    assert not set(stray.reads) & set(plain.calls.reads)
    assert not set(stray.writes) & set(plain.calls.writes)
    assert memory_use(trace).peak_bytes == memory_use(plain).peak_bytes  # what a stray kernel holds is unknown,
    assert memory_use(trace).unknown_storages == memory_use(plain).unknown_storages + 2  # and named as unknown
    save_trace(trace, tmp_path / "t.parquet")
    assert load_trace(tmp_path / "t.parquet") == trace


def test_file_without_kernels_leaves_the_hosts_times_and_says_so(attach):
    plain = recorded((500, 50))
    trace = attach(plain)
    assert trace.calls == plain.calls
    assert "saw none on any device" in trace.provenance.notes[-1]


def test_clock_that_runs_fast_is_followed_over_the_whole_run():
    line = ClockLine(
        host_ns=(0, 10_000_000_000), file_ps=(5_000_000, 10_001_000_000_000 + 5_000_000), uncertainty_s=0.0
    )
    assert line.host_s(5_000_000) == pytest.approx(0.0, abs=1e-12)
    assert line.host_s(5_000_500_000_000 + 5_000_000) == pytest.approx(5.0, abs=1e-9)  # 100 us too fast a second


def test_marks_narrow_each_other_down(tmp_path):
    """Ranges of 2 us around readings at their ends leave an offset between 1,000,000.0 and 1,000,000.2 us."""
    ranges = [event("user_annotation", name, start, 2) for name, start in (("a", 100), ("b", 200), ("c", 300))]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"traceEvents": ranges}))
    begin = (ClockMark(name="a", host_ns=100_000), ClockMark(name="b", host_ns=201_800))
    line = align_clocks(read_kineto(path, may_lack_kernels=True), begin, (ClockMark(name="c", host_ns=301_000),))
    assert line.file_ps[0] == 100_000_000 + AHEAD_US * 1_000_000 + 100_000
    assert line.uncertainty_s == pytest.approx(1e-6)  # of the end, where one range of 2 us stands alone


def test_file_without_the_marks_is_refused(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"traceEvents": [kernel("gemm", 700, 30, 1)]}))
    with pytest.raises(TraceError, match="lacks the ranges that align"):
        align_clocks(read_kineto(path), BEGIN, END)


@pytest.fixture
def pretended_device(monkeypatch):
    """Adds a launch in the middle of each innermost range of some names that torch.profiler timed, and its kernel."""

    def install(*names):
        monkeypatch.setattr("profiler.capture.kernel_profiler.read_kineto", lambda path, **_: read_with(path, names))

    return install


def read_with(path, names):
    document = json.loads(path.read_text(), parse_float=Decimal)
    ops = [one for one in document["traceEvents"] if one.get("name") in names and one["ph"] == "X"]
    ops = [op for op in ops if not any(op["ts"] < one["ts"] < op["ts"] + op["dur"] for one in ops)]
    for number, op in enumerate(sorted(ops, key=lambda one: one["ts"]), start=1):
        runtime = {"ph": "X", "pid": op["pid"], "tid": op["tid"], "dur": 1, "ts": op["ts"] + op["dur"] / 2}
        on_device = {"ph": "X", "pid": 0, "tid": 7, "dur": number, "ts": op["ts"] + op["dur"]}
        args = {"correlation": number, "device": 0, "stream": 7}
        document["traceEvents"] += [
            {**runtime, "cat": "cuda_runtime", "name": "cudaLaunchKernel", "args": args},
            {**on_device, "cat": "kernel", "name": f"kernel of {op['name']}", "args": args},
        ]
    path.write_text(json.dumps(document, default=float))
    return read_kineto(path)


def test_launches_in_a_real_profiler_file_find_the_calls_that_were_recorded_beside_it(pretended_device):
    pretended_device("aten::mm", "aten::exp", "aten::cumsum")
    x = torch.ones(300, 300)
    with torch.no_grad(), capture(kernels=True) as recording:
        for _ in range(5):
            _ = (x @ x).exp().cumsum(0)
    trace = recording.trace
    found = names_by_call(trace)
    assert found == [["kernel of aten::mm"], ["kernel of aten::exp"], ["kernel of aten::cumsum"]] * 5
    assert trace.calls.duration_s == pytest.approx(np.arange(1, 16) * 1e-6)


def test_kernels_alone_are_a_trace_of_the_gpu_that_ran_them(pretended_device, monkeypatch):
    """As a replay of a graph is: no operation is recorded."""
    gpu = DeviceDescription(name="Some GPU", clock_hz=1.7e9)
    monkeypatch.setattr(
        "profiler.capture.kernel_profiler.describe_device", lambda types: gpu if types else describe_device(types)
    )
    pretended_device("replay")
    with capture(kernels=True) as recording, torch.profiler.record_function("replay"):
        pass
    trace = recording.trace
    assert names_by_call(trace) == [["kernel of replay"]]
    assert (trace.provenance.device, trace.provenance.clock_hz) == ("Some GPU", 1.7e9)
    assert not any("nothing was computed" in note for note in trace.provenance.notes)
    assert [ATTRIBUTIONS[index] for index in trace.kernels.attribution] == ["unexplained"]


def test_capture_with_kernels_on_a_cpu_records_as_always_and_says_that_there_are_none():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device: tests/gpu checks what is attached")
    with torch.no_grad(), capture(kernels=True) as recording:
        _ = torch.ones(8, 4) @ torch.ones(4, 2)
    trace = recording.trace
    assert trace.is_measured
    assert len(trace.kernels) == 0
    assert "saw none on any device" in trace.provenance.notes[-1]


def test_kernels_without_times_of_calls_are_refused():
    with pytest.raises(TraceError, match="it needs timing=True"), capture(kernels=True, timing=False):
        pass


def test_failing_program_fails_as_itself_and_leaves_no_profiler_behind():
    with pytest.raises(ZeroDivisionError), capture(kernels=True):
        raise ZeroDivisionError
    with capture(kernels=True) as recording:
        _ = torch.ones(2).exp()
    assert len(recording.trace.calls) > 0
