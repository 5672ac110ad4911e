"""Micro-benchmarks: rates from a clock that is known, doubts that are noticed, and one real run."""

import os
from array import array
from itertools import count

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="micro-benchmarks need torch")

from profiler.capture import (  # noqa: E402
    bench,
    eager_benchmarks,
    kernel_benchmarks,
    microbenchmarks,
    product_benchmarks,
)
from profiler.capture.bench import Bench, faster  # noqa: E402
from profiler.capture.machine import ProcessorUse, cpu_caches, processor_use, waited_s  # noqa: E402
from profiler.capture.microbenchmarks import MicrobenchmarkRun  # noqa: E402
from profiler.capture.timers import follow_chain, time_on_host  # noqa: E402
from profiler.errors import TraceError  # noqa: E402
from profiler.measurements import measurement_from_times  # noqa: E402
from roofline.calibration import chip_from_measurements  # noqa: E402

KIB, MIB = 2**10, 2**20


@pytest.fixture
def small_run(monkeypatch):
    """A run of a fraction of a second on a quiet machine where every call takes exactly 2 ms."""
    monkeypatch.setattr(product_benchmarks, "SQUARE_SIZES", {"cpu": (32, 64), "cuda": ()})
    monkeypatch.setattr(product_benchmarks, "_SQUARE_BUDGET_S", {"brief": 1e9})
    monkeypatch.setattr(product_benchmarks, "_WEIGHT_SIZE", {"cpu": 64})
    monkeypatch.setattr(microbenchmarks, "_LATENCY_SETS", (16 * KIB, 64 * KIB))
    monkeypatch.setattr(microbenchmarks, "free_memory_bytes", lambda device: 4 * 256 * KIB)
    monkeypatch.setattr(microbenchmarks, "_TRAFFIC_BYTES", {"cpu": 64 * KIB})
    monkeypatch.setattr(kernel_benchmarks, "_FUNCTION_ELEMENTS", {"cpu": 64})
    monkeypatch.setattr(kernel_benchmarks, "_REDUCED", (8, 16))
    monkeypatch.setattr(kernel_benchmarks, "_SORTED", (2, 64))
    monkeypatch.setattr(kernel_benchmarks, "_GATHERED", (32, 16))
    monkeypatch.setattr(eager_benchmarks, "cpu_caches", lambda: ())
    monkeypatch.setattr(eager_benchmarks, "_LAST_CACHE_BYTES", (256 * KIB, 256 * KIB))
    monkeypatch.setattr(eager_benchmarks, "_FRESH_BYTES", 64 * KIB)
    monkeypatch.setattr(eager_benchmarks, "EAGER_WEIGHT_SIZE", 64)
    monkeypatch.setattr(bench, "_RUNS", {"brief": (3, 3)})
    monkeypatch.setattr(bench, "waited_s", lambda: 0.0)
    for module in (bench, kernel_benchmarks):
        monkeypatch.setattr(module, "time_on_host", lambda run, calls: (run(), 2e-3 * calls)[1])
    ticks = count()
    monkeypatch.setattr(microbenchmarks.time, "perf_counter", lambda: float(next(ticks)))  # a chain takes 1 s
    quiet = ProcessorUse(wall_s=0.0, own_s=0.0, busy_s=None)
    monkeypatch.setattr(microbenchmarks, "processor_use", lambda: quiet)
    monkeypatch.setattr(microbenchmarks, "_REPEAT_UNTIL_S", {"brief": 1e9})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other are slow where other programs run
    yield MicrobenchmarkRun(mode="brief")
    torch.set_num_threads(threads)


