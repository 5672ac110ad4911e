"""`roofscape capture --counters` on a GPU: the second run under Nsight Compute, and what it adds to the summary."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from profiler.launch_join import LaunchMatch
from profiler.traces import Trace
from reports.console import print_line, progress
from reports.traffic_table import show_traffic, traffic_json

_SHOWN_OPS = 10


def count_on_gpu(program: str, options: Mapping[str, Any], warmup: int, *, strict: bool, compiled: bool) -> Trace:
    """What Nsight Compute counts in a run of the program in a process of its own.

    It goes before the plain run, so that the device never holds two models, and what cannot be counted is told at once.

    Args:
        program: as `workloads.programs.resolve_program` takes it.
        options: its further arguments.
        warmup: runs before the counted one.
        strict: fail at the first op without a cost rule.
        compiled: let compiled functions run compiled, as in the plain run.

    Raises:
        WorkloadError: this machine has no such device.
        TraceError: nothing can be counted.
    """
    from profiler.capture.counted_run import CountedRun  # noqa: PLC0415 - imports torch
    from profiler.capture.nsight_compute import count_kernels  # noqa: PLC0415
    from workloads.program_request import check_device  # noqa: PLC0415

    check_device(options["device"])
    weights = options["weights"]
    plain = {**options, "weights": None if weights is None else str(weights)}
    with progress(f"counting {program} under Nsight Compute, kernel by kernel; this takes many times the plain run"):
        return count_kernels(
            CountedRun(program=program, options=plain, warmup=warmup, strict=strict, compiled=compiled)
        )


def print_counters(trace: Trace, match: LaunchMatch) -> None:
    """Print measured beside modeled bytes by op, and how many kernels have them."""
    show_traffic(trace, _SHOWN_OPS)
    print_line(match.note())


def counters_json(trace: Trace, match: LaunchMatch | None) -> dict[str, Any]:
    """The same for scripts; `counters` is null where no kernels were counted."""
    if match is None:
        return {"counters": None}
    return {
        "counters": {**asdict(match), "unmatched_names": dict(match.unmatched_names)},
        "traffic": traffic_json(trace),
    }
