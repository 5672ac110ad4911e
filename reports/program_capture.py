"""What `roofscape capture` does: a program is built, warmed up, timed bare where asked, recorded once and saved."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiler.capture import capture as record
from profiler.capture.devices import made_current
from profiler.capture.uncore import DramReading, measure_dram, with_dram
from profiler.capture.windows import DEFAULT_WARMUP_COUNT, TimingWindow, measure, with_window
from profiler.launch_join import LaunchMatch, join_launches
from profiler.storage import save_trace
from profiler.traces import Trace
from reports.commands.options import default_output
from reports.console import progress, remark
from reports.counted_capture import count_on_gpu
from reports.memory_fit import weights_do_not_fit
from roofline.chip import Chip
from workloads.errors import WorkloadError
from workloads.program import Program
from workloads.programs import resolve_program


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """A program and how to record it.

    Attributes:
        program: as `workloads.programs.resolve_program` takes it.
        options: its further arguments by name, `device` and `seed` among them.
        output: where to save the trace, None for a name made of the program's.
        warmup: untimed runs first, None for as many as are usual for such a program.
        repeats: timed runs of the bare program.
        energy: measure energy.
        counters: measure bytes, at main memory on a CPU, of each kernel on a GPU.
        kernels: attach the device's kernels to their calls.
        compiled: let compiled functions run compiled.
        timing: take the times of calls.
        stream: write calls to disk while the program runs.
        strict: fail at the first op without a cost rule.
        vocab_size: width of the logits, None to find it.

    Raises:
        WorkloadError: these options cannot go together.
    """

    program: str
    options: dict[str, Any]
    output: Path | None = None
    warmup: int | None = None
    repeats: int = 0
    energy: bool = False
    counters: bool = False
    kernels: bool = False
    compiled: bool = False
    timing: bool = True
    stream: bool = False
    strict: bool = False
    vocab_size: int | None = None

    def __post_init__(self) -> None:
        refused = self._refusal()
        if refused:
            raise WorkloadError(refused)

    @property
    def device(self) -> str:
        """Where it runs: `cpu`, `cuda`, `cuda:1`, `meta`."""
        return str(self.options["device"])

    @property
    def device_type(self) -> str:
        """`cpu`, `cuda` or `meta`."""
        return self.device.partition(":")[0]

    @property
    def counts_kernels(self) -> bool:
        """Whether bytes are counted kernel by kernel, in a run of their own."""
        return self.counters and self.device_type == "cuda"

    @property
    def warmup_count(self) -> int:
        """Untimed runs; where nobody says, none of a script, which may do things that must be done once only."""
        if self.warmup is not None:
            return self.warmup
        if self.repeats:
            return DEFAULT_WARMUP_COUNT
        return 0 if self.device_type == "meta" or self.program.startswith("py:") else 1

    def _refusal(self) -> str:
        """Why these options cannot go together, empty where they can."""
        device = f"--device {self.device}"
        if self.counters and self.device_type == "meta":
            return "--counters: nothing runs on meta, so there is nothing to count; allowed: --device cpu, cuda"
        if self.counts_kernels and (self.stream or not self.timing):
            return (
                "--counters: joins what Nsight Compute counted to the kernels of a whole and timed recording, so with "
                f"{device} it cannot go with {'--stream' if self.stream else '--no-timing'}"
            )
        if self.repeats and self.device_type == "meta":
            return "--repeats: nothing runs on meta, so there is nothing to time; allowed: --device cpu, cuda"
        if self.kernels and self.device_type != "cuda":
            return f"--kernels: attaches the kernels of a GPU, got {device}; allowed: --device cuda, cuda:N"
        if self.kernels and not self.timing:
            return "--kernels: finds the call of each kernel by time, so it cannot go with --no-timing"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A saved trace and what was measured beside it.

    Attributes:
        trace: with everything joined to it.
        path: where it was saved.
        window: times of the bare program, where it was repeated.
        match: how many kernels have counters, where a GPU's were read.
        dram: bytes at main memory, where a CPU's counters were asked for.
        made: what the program returned; a sampler's generation says how often the network was asked.
    """

    trace: Trace
    path: Path
    window: TimingWindow | None
    match: LaunchMatch | None
    dram: DramReading | None
    made: object


def capture_program(request: CaptureRequest, chip: Chip) -> Captured:
    """Do what the request asks; progress and remarks go to the terminal.

    Args:
        request: what to run and record.
        chip: whose main memory the program is held against before it runs.
    """
    counted = (
        count_on_gpu(
            request.program,
            request.options,
            request.warmup_count,
            strict=request.strict,
            compiled=request.compiled,
        )
        if request.counts_kernels
        else None
    )
    with progress(f"building {request.program}"):
        ready = resolve_program(request.program, **request.options)
    misfit = weights_do_not_fit(ready.name, ready.parameters_count, ready.dtype, chip)
    for note in (*ready.notes, *([misfit] if misfit else [])):
        remark(f"note: {note}")
    path = request.output or default_output(ready.name)
    with made_current(ready.device):
        window = _warm_up(request, ready)
        recorded, dram, made = _record(request, ready, path)
    trace = recorded if dram is None else with_dram(recorded, dram)
    trace, match = (trace, None) if counted is None else join_launches(trace, counted)
    trace = trace if window is None else with_window(trace, window)
    if trace is not recorded or not request.stream:  # else it is saved already
        save_trace(trace, path)
    return Captured(trace=trace, path=path, window=window, match=match, dram=dram, made=made)


def _warm_up(request: CaptureRequest, ready: Program) -> TimingWindow | None:
    """Run the program unwatched, timed where it is to be repeated."""
    if request.repeats:
        with progress(f"timing {ready.description}"):
            return measure(ready.run, warmup=request.warmup_count, repeats=request.repeats)
    with progress("warming up"):
        for _ in range(request.warmup_count):
            ready.run()
    return None


def _record(request: CaptureRequest, ready: Program, path: Path) -> tuple[Trace, DramReading | None, object]:
    with (
        progress(f"running {ready.description}"),
        record(
            name=ready.name,
            strict=request.strict,
            vocab_size=request.vocab_size or ready.vocab,
            seed=request.options["seed"],
            timing=request.timing,
            energy=request.energy,
            stream_to=path if request.stream else None,
            kernels=request.kernels or request.counts_kernels,
            compiled=request.compiled,
        ) as recording,
        measure_dram() if request.counters and not request.counts_kernels else nullcontext() as dram,
    ):
        made = ready.run()
    return recording.trace, dram, made
