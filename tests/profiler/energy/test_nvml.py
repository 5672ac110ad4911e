"""The real pynvml against a stub of the driver's library: what each device and each fault leaves in the readings."""

import os
import subprocess
import sys

import numpy as np
import pytest

from profiler.capture.energy.nvml import nvml_sources
from profiler.capture.energy.sampler import Sampler
from profiler.energy_windows import window_energy

LOST, DRIVER_NOT_LOADED, NO_PERMISSION, TIMEOUT, UNKNOWN, NOT_SUPPORTED = 15, 9, 4, 10, 999, 3


def sample(stub, times_s, sources=None):
    """Readings of the stub's devices at these virtual times."""
    sampler = Sampler(nvml_sources() if sources is None else sources, period_s=1.0, clock=stub.clock)
    for now_s in times_s:
        stub.move_to(now_s)
        sampler.sample()
    for log in sampler.logs:
        log.source.close()
    return [log.readings(0.0) for log in sampler.logs]


def energy(source, begin_s, end_s):
    return window_energy(source, np.array([begin_s]), np.array([end_s]))


def test_counter_gives_the_exact_integral_of_any_curve(stub):
    stub.curve((0.0, 80.0), (1.0, 80.0), (1.001, 700.0), (1.7, 300.0), (3.0, 90.0))
    (source,) = sample(stub, np.arange(0.0, 4.01, 0.5))
    assert source.method == "counter"
    assert source.name == "GPU 0 Stub H100"
    # 80 x 1 + 390 x 0.001 + 500 x 0.699 + 195 x 1.3 + 90 x 1, by hand; the counter steps by 1 mJ
    exact_j = 80 + 0.390 + 349.5 + 253.5 + 90
    assert energy(source, 0.0, 4.0).energy_j[0] == pytest.approx(exact_j, abs=2e-3)
    assert source.state == "ok"
    assert stub.open_count == 0


@pytest.mark.parametrize("instant", [True, False])
def test_sampled_power_integrates_to_one_percent(stub, instant):
    stub.features(counter=False, instant=instant)
    stub.curve((0.0, 80.0), (1.0, 80.0), (1.05, 650.0), (2.0, 650.0), (2.05, 100.0), (3.0, 100.0))
    (source,) = sample(stub, np.arange(0.0, 3.001, 0.02) + 0.007)
    assert source.method == "power"
    assert np.isnan(source.energy_j).all()
    exact_j = 80 * 0.5 + 0.05 * 365 + 650 * 0.95 + 0.05 * 375 + 100 * 0.45
    window = energy(source, 0.5, 2.5)
    assert window.energy_j[0] == pytest.approx(exact_j, rel=0.01)
    assert abs(window.energy_j[0] - exact_j) <= window.uncertainty_j[0]
    assert ("may be a mean over the last second" in " ".join(source.notes)) is not instant


def test_uncertainty_covers_what_falls_between_two_readings(stub):
    stub.curve((0.0, 0.0), (0.999, 0.0), (1.0, 100.0), (9.0, 100.0))
    (source,) = sample(stub, np.arange(0.3, 9.0, 1.0))
    for begin_s, end_s in ((1.0, 5.0), (1.25, 5.0), (0.7, 1.1), (2.5, 2.6)):
        window = energy(source, begin_s, end_s)
        exact_j = 100.0 * (end_s - max(begin_s, 1.0))
        assert abs(window.energy_j[0] - exact_j) <= window.uncertainty_j[0] + 0.06


def test_several_devices_are_apart(stub):
    stub.reset(3)
    stub.fail("nvmlDeviceGetTotalEnergyConsumption", LOST, after=3, device=1)
    first, second, third = sample(stub, np.arange(0.0, 6.0))
    assert first.state == third.state == "ok"
    assert energy(third, 0.0, 5.0).energy_j[0] == pytest.approx(500.0)
    assert second.state == "device_lost"
    assert energy(second, 0.0, 1.0).energy_j[0] == pytest.approx(100.0)
    assert np.isnan(energy(second, 0.0, 5.0).energy_j[0])