def test_rates_are_work_over_time(small_run):
    names = [progress.name for progress in small_run]
    result = small_run.result
    assert names[0] == "dispatch"
    assert "matmul bfloat16" in names and "bandwidth 256 KiB" in names and names[-1] == "latency 64 KiB, again"
    products = {(dtype, found.conditions.partition("^")[0]): found.value for dtype, found in result.matmul}
    assert products["float32", "64"] == pytest.approx(2 * 64**3 / 2e-3)
    assert result.exponential.value == pytest.approx(64 / 2e-3)
    assert result.dispatch.value == pytest.approx(2e-3)
    assert result.launch is None
    kernels = {found.name: found.value for found in result.kernels}
    assert kernels["tall_skinny float32"] == pytest.approx(2 * 32 * 64 * 64 / 2e-3)
    assert kernels["gemv bfloat16"] == pytest.approx(2 * 64 * 64 / 2e-3)
    assert kernels["sort"] == kernels["topk"] == pytest.approx(2 * 64 / 2e-3)
    assert kernels["reduction"] == pytest.approx(4 * 8 * 16 / 2e-3)
    assert kernels["gather"] == pytest.approx(2 * 16 * 256 / 2e-3)
    assert kernels["tanh"] == kernels["logarithm"] == kernels["sine"] == result.exponential.value
    assert "gemv int8" not in kernels and "graph_launch" not in kernels
    # a set of 16 KiB is read four times to make 64 KiB; one of 256 KiB once
    reads = {point.working_set_bytes: point.read.value for point in result.bandwidth}
    assert reads[16 * KIB] == pytest.approx(64 * KIB / 2e-3)
    assert reads[256 * KIB] == pytest.approx(256 * KIB / 2e-3)
    assert list(reads) == sorted(reads)


def test_eager_figures_are_all_that_a_chip_takes(small_run):
    """Every run takes 2 ms, and 1 s behind a stream: what a program waits for between two ticks of the clock."""
    list(small_run)
    result = small_run.result
    eager = {found.name: found.value for found in result.eager}
    assert result.eager_reaches == (64 * KIB, 512 * KIB)
    assert eager["eager near call"] == eager["eager far call"] == eager["eager near module"] == 1.0
    assert eager["eager 1 rows float32"] == eager["eager 16 held rows bfloat16"] == pytest.approx(2e-3)
    assert eager["eager many queries"] == pytest.approx(4 * 8 * 256 * 256 * 64 / 2e-3)
    assert eager["eager one query"] == pytest.approx(4 * 2 * 8 * 2048 * 64 / 2e-3)
    assert eager["eager fresh"] == pytest.approx(64 * KIB / 2e-3)
    assert eager["eager convolution 3"] == pytest.approx(2 * 4 * 28 * 28 * 64 * 64 * 9 / 2e-3)
    assert not any(found.name in eager for found in result.kernels)
    constants = dict(chip_from_measurements(result).chip.calibration)
    assert constants["eager.host.conv.flops_per_s"] == pytest.approx(eager["eager convolution 3"], rel=0.5)
    assert constants["eager.host.near_bytes"] == 64 * KIB


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
    assert "tall_skinny int8" not in {found.name for found in small_run.result.kernels}


def test_steps_disturbed_in_every_pass_run_once_more_at_the_end(small_run, monkeypatch):
    """Others use half a processor whenever the first two steps run, but for the fifth time, and at no other step."""
    steps = [name for name, _ in microbenchmarks._steps(Bench("brief", "cpu"))]
    planned = [name for number in range(4) for name in steps if number in microbenchmarks._passes_of(name)]
    calls = dict.fromkeys(steps, 0)
    state = {"wall": 0.0, "busy": 0.0, "current": iter([*planned, *steps[:2]]), "begun": False}

    def use():
        if state["begun"]:
            name = next(state["current"])
            calls[name] += 1
            state["wall"] += 1.0
            state["busy"] += 0.5 if name in steps[:2] and calls[name] < 5 else 0.0
        state["begun"] = not state["begun"]
        return ProcessorUse(wall_s=state["wall"], own_s=0.0, busy_s=state["busy"])

    monkeypatch.setattr(microbenchmarks, "processor_use", use)
    progress = list(small_run)
    assert [each.name for each in progress[-2:]] == ["dispatch, once more", "exponential, once more"]
    assert [each.index for each in progress] == list(range(len(progress)))
    assert not any("other programs" in note for note in small_run.result.notes)


def test_third_pass_ends_where_time_is_up(small_run, monkeypatch):
    monkeypatch.setattr(microbenchmarks, "_REPEAT_UNTIL_S", {"brief": 0.0})
    names = [each.name.removesuffix(", again") for each in small_run]
    assert names.count("matmul float64") == 2 and names.count("sort") == 1
    by_name = {found.name: found for found in small_run.result.kernels}
    assert by_name["tanh"].is_settled and by_name["sort"].is_settled is False


