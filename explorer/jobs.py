"""From the workloads of a space file to jobs: programs are captured on meta once and kept beside the results."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from explorer.errors import ExplorationError
from explorer.evaluator import Job
from explorer.run_key import code_version
from explorer.space_file import PointRequest, WorkloadRequest
from explorer.workload import Workload, workload_from_trace
from profiler.storage import load_trace, save_trace
from profiler.traces import Trace

# Of a program that is not told, see `workloads.programs`.
_DEFAULT_GEN_LENGTH = 128
_DEFAULT_SEQ_LEN = 1024


def build_jobs(requests: Sequence[WorkloadRequest], folder: Path) -> Iterator[tuple[str, Job | None]]:
    """Jobs one after another: (what comes next, None) before each operating point, (name, job) when one is complete.

    Args:
        requests: workloads of a space file.
        folder: where captured traces are kept; a trace of the same request is read instead of captured again.
    """
    for request in requests:
        points: list[tuple[str, Workload]] = []
        for point in request.points:
            yield f"{request.name} {point.label}", None
            points.append((point.label, _workload(request, point, folder)))
        yield request.name, Job(name=request.name, points=tuple(points), weight=request.weight)


def _workload(request: WorkloadRequest, point: PointRequest, folder: Path) -> Workload:
    return workload_from_trace(
        point_trace(point, folder),
        name=request.name,
        units=_units(point),
        unit=point.unit,
        quality=point.quality,
        quality_source=point.quality_source,
    )


def point_trace(point: PointRequest, folder: Path) -> Trace:
    """The trace of an operating point: the file that the space names, or its program captured on meta and kept."""
    return load_trace(point.trace) if point.trace is not None else _captured(point, folder)


def _units(point: PointRequest) -> float:
    """Tokens or images of one run."""
    if point.units is not None:
        return point.units
    options = dict(point.options)
    batch = int(options.get("batch", 1))
    if point.trace is not None:
        raise ExplorationError(f"trace {point.trace}: say how many tokens or images it makes: units = ...")
    if point.unit == "image":
        return float(batch)
    if point.program.endswith("@forward"):
        return float(batch * int(options.get("seq_len", _DEFAULT_SEQ_LEN)))
    if "gen_length" not in options and not _generates(point.program):
        raise ExplorationError(f"program {point.program!r}: say how many tokens or images a run makes: units = ...")
    return float(batch * int(options.get("gen_length", _DEFAULT_GEN_LENGTH)))


def _generates(program: str) -> bool:
    """Whether a program is a model with a sampler, which makes 128 tokens where it is not told."""
    scheme, has_scheme, _ = program.partition(":")
    return scheme == "gguf" if has_scheme else scheme != "antiberty"


def _content(program: str) -> str:
    """A hash of the files that a program names (a script, a preset, a configuration), empty where it names none."""
    parts = [program, *program.split("@"), *(part.partition(":")[2] for part in program.split("@"))]
    files = sorted({part for part in parts if part and Path(part).is_file()})
    return ",".join(file_hash(Path(file)) for file in files)


def file_hash(path: Path) -> str:
    """What a file holds, as a hash; empty where it cannot be read, which its reader will say better."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _captured(point: PointRequest, folder: Path) -> Trace:
    """The trace of a program on meta: read where it was captured before, else captured and kept."""
    from profiler.capture import capture  # noqa: PLC0415 - needs torch, which a space of traces does without
    from workloads.programs import resolve_program  # noqa: PLC0415

    text = json.dumps([point.program, point.options, _content(point.program), code_version()], sort_keys=True)
    name = "".join(char if char.isalnum() or char in "-." else "-" for char in point.program)
    path = folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.parquet"
    if path.is_file():
        return load_trace(path)
    options = dict(point.options)
    program = resolve_program(point.program, device="meta", **options)
    with capture(name=point.program, vocab_size=program.vocab, seed=program.seed) as recording:
        program.run()
    save_trace(recording.trace, path)
    return recording.trace