def test_device_lost_in_the_middle_keeps_what_was_read_and_is_asked_no_more(stub):
    stub.fail("nvmlDeviceGetTotalEnergyConsumption", LOST, after=4)  # one call is the look whether there is a counter
    (source,) = sample(stub, np.arange(0.0, 8.0))
    assert [(change.time_s, change.state) for change in source.states] == [(3.0, "device_lost")]
    assert "GPU is lost" in source.states[0].message
    assert source.time_s.tolist() == [0.0, 1.0, 2.0, 3.0]
    window = energy(source, 1.0, 5.0)
    assert np.isnan(window.energy_j[0])
    assert window.covered_j[0] == pytest.approx(100.0)
    assert window.coverage[0] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (LOST, "device_lost"),
        (DRIVER_NOT_LOADED, "driver_gone"),
        (NO_PERMISSION, "permission_denied"),
        (1, "driver_gone"),
    ],
)
def test_final_faults_in_the_middle_have_their_states(stub, code, state):
    stub.fail("nvmlDeviceGetTotalEnergyConsumption", code, after=3)
    (source,) = sample(stub, np.arange(0.0, 5.0))
    assert source.state == state
    assert np.isfinite(source.energy_j).sum() == 2


@pytest.mark.parametrize("code", [TIMEOUT, UNKNOWN])
def test_counter_bridges_readings_that_failed(stub, code):
    stub.fail("nvmlDeviceGetTotalEnergyConsumption", code, after=3, until=5)
    (source,) = sample(stub, np.arange(0.0, 7.0))
    assert [change.state for change in source.states] == ["failed", "ok"]
    assert energy(source, 0.0, 6.0).energy_j[0] == pytest.approx(600.0)


def test_power_around_a_failed_reading_is_unknown_and_not_zero(stub):
    stub.features(counter=False, instant=False)
    stub.fail("nvmlDeviceGetPowerUsage", TIMEOUT, after=4, until=5)
    (source,) = sample(stub, np.arange(0.0, 8.0))
    assert energy(source, 0.0, 2.0).energy_j[0] == pytest.approx(200.0)
    assert energy(source, 4.0, 7.0).energy_j[0] == pytest.approx(300.0)
    assert np.isnan(energy(source, 1.0, 6.0).energy_j[0])
    assert energy(source, 0.0, 7.0).coverage[0] == pytest.approx(5 / 7)


def test_wrapped_counter_goes_on(stub):
    stub.counter(2.0**32 * 1e-3 - 250.0, bits=32)
    (source,) = sample(stub, np.arange(0.0, 6.0))
    assert [change.state for change in source.states] == ["wrapped"]
    assert source.state == "ok"
    assert energy(source, 0.0, 5.0).energy_j[0] == pytest.approx(500.0, abs=0.01)


def test_counter_that_was_reset_leaves_a_hole(stub):
    sampler = Sampler(nvml_sources(), period_s=1.0, clock=stub.clock)
    stub.counter(5000.0)
    for now_s in range(8):
        stub.move_to(now_s)
        if now_s == 4:
            stub.counter(-390.0)
        sampler.sample()
    source = sampler.logs[0].readings(0.0)
    sampler.logs[0].source.close()
    assert [change.state for change in source.states] == ["reset"]
    assert energy(source, 0.0, 3.0).energy_j[0] == pytest.approx(300.0)
    assert energy(source, 4.0, 7.0).energy_j[0] == pytest.approx(300.0)
    assert np.isnan(energy(source, 0.0, 7.0).energy_j[0])


@pytest.mark.parametrize(
    ("function", "code", "state"),
    [
        ("nvmlInit", DRIVER_NOT_LOADED, "driver_gone"),
        ("nvmlInit", NO_PERMISSION, "permission_denied"),
        ("nvmlDeviceGetCount", UNKNOWN, "failed"),
        ("nvmlDeviceGetHandleByIndex", NO_PERMISSION, "permission_denied"),
        ("nvmlDeviceGetHandleByIndex", LOST, "device_lost"),
        ("nvmlDeviceGetName", LOST, "device_lost"),
        ("nvmlDeviceGetUUID", UNKNOWN, "failed"),
        ("nvmlDeviceGetMigMode", NOT_SUPPORTED, "ok"),
        ("nvmlDeviceGetTotalEnergyConsumption", NO_PERMISSION, "ok"),  # its power is read instead
        ("nvmlDeviceGetFieldValues", LOST, "ok"),  # the counter does without
        ("nvmlDeviceGetPowerUsage", UNKNOWN, "ok"),
        ("nvmlShutdown", UNKNOWN, "ok"),
    ],
)
def test_fault_at_each_call_is_a_state(stub, function, code, state):
    stub.fail(function, code)
    (source,) = sample(stub, np.arange(0.0, 4.0))
    assert source.state == state
    has_energy = np.isfinite(energy(source, 0.0, 3.0).energy_j[0])
    assert has_energy == (state == "ok")