def test_ceilings_are_visited_in_four_passes_over_the_whole_run(small_run):
    names = [each.name.removesuffix(", again") for each in small_run]
    assert names.count("matmul float64") == names.count("bandwidth 16 KiB") == names.count("exponential") == 4
    assert names.count("sort") == names.count("latency 64 KiB") == 2
    visits = [index for index, name in enumerate(names) if name == "matmul float64"]
    assert visits[0] < len(names) / 4 and visits[-1] > len(names) / 2
    result = small_run.result
    product = dict(result.matmul)["float64"]
    assert (product.windows, product.halves_differ, product.is_settled) == (4, 0.0, True)
    assert {found.name: found.windows for found in result.kernels}["sort"] == 2


def window(name, value):
    return measurement_from_times(name, np.full(5, 1 / value), amount=1.0, unit="bytes_per_s")


def test_neighbor_in_one_half_of_the_windows_is_noticed_and_the_fastest_counts():
    """Visits 2 and 4 of a copy are slowed to 100 and 80 where 130 is possible: halves of 130 and 100."""
    run = Bench("brief", "cpu")
    for value in (120.0, 100.0, 130.0, 80.0):
        run.visit("copy")
        run.keep(run.single, "copy", window("copy", value))
    found = run.told(run.single["copy"])
    assert found.value == pytest.approx(130.0)
    assert (found.windows, found.halves_differ) == (4, pytest.approx(0.3))
    assert found.is_settled is False and not run.has_settled("copy")
    for _ in range(2):  # the sixth visit is of the slower half
        run.visit("copy")
        run.keep(run.single, "copy", window("copy", 127.0))
    assert run.has_settled("copy")
    assert run.told(run.single["copy"]).halves_differ == pytest.approx(130 / 127 - 1)


def test_sizes_of_one_visit_are_one_window_and_one_half_settles_nothing():
    run = Bench("brief", "cpu")
    run.visit("products")
    for size, value in ((256, 90.0), (512, 100.0)):
        run.keep(run.square, ("float32", size), window("matmul float32", value))
    found = run.told(run.square["float32", 512])
    assert (found.windows, found.halves_differ, found.is_settled) == (1, None, False)
    assert run.has_settled("products")


def test_figure_that_does_not_settle_is_measured_again_until_time_is_up(small_run, monkeypatch):
    """Every other visit of the sine is half as fast; each visit takes a second of a clock that ends after 200."""
    clock = [0.0]
    visits = []
    measure = microbenchmarks.measure_function

    def unsteady(run, name):
        if name != "sine":
            return measure(run, name)
        visits.append(clock[0])
        return run.keep(run.single, "sine", window("sine", 1.0 + len(visits) % 2))

    def run_step(run, name, step):
        clock[0] += 1.0
        return real_run_step(run, name, step)

    real_run_step = microbenchmarks._run_step
    monkeypatch.setattr(microbenchmarks, "measure_function", unsteady)
    monkeypatch.setattr(microbenchmarks, "_run_step", run_step)
    monkeypatch.setattr(microbenchmarks, "_REPEAT_UNTIL_S", {"brief": 200.0})
    monkeypatch.setattr(microbenchmarks.time, "monotonic", lambda: clock[0])
    names = [each.name for each in small_run]
    assert names[-1] == "sine, once more" and clock[0] == 200.0
    assert {name for name in names if name.endswith("once more")} == {"sine, once more"}
    (sine,) = [found for found in small_run.result.kernels if found.name == "sine"]
    assert (sine.windows, sine.halves_differ) == (len(visits), pytest.approx(1.0))


