"""`KernelProfiler`: torch.profiler around a recording, so that one run gives op, kernels and times."""

import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from types import TracebackType
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from profiler.capture.devices import describe_device
from profiler.importers.kineto_attach import ClockMark, align_clocks, attach_kernels
from profiler.importers.kineto_file import read_kineto
from profiler.traces import Trace

_MARKS = 20  # at each end: the first are slow, and the tightest of them count


class KernelProfiler:
    """Runs torch.profiler from entry to exit; the CPU's activity always, and CUPTI's where there is a GPU."""

    def __init__(self) -> None:
        """Prepare; nothing runs yet."""
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile: Any = profile(activities=activities)
        self._begin: tuple[ClockMark, ...] = ()
        self._end: tuple[ClockMark, ...] = ()

    def __enter__(self) -> "KernelProfiler":
        self._profile.__enter__()
        self._begin = _set_marks("begin")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and torch.cuda.is_available():
            torch.cuda.synchronize()  # what was launched belongs to the program
        self._end = _set_marks("end")
        self._profile.__exit__(kind, error, trace)

    def attach(self, trace: Trace, origin_s: float | None) -> Trace:
        """The trace with the kernels that ran meanwhile.

        Args:
            trace: recorded inside this context, with the host's times.
            origin_s: the host's clock at its zero, None where nothing was timed.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "profile.json"
            self._profile.export_chrome_trace(str(path))
            file = read_kineto(path, may_lack_kernels=True)
        zero_s = self._begin[0].host_ns / 1e9 if origin_s is None else origin_s
        attached = attach_kernels(trace, file, align_clocks(file, self._begin, self._end), zero_s)
        return attached if len(trace.calls) else _on_the_gpu(attached)


def _on_the_gpu(trace: Trace) -> Trace:
    """A trace of kernels alone, as of a graph's replay: no recorded call told what it ran on."""
    if not len(trace.kernels):
        return trace
    device = describe_device({"cuda"})
    notes = tuple(note for note in trace.provenance.notes if note not in describe_device(set()).notes)
    provenance = replace(trace.provenance, device=device.name, clock_hz=device.clock_hz, notes=(*device.notes, *notes))
    return replace(trace, provenance=provenance)


def _set_marks(where: str) -> tuple[ClockMark, ...]:
    """Annotated ranges, each with the host's clock read inside."""
    marks = []
    for number in range(_MARKS):
        name = f"roofscape clock {where} {number}"
        with record_function(name):
            host_ns = perf_counter_ns()
        marks.append(ClockMark(name=name, host_ns=host_ns))
    return tuple(marks)
