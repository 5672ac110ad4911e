"""Timing windows against clocks whose every reading is known."""

import math
import time

import pytest
import torch

from profiler.capture import capture
from profiler.capture.clocks import clock_resolution_s, gpu_clock_hz, host_clock_hz
from profiler.capture.windows import TimingWindow, measure, window_json, with_window
from profiler.errors import TraceError
from profiler.storage import load_trace, save_trace


class FakeMachine:
    """A clock that steps 1 us a reading, a program of given durations, and a device that works on behind it."""

    def __init__(self, host_s=0.0, device_s=()):
        self.now_s = 0.0
        self.host_s = host_s
        self.device_s = list(device_s)
        self.busy_until_s = 0.0
        self.waits = 0

    def clock(self):
        self.now_s += 1e-6
        return self.now_s

    def run(self):
        self.now_s += self.host_s
        self.busy_until_s = self.now_s + (self.device_s.pop(0) if self.device_s else 0.0)

    def wait(self):
        self.waits += 1
        self.now_s = max(self.now_s, self.busy_until_s)


def timed(machine, **options):
    return measure(machine.run, synchronize=machine.wait, clock=machine.clock, device_clock=lambda: None, **options)


def window(*runs_s, resolution_s=1e-7, **clocks):
    return TimingWindow(runs_s=runs_s, warmup_count=0, resolution_s=resolution_s, **clocks)


def test_warm_up_is_run_and_not_timed_and_no_timed_run_is_left_out():
    machine = FakeMachine(device_s=[50.0, 40.0, 1.0, 2.0, 9.0])
    found = timed(machine, warmup=2, repeats=3)
    assert found.runs_s == pytest.approx((1.0, 2.0, 9.0), abs=2e-6)
    assert (found.runs, found.warmup_count) == (3, 2)
    assert found.median_s == pytest.approx(2.0, abs=2e-6)
    assert machine.device_s == []


def test_window_holds_the_device_work_of_its_own_run_only():
    machine = FakeMachine(host_s=0.1, device_s=[3.0, 0.5, 0.5])
    found = timed(machine, warmup=1, repeats=2)
    assert found.runs_s == pytest.approx((0.6, 0.6), abs=2e-6)  # the warm-up's 3 s were waited for before


def test_without_a_device_only_the_host_counts():
    machine = FakeMachine(host_s=0.1, device_s=[3.0] * 3)
    found = measure(machine.run, warmup=0, repeats=3, clock=machine.clock, device_clock=lambda: None)
    assert found.runs_s == pytest.approx((0.1,) * 3, abs=2e-6)
    assert machine.waits == 0


def test_spread_is_the_quartiles_distance_over_the_median():
    assert window(8.0, 9.0, 10.0, 11.0, 12.0).spread == pytest.approx((11 - 9) / 10)
    assert window(10.0, 10.0, 10.0, 10.0, 99.0).spread == 0.0  # one outlier moves neither, yet stays among the runs
    assert window(1.0).spread is None


def test_short_window_is_warned_of_against_what_the_clock_resolves():
    def too_short(median_s):
        return any("too short" in text for text in window(median_s, median_s, resolution_s=1e-6).warnings)

    assert too_short(0.99e-4)
    assert not too_short(1.01e-4)


def test_moved_clock_is_warned_of_and_an_unknown_one_is_not():
    def moved(before_hz, after_hz):
        found = window(1.0, 1.0, clock_before_hz=before_hz, clock_after_hz=after_hz).warnings
        return [text for text in found if "clock moved" in text]

    assert "1980 to 1700 MHz" in moved(1.98e9, 1.70e9)[0]
    assert moved(1.70e9, 1.98e9)
    assert not moved(1.98e9, 1.965e9)  # one step of a GPU's clock
    assert not moved(None, 1.98e9)


def test_spread_over_five_percent_is_warned_of():
    assert not window(100.0, 102.0, 104.0).warnings  # (103 - 101) / 102 = 2 %
    assert any("spread 5.8% is over 5%" in text for text in window(100.0, 106.0, 112.24).warnings)
    assert any("nothing of the spread" in text for text in window(1.0).warnings)


def test_clock_is_read_after_the_warm_up_and_after_the_last_run():
    seen = []

    def run():
        seen.append("run")

    def device_clock():
        seen.append("clock")
        return 1e9 * len(seen)

    found = measure(run, warmup=1, repeats=2, device_clock=device_clock)
    assert seen == ["run", "clock", "run", "run", "clock"]
    assert (found.clock_before_hz, found.clock_after_hz) == (2e9, 5e9)


@pytest.mark.parametrize(("warmup", "repeats"), [(-1, 3), (0, 0), (0, -2)])
def test_impossible_counts_are_refused(warmup, repeats):
    with pytest.raises(TraceError, match="warmup must be >= 0 and repeats >= 1"):
        measure(lambda: None, warmup=warmup, repeats=repeats)


def test_failing_program_fails_as_itself():
    def run():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure(run)


def test_resolution_is_the_clocks_step_or_the_wait_if_longer():
    coarse = iter(range(10_000))
    assert clock_resolution_s(lambda: 0.5 * (next(coarse) // 10)) == 0.5
    machine = FakeMachine()

    def wait():
        machine.now_s += 0.25

    assert clock_resolution_s(machine.clock, wait) == pytest.approx(0.25, abs=2e-6)
    assert clock_resolution_s(lambda: 7.0) == math.inf


def test_real_clock_resolves_less_than_a_millisecond():
    assert 0 < clock_resolution_s() < 1e-3


def test_sleep_is_measured_as_what_it_is():
    begin_s = time.perf_counter()
    found = measure(lambda: time.sleep(0.01), warmup=0, repeats=3)
    assert min(found.runs_s) >= 0.01
    assert sum(found.runs_s) < time.perf_counter() - begin_s


def test_host_clock_is_the_fastest_processor_that_may_be_used(tmp_path, monkeypatch):
    for number, khz in enumerate((1_200_000, 3_400_000, 4_900_000)):
        folder = tmp_path / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{khz}\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert host_clock_hz(tmp_path) == 3.4e9
    (tmp_path / "cpu1" / "cpufreq" / "scaling_cur_freq").write_text("<unknown>\n")
    assert host_clock_hz(tmp_path) == 1.2e9


def test_host_clock_falls_back_to_cpuinfo(tmp_path, monkeypatch):
    monkeypatch.setattr("profiler.capture.clocks.cpu_clock_hz", lambda: 2.5e9)
    assert host_clock_hz(tmp_path) == 2.5e9


def test_gpu_clock_is_none_where_nvml_does_not_answer(monkeypatch):
    import pynvml

    def lost():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr("torch.cuda.clock_rate", lost)
    assert gpu_clock_hz() is None
    monkeypatch.setattr("torch.cuda.clock_rate", lambda: 1755)
    assert gpu_clock_hz() == 1.755e9


def test_window_and_its_warnings_are_saved_with_the_trace(tmp_path):
    with torch.no_grad(), capture() as recording:
        torch.ones(2).exp()
    doubtful = window(1.0, 2.0, 3.0)
    save_trace(with_window(recording.trace, doubtful), tmp_path / "t.parquet")
    notes = load_trace(tmp_path / "t.parquet").provenance.notes
    assert any("median 2 s, spread 50.0% (quartiles) over 3 runs" in note for note in notes)
    assert set(doubtful.warnings) <= set(notes)
    assert window_json(doubtful)["runs_s"] == [1.0, 2.0, 3.0]