def test_only_the_fastest_sizes_of_a_product_are_measured_again(monkeypatch):
    """FLOP/s of sizes 32, 64 and 128 are as 1, 2 and 4 where all take equally long: only the last is near the best."""
    monkeypatch.setattr(product_benchmarks, "SQUARE_SIZES", {"cpu": (32, 64, 128), "cuda": ()})
    monkeypatch.setattr(product_benchmarks, "_SQUARE_BUDGET_S", {"brief": 1e9})
    monkeypatch.setattr(bench, "time_on_host", lambda run, calls: (run(), 2e-3 * calls)[1])
    monkeypatch.setattr(bench, "waited_s", lambda: 0.0)
    run = Bench("brief", "cpu")
    sizes = []
    measure = product_benchmarks._measure_square_of
    monkeypatch.setattr(
        product_benchmarks, "_measure_square_of", lambda *these: sizes.append(these[2]) or measure(*these)
    )
    for _ in range(2):
        run.visit("matmul float32")
        product_benchmarks.measure_square(run, "float32")
    assert sizes == [32, 64, 128, 128]


def test_fastest_of_several_medians_counts():
    slow, fast = (measurement_from_times("x", np.full(5, t), amount=1.0, unit="bytes_per_s") for t in (2.0, 1.0))
    assert faster(None, slow) is slow
    assert faster(slow, fast) is faster(fast, slow) is fast
    slow, fast = (measurement_from_times("x", np.full(5, t)) for t in (2.0, 1.0))
    assert faster(slow, fast) is faster(fast, slow) is fast


def test_runs_that_waited_for_a_processor_are_left_out(monkeypatch):
    """Every other run waits 3 ms of its 4; three that did not wait are enough."""
    times = iter([4e-3, 1e-3] * 100)
    waited = iter(np.cumsum([0.0, *[3e-3, 0.0] * 100]))
    monkeypatch.setattr(bench, "waited_s", lambda: next(waited))
    kept = Bench("brief", "cpu").sample(lambda: next(times), 0.01)
    assert kept.tolist() == [1e-3] * 3


@pytest.mark.parametrize(("threads", "seconds"), [(1, 1e-3), (3, 3e-3)])
def test_waiting_is_taken_away_where_every_run_waits(monkeypatch, threads, seconds):
    """All but two runs wait 3 ms of their 4, as one thread does; three threads of 1 ms each wait at the same time."""
    waited = iter(np.cumsum([0.0, 0.0, 0.0, *[3e-3] * 1000]))
    monkeypatch.setattr(bench, "waited_s", lambda: next(waited))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    times = []
    found = Bench("brief", "cpu").sample(lambda: times.append(4e-3) or 4e-3, 0.01)
    assert found[:2].tolist() == [4e-3] * 2
    assert found[2:] == pytest.approx(seconds)
    assert 0.3 <= sum(times) <= 0.33  # no longer than patience goes


def test_waiting_of_the_host_is_not_taken_away_from_a_gpus_time(monkeypatch):
    waited = iter(np.arange(1000.0))
    monkeypatch.setattr(bench, "waited_s", lambda: next(waited))
    assert set(Bench("brief", "cuda").sample(lambda: 4e-3, 0.01).tolist()) == {4e-3}


def test_waiting_is_summed_over_threads(tmp_path):
    for thread, text in (("1", "5 2000000000 3\n"), ("2", "5 500000000 3\n"), ("3", "")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    assert waited_s(tmp_path) == pytest.approx(2.5)
    assert waited_s(tmp_path / "nowhere") == 0.0


def test_disturbance_that_stays_is_named_in_the_notes(small_run, monkeypatch):
    uses = (ProcessorUse(wall_s=i, own_s=0.0, busy_s=1.5 * i) for i in range(10_000))
    monkeypatch.setattr(microbenchmarks, "processor_use", lambda: next(uses))
    list(small_run)
    (note,) = [note for note in small_run.result.notes if note.startswith("other programs")]
    assert "up to 150 % of one processor" in note and "dispatch" in note and "and more" in note
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


@pytest.mark.gpu
def test_cuda_graph_issues_kernels_faster_than_a_stream_and_all_reduce_shows_the_link():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: launch overhead in a graph and all-reduce are not measured")
    run = Bench("brief", "cuda")
    with torch.inference_mode():
        kernel_benchmarks.measure_dispatch(run)
    assert 1e-7 < run.single["graph_launch"].value <= 1.2 * run.single["launch"].value < 1e-4
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device: all-reduce is not measured")
    kernel_benchmarks.measure_all_reduce(run)
    assert run.single["all_reduce bandwidth"].value > 1e9
    assert 1e-7 < run.single["all_reduce latency"].value < 1e-3