def test_device_that_tells_nothing_is_not_supported(stub):
    stub.features(counter=False, instant=False)
    stub.fail("nvmlDeviceGetPowerUsage", NOT_SUPPORTED)
    (source,) = sample(stub, np.arange(0.0, 4.0))
    assert source.state == "not_supported"
    assert not np.isfinite(source.power_w).any()


def test_two_instances_of_one_board_are_one_source_that_says_so(stub):
    stub.reset(2)
    stub.features(mig=True)
    sources = nvml_sources(("MIG-stub-1-0", "MIG-stub-1-1", "GPU-stub-0"))
    assert len(sources) == 2
    board, other = sample(stub, np.arange(0.0, 4.0), sources)
    assert "MIG is on" in board.notes[0]
    assert energy(board, 0.0, 3.0).energy_j[0] == pytest.approx(300.0)
    assert other.state == "ok"


def test_unknown_uuid_is_absent(stub):
    (source,) = sample(stub, [0.0, 1.0], nvml_sources(("GPU-of-somebody-else",)))
    assert source.state == "absent"


def test_no_device_is_absent(stub):
    stub.reset(0)
    (source,) = sample(stub, [0.0, 1.0])
    assert source.state == "absent"


def test_machine_without_the_library_says_so(monkeypatch):
    pynvml = pytest.importorskip("pynvml")
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(pynvml, "CDLL", refuse)
    (source,) = nvml_sources()
    assert source.state == "absent"
    assert "Library Not Found" in source.message


def refuse(name):
    raise OSError(f"{name}: cannot open shared object file")


PROGRAM = """
import sys, time, torch
from pathlib import Path
from profiler.capture import EnergyMeter, capture, phase
from profiler.storage import save_trace
meter = EnergyMeter(period_s=0.01, idle_s=0.1)
def is_there():
    return any(source.state == "ok" for source in meter.readings().sources if source.device == "gpu")
with torch.no_grad(), capture(energy=meter) as recording:
    for step in range(3):
        with phase("work", step=step):
            total = (torch.ones(64, 64) @ torch.ones(64, 64)).sum()
            while step == 1 and is_there():
                time.sleep(0.01)
save_trace(recording.trace, Path(sys.argv[1]))
print(float(total))
"""


@pytest.mark.slow
def test_program_is_unharmed_when_its_device_is_lost(stub_library, tmp_path):
    """The library is found the usual way, by the loader, in a process of its own."""
    from profiler.energy_calls import WHOLE, energy_frame
    from profiler.storage import load_trace

    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(stub_library.parent),
        "NVML_STUB_DEVICES": "2",
        "NVML_STUB_FAIL": f"nvmlDeviceGetTotalEnergyConsumption:{LOST}:202",  # a look whether it is there, 100 readings
    }
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "t.parquet"], env=environment, check=False, capture_output=True
    )
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) == 64.0**3
    trace = load_trace(tmp_path / "t.parquet")
    lost = [source for source in trace.energy.sources if source.device == "gpu"]
    assert [source.state for source in lost] == ["device_lost"] * 2
    assert [np.isfinite(source.energy_j).sum() for source in lost] == [100, 100]
    assert any("device lost" in note for note in trace.provenance.notes)
    whole = energy_frame(trace, "trace").set_index("source").loc[lost[0].name]
    assert whole.phase == WHOLE
    assert np.isnan(whole.energy_j)
    assert 0.0 < whole.coverage < 1.0
    assert whole.idle_w > 0.0
