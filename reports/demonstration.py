"""The demonstration: real runs, full-size captures and a real GPU trace, made into subjects of one report."""

import os
from dataclasses import dataclass
from pathlib import Path

from profiler.capture import capture
from profiler.importers.kineto import import_kineto
from profiler.storage import save_trace
from profiler.traces import Trace
from reports.errors import ReportError
from reports.formatting import format_seconds
from reports.subject import Paradigm, Subject
from roofline.chip import Chip
from simulator import analytic, event
from simulator.host import Mode
from workloads.programs import resolve_program
from workloads.samplers.protocol import Generation

TARGET_CHIP = "h100-sxm"
_KINETO_NAME = "kineto_h100_qwen1.5-0.5b-chat.json.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """One program of the demonstration.

    Attributes:
        label: name in the report.
        file: stem of the trace's file.
        model: model preset.
        paradigm: how it generates.
        device: `cpu` for a real run, `meta` for full-size shapes.
        prompt_length: tokens of the prompt.
        gen_length: tokens to generate.
        steps: denoising steps, None for autoregression.
        block_length: tokens per block, None for autoregression.
    """

    label: str
    file: str
    model: str
    paradigm: Paradigm
    device: str
    prompt_length: int
    gen_length: int
    steps: int | None = None
    block_length: int | None = None


# The same number of tokens for both paradigms, so that a column compares; the large ones end at 1,024 positions.
EXHIBITS = (
    Exhibit(
        label="AR 100M on this CPU",
        file="ar-100m",
        model="ar-100m",
        paradigm="autoregressive",
        device="cpu",
        prompt_length=64,
        gen_length=64,
    ),
    Exhibit(
        label="Diffusion 100M on this CPU",
        file="diffusion-100m",
        model="diffusion-100m",
        paradigm="diffusion",
        device="cpu",
        prompt_length=64,
        gen_length=64,
        steps=32,
        block_length=32,
    ),
    Exhibit(
        label="Llama-3.1-8B, autoregressive",
        file="llama-3.1-8b",
        model="llama-3.1-8b",
        paradigm="autoregressive",
        device="meta",
        prompt_length=896,
        gen_length=128,
    ),
    Exhibit(
        label="LLaDA-8B, diffusion",
        file="llada-8b",
        model="llada-8b",
        paradigm="diffusion",
        device="meta",
        prompt_length=896,
        gen_length=128,
        steps=64,
        block_length=32,
    ),
)


def run_exhibit(exhibit: Exhibit, folder: Path) -> tuple[Trace, Generation]:
    """Run one program, for real or on meta, and save its trace; a real run is warmed up first.

    Raises:
        ReportError: the program gave no generation.
    """
    program = resolve_program(
        exhibit.model,
        device=exhibit.device,
        prompt_length=exhibit.prompt_length,
        gen_length=exhibit.gen_length,
        steps=exhibit.steps,
        block_length=exhibit.block_length,
    )
    if exhibit.device != "meta":
        program.run()
    with capture(name=exhibit.label, vocab_size=program.vocab, seed=program.seed) as recording:
        generation = program.run()
    if not isinstance(generation, Generation):
        raise ReportError(f"{exhibit.label}: the program gave {type(generation).__name__} instead of a generation")
    save_trace(recording.trace, folder / f"{exhibit.file}.parquet")
    return recording.trace, generation


def subject_of(exhibit: Exhibit, trace: Trace, generation: Generation, chip: Chip) -> Subject:
    """The exhibit on a chip, simulated; a real run counts as measured on the chip file made from this machine."""
    mode: Mode = "eager" if exhibit.device != "meta" else "graph"
    simulation = analytic.simulate(trace, chip, mode=mode)
    played_s = event.simulate(trace, chip, mode=mode).makespan_s
    return Subject(
        label=exhibit.label,
        trace=trace,
        chip=chip,
        paradigm=exhibit.paradigm,
        simulation=simulation,
        measured_on_chip=exhibit.device != "meta" and chip.is_measured,
        tokens=exhibit.gen_length,
        nfe=generation.nfe,
        notes=(
            f"The event engine plays the same plans in {format_seconds(played_s)}, "
            f"the analytic engine in {format_seconds(simulation.makespan_s)}.",
        ),
    )


def kineto_subject(path: Path, chip: Chip, folder: Path) -> Subject:
    """A profiler trace of a real GPU under the roofline of that GPU."""
    trace = import_kineto(path, name="Qwen1.5-0.5B forward, measured on H100")
    save_trace(trace, folder / "kineto-h100.parquet")
    return Subject(
        label=trace.name,
        trace=trace,
        chip=chip,
        simulation=analytic.simulate(trace, chip, mode="graph"),
    )


def find_kineto_trace() -> Path | None:
    """The H100 trace in the measured data that ROOFSCAPE_SHARED_DATA points to, None where it does not."""
    folder = os.environ.get("ROOFSCAPE_SHARED_DATA")
    file = Path(folder or ".") / "traces" / _KINETO_NAME
    return file if folder and file.is_file() else None
