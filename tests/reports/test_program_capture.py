"""What `capture` does with its options before, around and after a program's run."""

from contextlib import contextmanager

import pytest
import torch

from profiler.capture import session
from profiler.storage import load_trace
from reports import program_capture
from reports.program_capture import CaptureRequest, capture_program
from roofline.chipfile import load_chip
from workloads.errors import WorkloadError
from workloads.program import Program
from workloads.program_request import check_device


def request(device="cpu", **options):
    return CaptureRequest(program="py:none.py", options={"device": device, "seed": 0}, **options)


@pytest.fixture
def two_gpus(monkeypatch):
    """Devices `cuda:0` and `cuda:1` that compute on the CPU; gives the list of what happened on which of them."""
    current, seen = [0], []

    @contextmanager
    def device(chosen):
        outer, current[0] = current[0], chosen.index
        yield
        current[0] = outer

    class Profiler:
        def __enter__(self):
            seen.append(("profile", current[0]))

        def __exit__(self, *_):
            return

        def attach(self, trace, origin_s):
            seen.append(("attach", current[0]))
            return trace

    def resolve(program, *, device, seed):
        run = lambda: seen.append(("run", current[0])) or torch.ones(4).exp()  # noqa: E731
        return Program(name="small", description="a run", run=run, device=device)

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(session, "KernelProfiler", Profiler)
    monkeypatch.setattr(program_capture, "resolve_program", resolve)
    return seen


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_kernels_of_any_gpu_are_recorded_while_it_is_the_current_one(two_gpus, tmp_path, device, index):
    wanted = request(device, kernels=True, warmup=1, output=tmp_path / "t.parquet")
    captured = capture_program(wanted, load_chip("h100-sxm"))
    assert two_gpus == [("run", index), ("profile", index), ("run", index), ("attach", index)]
    assert load_trace(tmp_path / "t.parquet") == captured.trace


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_kernels_are_refused_where_there_is_no_gpu(device):
    with pytest.raises(WorkloadError, match=f"got --device {device}; allowed: --device cuda, cuda:N"):
        request(device, kernels=True)


def test_numbered_gpu_is_counted_as_any_other():
    assert request("cuda:1", counters=True).counts_kernels
    with pytest.raises(WorkloadError, match="with --device cuda:1 it cannot go with --stream"):
        request("cuda:1", counters=True, stream=True)
    assert not request("cpu", counters=True, stream=True).counts_kernels


def test_script_is_warmed_up_only_where_that_is_asked_for():
    assert request().warmup_count == 0
    assert request(repeats=3).warmup_count == 2
    assert request(repeats=3, warmup=0).warmup_count == 0
    assert CaptureRequest(program="ar-100m", options={"device": "cpu"}).warmup_count == 1
    assert CaptureRequest(program="ar-100m", options={"device": "meta"}).warmup_count == 0


def test_gpu_that_there_is_not_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(WorkloadError, match=r"device .cuda:2.: PyTorch sees 2 CUDA device\(s\), counted from 0"):
        check_device("cuda:2")
