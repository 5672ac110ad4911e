"""The run of a program that Nsight Compute counts: warmed up uncounted, then recorded once between profiler marks.

`python -m profiler.capture.counted_run FOLDER`, under `ncu --profile-from-start off`, runs `FOLDER/request.json` and
leaves `FOLDER/finished`. It is recorded as the plain run is, so that it launches the same kernels; nothing is kept.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from profiler.capture.devices import made_current
from profiler.capture.session import capture
from profiler.errors import TraceError
from workloads.errors import WorkloadError
from workloads.programs import resolve_program

REQUEST_FILE = "request.json"
FINISHED_FILE = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedRun:
    """What to run.

    Attributes:
        program: as `workloads.programs.resolve_program` takes it.
        options: its further arguments by name; all are JSON values, `weights` a path as text.
        warmup: runs before the counted one.
        strict: fail at the first op without a cost rule.
        compiled: let compiled functions run compiled.
    """

    program: str
    options: dict[str, Any]
    warmup: int
    strict: bool = False
    compiled: bool = False


def write_request(request: CountedRun, folder: Path) -> None:
    """Leave the request for the process that will run it."""
    (folder / REQUEST_FILE).write_text(json.dumps(asdict(request)), encoding="utf-8")


def run_request(folder: Path) -> None:
    """Run what `folder` asks for; its last act is to say that it finished."""
    request = CountedRun(**json.loads((folder / REQUEST_FILE).read_text(encoding="utf-8")))
    weights = request.options.get("weights")
    options = {**request.options, "weights": None if weights is None else Path(weights)}
    ready = resolve_program(request.program, **options)
    with made_current(ready.device):
        for _ in range(request.warmup):
            ready.run()
        with (
            capture(strict=request.strict, vocab_size=ready.vocab, timing=False, compiled=request.compiled),
            profiler_marks(),
        ):
            ready.run()
    (folder / FINISHED_FILE).touch()


@contextmanager
def profiler_marks() -> Iterator[None]:
    """`cudaProfilerStart` and `cudaProfilerStop` around all that the block gives the device; nothing without CUDA."""
    if not torch.cuda.is_available():
        yield
        return
    torch.cuda.synchronize()  # what was launched before does not belong to the block
    torch.cuda.profiler.start()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    try:
        yield
        torch.cuda.synchronize()
    finally:
        torch.cuda.profiler.stop()  # type: ignore[no-untyped-call]


def main() -> int:
    """Run the request of the folder that the command line names."""
    try:
        run_request(Path(sys.argv[1]))
    except (WorkloadError, TraceError) as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
