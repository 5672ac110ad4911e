"""Micro-benchmarks: rates from a clock that is known, doubts that are noticed, and one real run."""

import os
from array import array

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="micro-benchmarks need torch")

from profiler.capture import microbenchmarks  # noqa: E402
from profiler.capture.machine import ProcessorUse, cpu_caches, processor_use  # noqa: E402
from profiler.capture.microbenchmarks import MicrobenchmarkRun  # noqa: E402
from profiler.capture.timers import follow_chain, time_on_host  # noqa: E402
from profiler.errors import TraceError  # noqa: E402
from profiler.measurements import measurement_from_times  # noqa: E402

KIB, MIB = 2**10, 2**20


@pytest.fixture
def small_run(monkeypatch):
    """A run of a fraction of a second on a quiet machine where every call takes exactly 2 ms."""
    monkeypatch.setattr(microbenchmarks, "_MATMUL_SIZES", {"cpu": (32, 64), "cuda": ()})
    monkeypatch.setattr(microbenchmarks, "_LATENCY_SETS", (16 * KIB, 64 * KIB))
    monkeypatch.setattr(microbenchmarks, "free_memory_bytes", lambda device: 4 * 256 * KIB)
    monkeypatch.setattr(microbenchmarks, "_TRAFFIC_BYTES", {"cpu": 64 * KIB})
    monkeypatch.setattr(microbenchmarks, "time_on_host", lambda run, calls: (run(), 2e-3 * calls)[1])
    quiet = ProcessorUse(wall_s=0.0, own_s=0.0, busy_s=None)
    monkeypatch.setattr(microbenchmarks, "processor_use", lambda: quiet)
    return MicrobenchmarkRun(mode="brief")


def test_rates_are_work_over_time(small_run):
    names = [progress.name for progress in small_run]
    result = small_run.result
    assert names[0] == "dispatch"
    assert "matmul bfloat16" in names and "bandwidth 256 KiB" in names and names[-1] == "latency 64 KiB"
    products = {(dtype, found.conditions.partition("^")[0]): found.value for dtype, found in result.matmul}
    assert products["float32", "64"] == pytest.approx(2 * 64**3 / 2e-3)
    assert result.exponential.value == pytest.approx(2**17 / 2e-3)
    assert result.dispatch.value == pytest.approx(2e-3)
    assert result.launch is None
    # a set of 16 KiB is read four times to make 64 KiB; one of 256 KiB once
    reads = {point.working_set_bytes: point.read.value for point in result.bandwidth}
    assert reads[16 * KIB] == pytest.approx(64 * KIB / 2e-3)
    assert reads[256 * KIB] == pytest.approx(256 * KIB / 2e-3)
    assert list(reads) == sorted(reads)


def test_bandwidth_hidden_by_dispatch_is_not_reported(small_run):
    list(small_run)
    assert all(point.read_write is None for point in small_run.result.bandwidth)


def test_progress_counts_every_step(small_run):
    progress = list(small_run)
    assert [each.index for each in progress] == list(range(progress[0].count))


def test_running_again_measures_again_and_does_not_add_up(small_run):
    first = len(list(small_run))
    count = len(small_run.result.bandwidth)
    assert len(list(small_run)) == first
    assert len(small_run.result.bandwidth) == count


