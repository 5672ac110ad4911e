"""Energy on a trace: phases, steps and calls from a known power, and what stays unknown."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from power_samples import KnownPower

from profiler.capture import EnergyMeter, capture, phase
from profiler.energy import EnergyReadings, SourceReadings
from profiler.energy_calls import BETWEEN, WHOLE, energy_frame, with_energy
from profiler.errors import TraceError
from profiler.storage import load_trace, save_trace


def make_source(time_s, power_w, **changes):
    values = {
        "name": "a",
        "device": "cpu",
        "method": "power",
        "time_s": np.array(time_s),
        "power_w": np.array(power_w),
        "energy_j": np.full(len(time_s), np.nan),
    }
    return SourceReadings(**{**values, **changes})


def make_readings(*sources):
    return EnergyReadings(sources=sources, asked_period_s=0.5, idle_window_s=(-4.0, -2.0), run_window_s=(-1.0, 9.0))


@pytest.fixture
def trace():
    """Calls at 0..2 s (prefill, step 0), 3..5 s and 5..6 s (decode, steps 0 and 1), 6..8 s (prefill, step 1)."""
    with torch.no_grad(), capture(name="x") as recording:
        for name, step in (("prefill", 0), ("decode", 0), ("decode", 1), ("prefill", 1)):
            with phase(name, step=step):
                torch.ones(4, 4) @ torch.ones(4, 4)
    recorded = recording.trace
    matmuls = recorded.select(np.array([recorded.ops[i].kind == "gemm" for i in recorded.calls.op]))
    start_s, duration_s = np.array([0.0, 3.0, 5.0, 6.0]), np.array([2.0, 2.0, 1.0, 2.0])
    return replace(matmuls, calls=replace(matmuls.calls, start_s=start_s, duration_s=duration_s))


# 20 W until 0 s, then 100 W until 5 s, then 50 W; readings every 0.1 s, so that each edge is 0.05 s of a half step off.
RAMP = np.arange(-5.0, 10.01, 0.1)
POWER = np.where(RAMP < -1e-9, 20.0, np.where(RAMP < 5.0 - 1e-9, 100.0, 50.0))


def test_phases_calls_and_the_rest_add_up_to_the_whole(trace):
    measured = with_energy(trace, make_readings(make_source(RAMP, POWER)), "cpu")
    assert measured.calls.energy_j == pytest.approx([200.0, 200.0, 50.0, 100.0], abs=5.0)
    frame = energy_frame(measured).set_index("phase")
    assert frame.energy_j["prefill"] == pytest.approx(300.0, abs=5.0)
    assert frame.energy_j["decode"] == pytest.approx(250.0, abs=5.0)
    assert frame.duration_s[BETWEEN] == pytest.approx(10.0 - 7.0)
    assert frame.energy_j[WHOLE] == pytest.approx(20 + 500 + 4 * 50, abs=5.0)
    assert frame.energy_j[["prefill", "decode", BETWEEN]].sum() == pytest.approx(frame.energy_j[WHOLE])
    assert frame.windows["prefill"] == 2
    assert frame.idle_w.tolist() == pytest.approx([20.0] * 4)
    assert frame.above_idle_j["decode"] == pytest.approx(frame.energy_j["decode"] - 20.0 * 3.0)
    exact_j = {"prefill": 300.0, "decode": 250.0}
    for name, joules in exact_j.items():
        assert abs(frame.energy_j[name] - joules) <= frame.uncertainty_j[name]


def test_steps_have_rows_of_their_own(trace):
    measured = with_energy(trace, make_readings(make_source(RAMP, POWER)), "cpu")
    frame = energy_frame(measured, "step")
    assert list(zip(frame.phase, frame.step, strict=True)) == [
        ("prefill", 0),
        ("decode", 0),
        ("decode", 1),
        ("prefill", 1),
        (BETWEEN, -1),
        (WHOLE, -1),
    ]
    assert frame.energy_j[2] == pytest.approx(50.0, abs=3.0)


def test_energy_of_a_call_is_of_all_sources_of_its_device(trace):
    gpu = make_source(RAMP, POWER + 1000.0, device="gpu", name="b")
    measured = with_energy(trace, make_readings(make_source(RAMP, POWER), make_source(RAMP, POWER), gpu), "cpu")
    assert measured.calls.energy_j == pytest.approx([400.0, 400.0, 100.0, 200.0], abs=10.0)


def test_calls_after_a_fault_have_no_energy(trace):
    known = RAMP < 5.5
    measured = with_energy(trace, make_readings(make_source(RAMP[known], POWER[known])), "cpu")
    assert np.isfinite(measured.calls.energy_j).tolist() == [True, True, False, False]
    frame = energy_frame(measured).set_index("phase")
    assert np.isnan(frame.energy_j[["prefill", "decode", BETWEEN, WHOLE]]).all()
    assert frame.coverage["decode"] == pytest.approx(2.5 / 3, abs=0.02)


def test_notes_say_how_much_longer_the_sampling_is_than_a_call(trace):
    short = replace(trace, calls=replace(trace.calls, duration_s=np.full(4, 20e-6)))
    notes = with_energy(short, make_readings(make_source(RAMP, POWER)), "cpu").provenance.notes
    assert any("against 20 us of the median call" in note for note in notes)
    assert any(note.startswith("energy of a: integral of sampled power, read every 100 ms") for note in notes)


def test_untimed_trace_has_energy_of_the_whole_only(trace):
    untimed = replace(trace, calls=replace(trace.calls, start_s=np.full(4, np.nan), duration_s=np.full(4, np.nan)))
    measured = with_energy(untimed, make_readings(make_source(RAMP, POWER)), "cpu")
    assert np.isnan(measured.calls.energy_j).all()
    assert energy_frame(measured).phase.tolist() == [WHOLE]


def test_readings_are_equal_after_save_and_load(trace, tmp_path):
    holed = np.where(RAMP > 7.0, np.nan, POWER)
    measured = with_energy(trace, make_readings(make_source(RAMP, holed)), "cpu")
    save_trace(measured, tmp_path / "t.parquet")
    assert load_trace(tmp_path / "t.parquet") == measured


def test_trace_without_readings_gives_no_rows(trace):
    assert len(energy_frame(trace)) == 0


def run_program(source, pause=lambda: time.sleep(0.02)):
    meter = EnergyMeter([source], period_s=0.01, idle_s=0.05, clock=source.clock)
    with torch.no_grad(), capture(energy=meter) as recording:
        for step in range(4):
            with phase("work", step=step):
                for _ in range(50):
                    torch.ones(4, 4) @ torch.ones(4, 4)
                pause()
                torch.ones(2) + 1
    return recording.trace


def test_captured_phases_have_the_energy_of_a_known_power():
    trace = run_program(KnownPower(100.0))
    frame = energy_frame(trace).set_index("phase")
    assert frame.energy_j["work"] == pytest.approx(100.0 * frame.duration_s["work"], rel=1e-4)
    assert frame.average_power_w[WHOLE] == pytest.approx(100.0, rel=1e-4)
    assert frame.idle_w[WHOLE] == pytest.approx(100.0, rel=1e-4)
    assert frame.above_idle_j[WHOLE] == pytest.approx(0.0, abs=1e-4 * frame.energy_j[WHOLE])
    assert np.median(trace.calls.energy_j / trace.calls.duration_s) == pytest.approx(100.0, rel=1e-2)
    assert frame.duration_s["work"] >= 4 * 0.02


def test_program_runs_on_when_its_source_dies():
    source = KnownPower(100.0, reads=8)
    trace = run_program(source, pause=source.lost.wait)
    assert trace.energy.sources[0].state == "device_lost"
    assert np.isfinite(trace.energy.sources[0].energy_j).sum() == 8
    assert len(trace.calls) == len(run_program(KnownPower(100.0)).calls)
    assert np.isnan(trace.calls.energy_j[-1])


def test_error_of_the_program_comes_through_and_the_source_is_closed():
    source = KnownPower(100.0)
    closed = []
    source.close = lambda: closed.append(True)
    with pytest.raises(KeyError), capture(energy=EnergyMeter([source], idle_s=0.0, clock=source.clock)):
        raise KeyError("of the program")
    assert closed == [True]


@pytest.mark.parametrize(("period_s", "idle_s"), [(0.0, 1.0), (-1.0, 1.0), (0.1, -1.0), (float("nan"), 1.0)])
def test_impossible_settings_are_refused(period_s, idle_s):
    with pytest.raises(TraceError, match="period_s must be > 0 and idle_s >= 0"):
        EnergyMeter([], period_s=period_s, idle_s=idle_s)
