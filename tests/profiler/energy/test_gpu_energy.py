"""Energy and memory of a real NVIDIA GPU; docs/gpu-checklist.md lists what each test checks."""

import time

import numpy as np
import pytest
import torch

from profiler.capture import EnergyMeter, capture, phase
from profiler.capture.energy.meter import visible_gpus
from profiler.capture.energy.nvml import nvml_sources
from profiler.energy_calls import WHOLE, energy_frame
from profiler.memory import memory_use

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"),
]


def multiply(seconds):
    x = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        for _ in range(20):
            x @ x
        torch.cuda.synchronize()


def test_nvml_finds_the_gpus_that_torch_sees():
    sources = nvml_sources(visible_gpus())
    assert 1 <= len(sources) <= torch.cuda.device_count()
    for source in sources:
        assert source.read().power_w is None or source.read().power_w > 1.0
        source.close()


def test_products_draw_more_than_idle_and_less_than_any_board_may():
    meter = EnergyMeter(nvml_sources(visible_gpus()), idle_s=2.0)
    with torch.no_grad(), capture(energy=meter) as recording, phase("multiply"):
        multiply(3.0)
    trace = recording.trace
    source = trace.energy.sources[0]
    assert source.state == "ok"
    assert source.period_s < 0.2
    whole = energy_frame(trace).query("phase == @WHOLE", local_dict={"WHOLE": WHOLE}).iloc[0]
    assert 5.0 < whole.idle_w < whole.average_power_w < 1500.0
    assert whole.uncertainty_j < 0.2 * whole.energy_j
    assert np.isfinite(trace.calls.energy_j).all()
    assert trace.calls.energy_j.sum() <= whole.energy_j + whole.uncertainty_j


def test_counter_and_integrated_power_agree():
    source = nvml_sources(visible_gpus())[0]
    if source.method != "counter":
        pytest.skip(f"{source.name} has no energy counter")
    meter = EnergyMeter([source], idle_s=0.0)
    with torch.no_grad(), meter:
        multiply(5.0)
    readings = meter.readings().sources[0]
    counted_j = readings.energy_j[-1] - readings.energy_j[0]
    integrated_j = np.trapezoid(readings.power_w, readings.time_s)
    assert integrated_j == pytest.approx(counted_j, rel=0.1)  # the power may lag by what the driver averages over


def test_live_memory_is_what_the_caching_allocator_gave_out():
    layers = torch.nn.Sequential(*(torch.nn.Linear(2048, 2048, device="cuda") for _ in range(6)))
    x = torch.ones(4096, 2048, device="cuda")
    with torch.no_grad():
        layers(x)  # libraries take their workspaces at first use
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad(), capture() as recording:
        layers(x)
    torch.cuda.synchronize()
    memory = memory_use(recording.trace)
    ours = memory.peak_bytes - memory.most_of("weights") - x.nbytes
    assert torch.cuda.max_memory_allocated() - before == pytest.approx(ours, rel=0.3)
