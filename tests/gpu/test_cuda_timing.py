"""What a CUDA device's clocks, events, ranges and kernels look like in a capture; docs/gpu-checklist.md lists each."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from profiler.capture import capture, phase
from profiler.capture.clocks import gpu_clock_hz
from profiler.capture.nvtx_ranges import nvtx_ranges_if_cuda
from profiler.capture.windows import measure
from profiler.importers.kineto import import_kineto
from profiler.importers.nsys import import_nsys
from profiler.traces import ATTRIBUTIONS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"),
]
SLEEP_CYCLES = 100_000_000  # at 3 GHz 33 ms, at 1 GHz 100 ms


def product(size=2048):
    x = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    torch.cuda.synchronize()
    return x


def attributions(trace):
    return {ATTRIBUTIONS[index] for index in trace.kernels.attribution}


def test_events_are_in_order_and_cover_the_work_that_a_window_times():
    x = product()
    with torch.no_grad():
        x @ x
        window = measure(lambda: [x @ x for _ in range(20)], warmup=2, repeats=5)
        with capture() as recording:
            for _ in range(20):
                _ = x @ x
    calls = recording.trace.calls
    assert len(calls) == 20
    assert (np.diff(calls.start_s) > 0).all()
    assert (calls.duration_s[1:] > 0).all()
    assert calls.start_s[-1] + calls.duration_s[-1] - calls.start_s[0] >= 0.9 * window.median_s


def test_window_waits_for_the_device():
    window = measure(lambda: torch.cuda._sleep(SLEEP_CYCLES), warmup=1, repeats=3)
    assert 0.02 < window.median_s < 0.5  # the launch alone returns in microseconds


def test_clock_of_the_gpu_is_told_by_nvml():
    measure(lambda: torch.cuda._sleep(SLEEP_CYCLES), warmup=0, repeats=1)
    clock_hz = gpu_clock_hz()
    if clock_hz is None:
        pytest.skip("NVML does not tell the clock of this GPU")
    assert 1e8 < clock_hz < 4e9


def test_phases_open_nvtx_ranges_that_nsight_systems_records(tmp_path):
    if nvtx_ranges_if_cuda() is None:
        pytest.skip("the nvtx package is not installed")
    if shutil.which("nsys") is None:
        pytest.skip("Nsight Systems (nsys) is not installed: nobody records the ranges")
    program = tmp_path / "program.py"
    program.write_text(
        "import torch\nfrom profiler.capture import capture, phase\nx = torch.ones(512, 512, device='cuda')\n"
        "with torch.no_grad(), capture():\n    with phase('decode', step=3):\n        x @ x\n"
    )
    command = ["nsys", "profile", "--trace=cuda,nvtx", "--export=sqlite", f"--output={tmp_path / 'report'}"]
    subprocess.run([*command, sys.executable, str(program)], check=True, timeout=300)
    assert any("decode 3" in name for name in import_nsys(tmp_path / "report.sqlite").phases)


def test_kernels_are_attached_to_their_calls():
    x = product()
    with torch.no_grad():
        (x @ x).exp()  # libraries load at first use
        with phase("forward"), capture(kernels=True) as recording:
            for _ in range(10):
                _ = (x @ x).exp()
    trace = recording.trace
    frame = trace.to_frame()
    assert frame.kind.tolist() == ["gemm", "pointwise"] * 10
    assert np.isfinite(frame.duration_s).all()
    assert attributions(trace) == {"correlation"}
    of_exponentials = trace.kernels.name[trace.kernels.call % 2 == 1]
    assert all("elementwise" in trace.kernel_names[name] for name in of_exponentials)
    assert (frame[frame.kind == "gemm"].duration_s > 2 * 2048**3 / 5e15).all()  # no GPU reaches 5 PFLOP/s in bf16


def test_kernel_times_agree_with_events():
    x = product(8192)  # long enough that no launch shows
    with torch.no_grad():
        x @ x
        with capture() as by_events:
            for _ in range(10):
                _ = x @ x
        with capture(kernels=True) as by_kernels:
            for _ in range(10):
                _ = x @ x
    medians_s = [float(np.median(each.trace.calls.duration_s)) for each in (by_events, by_kernels)]
    assert medians_s[0] == pytest.approx(medians_s[1], rel=0.1)  # clocks may move between the two


def test_kernels_of_a_graph_replay_stay_visible():
    x = product()
    graph = torch.cuda.CUDAGraph()
    side = torch.cuda.Stream()
    with torch.no_grad():
        with torch.cuda.stream(side):
            (x @ x).exp()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            (x @ x).exp()
        graph.replay()
        torch.cuda.synchronize()
        with capture(kernels=True) as recording:
            for _ in range(5):
                graph.replay()
    trace = recording.trace
    assert len(trace.kernels) >= 10  # a product and an exponential in each replay
    assert attributions(trace) == {"unexplained"}
    assert trace.calls.duration_s.sum() > 5 * 2 * 2048**3 / 5e15


def test_kernels_of_a_compiled_graph_are_attached_to_its_call():
    x = product()
    compiled = torch.compile(lambda y: (y @ y).exp() * 2 + 1)
    with torch.no_grad():
        for _ in range(3):
            compiled(x)
        with capture(kernels=True, compiled=True) as recording:
            for _ in range(5):
                compiled(x)
    trace = recording.trace
    frame = trace.to_frame()
    assert frame.name.tolist() == ["inductor::graph_0"] * 5
    assert attributions(trace) == {"correlation"}
    assert any("triton" in name for name in trace.kernel_names)  # what is fused behind the product
    assert (frame.duration_s > 2 * 2048**3 / 5e15).all()


def test_kernels_of_a_compiled_program_stay_visible(tmp_path):
    """The same program under torch.profiler alone, imported."""
    x = product()
    compiled = torch.compile(lambda y: (y @ y).exp() * 2 + 1)
    with torch.no_grad():
        for _ in range(3):
            compiled(x)
        torch.cuda.synchronize()
        with torch.profiler.profile() as profiled:
            compiled(x)
            torch.cuda.synchronize()
    profiled.export_chrome_trace(str(tmp_path / "compiled.json"))
    trace = import_kineto(tmp_path / "compiled.json")
    assert any("triton" in name for name in trace.kernel_names)  # what is fused behind the product
    assert len(trace.kernels) >= 2
    assert trace.kernels.duration_s.sum() == pytest.approx(trace.calls.duration_s.sum())
