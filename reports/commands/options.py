"""Options that several commands share, and how they are read."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from profiler.traces import Trace

DEFAULT_CHIP = "h100-sxm"

TraceFile = Annotated[Path, typer.Argument(help="A trace that `roofscape capture` or `roofscape import` wrote.")]
ChipName = Annotated[str, typer.Option("--chip", "-c", help="A chip's name (see `roofscape chips`) or its TOML file.")]
MeasuredChip = Annotated[
    str | None,
    typer.Option(
        "--chip",
        "-c",
        help="A chip's name (see `roofscape chips`) or its TOML file (default: the one that the trace was measured on, "
        "else h100-sxm).",
    ),
]
SeveralChips = Annotated[
    list[str] | None,
    typer.Option(
        "--chip",
        "-c",
        help="A chip's name or its TOML file; may be repeated (default: the one that the trace was measured on, else "
        "h100-sxm).",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of tables.")]


class View(StrEnum):
    """How a trace's memory traffic is counted."""

    eager = "eager"
    fused = "fused"


ViewOption = Annotated[
    View, typer.Option("--view", help="eager: each op moves its tensors; fused: chains of pointwise ops as one kernel.")
]


class Engine(StrEnum):
    """Which engine plays the plans."""

    analytic = "analytic"
    event = "event"


class Mode(StrEnum):
    """How kernels are issued."""

    graph = "graph"
    eager = "eager"
    piecewise = "piecewise"


EngineOption = Annotated[
    Engine, typer.Option(help="analytic: closed form, at once; event: SimPy, sees queueing and overlap.")
]
ModeOption = Annotated[
    Mode,
    typer.Option(
        help="graph: kernels back to back; eager: the host dispatches each of them; piecewise: those of attention and "
        "of layers with a state, and what lies between as one, as serving engines run steps with prompts."
    ),
]
OwnTable = Annotated[
    Path | None,
    typer.Option(
        help="Measured table of your own: the columns of predict, and measured_s; or those of aiconfigurator."
    ),
]


def chip_for(traces: "Sequence[Trace]", chip: str | None) -> str:
    """The chip asked for, else the one that all of the traces were measured on, else an H100."""
    from reports.subject import chip_of

    if chip is not None:
        return chip
    measured = {chip_of(trace) for trace in traces}
    return next(iter(measured)) or DEFAULT_CHIP if len(measured) == 1 else DEFAULT_CHIP


def unique_chips(names: "Sequence[str]") -> tuple[str, ...]:
    """Chips that were asked for, each once, refusing files whose chips have one and the same name."""
    from reports.errors import ReportError
    from roofline.chipfile import load_chip

    asked = tuple(dict.fromkeys(names))
    known = [load_chip(name).name for name in asked]
    twice = next((name for name in known if known.count(name) > 1), None)
    if twice:
        raise ReportError(f"two of the chips are called {twice!r}; give one of the files another name")
    return asked


def writable(path: Path | None) -> Path | None:
    """Callback of options that name a file to write: refuses now what could not be written after the work."""
    from profiler.files import check_writable
    from reports.errors import ReportError

    if path is not None:
        try:
            check_writable(path)
        except OSError as error:
            raise ReportError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def read_trace(path: Path, view: View = View.eager) -> "Trace":
    """Load a trace in the view asked for."""
    from profiler.fusion import fuse
    from profiler.storage import load_trace

    trace = load_trace(path)
    return fuse(trace) if view is View.fused else trace


def default_output(name: str) -> Path:
    """`out/<name>.parquet` with whatever a file name cannot hold replaced."""
    slug = "".join(character if character.isalnum() or character in "-_." else "-" for character in name)
    return Path("out") / f"{slug.strip('-.') or 'trace'}.parquet"