def test_missing_dtype_support_is_a_note(small_run, monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("no int8 here\nsecond line")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    list(small_run)
    assert "int8" not in dict(small_run.result.matmul)
    assert "matmul int8 of 32: not measured: no int8 here" in small_run.result.notes


def test_steps_disturbed_by_other_programs_run_again_at_the_end(small_run, monkeypatch):
    # others use half a processor during the first two steps, and nothing later
    readings = [*(ProcessorUse(wall_s=i, own_s=0.0, busy_s=0.5 * i) for i in range(4))]
    idle = ProcessorUse(wall_s=9.0, own_s=0.0, busy_s=2.0)
    monkeypatch.setattr(microbenchmarks, "processor_use", lambda: readings.pop(0) if readings else idle)
    progress = list(small_run)
    assert [each.name for each in progress[-2:]] == ["dispatch, again", "exponential, again"]
    assert [each.index for each in progress] == list(range(len(progress)))
    assert not any("other programs" in note for note in small_run.result.notes)


def test_disturbance_that_stays_is_named_in_the_notes(small_run, monkeypatch):
    uses = (ProcessorUse(wall_s=i, own_s=0.0, busy_s=1.5 * i) for i in range(10_000))
    monkeypatch.setattr(microbenchmarks, "processor_use", lambda: next(uses))
    list(small_run)
    (note,) = [note for note in small_run.result.notes if note.startswith("other programs")]
    assert "up to 150 % of one processor" in note and "matmul float32" in note
    assert len(small_run.result.bandwidth) == 5


def test_result_before_the_end_is_refused():
    with pytest.raises(TraceError, match="iterate over the run first"):
        _ = MicrobenchmarkRun().result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "quick"}, "mode must be one of brief, full, got 'quick'"),
        ({"device": "tpu"}, "device must be one of cpu, cuda, got 'tpu'"),
    ],
)
def test_wrong_arguments_name_the_allowed_ones(arguments, message):
    with pytest.raises(TraceError, match=message):
        MicrobenchmarkRun(**arguments)


def test_missing_gpu_is_one_clear_line():
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is present")
    with pytest.raises(TraceError, match="torch sees no CUDA device"):
        MicrobenchmarkRun(device="cuda")


def test_iteration_leaves_the_callers_grad_mode_alone(small_run):
    for _ in small_run:
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_measurement_is_median_and_interquartile_range_of_all_runs():
    found = measurement_from_times("x", np.array([1.0, 2.0, 3.0, 4.0, 100.0]), amount=6.0, unit="flops_per_s")
    assert (found.value, found.runs) == (2.0, 5)
    assert found.spread == pytest.approx((4 - 2) / 3)
    assert found.is_doubtful


def test_host_timer_counts_calls():
    calls = []
    assert time_on_host(lambda: calls.append(1), 3) > 0
    assert len(calls) == 3


def test_chain_is_followed_hop_by_hop():
    assert follow_chain(memoryview(array("q", [3, 0, 1, 2])), 0, 2) == 2


def test_caches_are_read_from_sysfs(tmp_path):
    described = [
        ("index0", "1", "Data", "48K", "0"),
        ("index1", "1", "Instruction", "64K", "0"),
        ("index2", "2", "Unified", "2048K", "0"),
        ("index3", "3", "Unified", "480M", "0-1"),
    ]
    for folder, level, kind, size, shared in described:
        (tmp_path / folder).mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
            (tmp_path / folder / name).write_text(f"{text}\n")
    found = [(cache.name, cache.capacity_bytes, cache.per_core) for cache in cpu_caches(tmp_path)]
    assert found == [("l1", 48 * KIB, True), ("l2", 2 * MIB, True), ("l3", 480 * MIB, False)]
    assert cpu_caches(tmp_path / "nowhere") == ()


def test_processor_use_counts_theft_and_not_idling(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 9999 7 0 0 30 0 0\ncpu0 1 2 3\n")
    ticks = processor_use(stat).busy_s * os.sysconf("SC_CLK_TCK")
    assert ticks == pytest.approx(180)
    assert processor_use(tmp_path / "nowhere").busy_s is None


@pytest.mark.slow
def test_brief_run_of_this_machine_is_plausible():
    run = MicrobenchmarkRun(mode="brief")
    list(run)
    result = run.result
    assert {"float32", "float64", "bfloat16"} <= set(dict(result.matmul))
    assert 1e-8 < result.dispatch.value < 1e-3
    assert 1e8 < result.bandwidth[-1].best.value < 1e13
    best = max(point.best.value for point in result.bandwidth)
    assert best >= result.bandwidth[-1].best.value
    assert all(1e-9 < found.value < 1e-4 for _, found in result.latency)
