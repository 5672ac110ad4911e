"""`roofscape report`: one HTML page that a person opens."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import (
    Mode,
    ModeOption,
    SeveralChips,
    View,
    ViewOption,
    chip_for,
    read_trace,
    unique_chips,
    writable,
)

if TYPE_CHECKING:
    from profiler.traces import Trace
    from reports.subject import Paradigm


def report(
    trace_files: Annotated[list[Path], typer.Argument(help="Traces to show side by side.")],
    chip: SeveralChips = None,
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="The HTML file to write.")] = Path(
        "out/report.html"
    ),
    page: Annotated[
        list[str] | None, typer.Option("--page", "-p", help="Only these pages (default: all); see --list-pages.")
    ] = None,
    view: ViewOption = View.eager,
    mode: ModeOption = Mode.graph,
    list_pages: Annotated[bool, typer.Option("--list-pages", help="Name the pages and stop.")] = False,
) -> None:
    """Write one self-contained HTML report; it works offline and in print.

    roofscape report ar.parquet diffusion.parquet --chip h100-sxm -o report.html

    roofscape report llada.parquet --chip h100-sxm --chip my-chip.toml -o chips.html
    """
    from reports.console import print_line, progress
    from reports.html import write_report
    from reports.pages.registry import build_reports, page_names
    from reports.subject import Subject
    from reports.tables import build_tables
    from roofline.chipfile import load_chip
    from simulator.analytic import simulate

    if list_pages:
        for name in page_names():
            print_line(name)
        return
    traces = [read_trace(path, view) for path in trace_files]
    chips = [load_chip(name) for name in unique_chips(chip or [chip_for(traces, None)])]
    subjects = []
    with progress("analyzing and simulating"):
        for each in chips:
            for trace, label in zip(traces, labels(traces, trace_files), strict=True):
                subjects.append(
                    Subject(
                        label=label if len(chips) == 1 else f"{label} on {each.name}",
                        trace=trace,
                        chip=each,
                        paradigm=guess_paradigm(trace),
                        simulation=simulate(trace, each, mode=mode.value),
                    )
                )
        title = f"Roofscape on {', '.join(each.title for each in chips)}"
        write_report(build_reports(build_tables(subjects), page), output, title=title)
    print_line(f"wrote {output}")


def labels(traces: "Sequence[Trace]", paths: Sequence[Path]) -> list[str]:
    """A name for each trace that no other has: the program's, with the file's where a program was recorded twice."""
    names = [trace.name for trace in traces]
    found: list[str] = []
    for name, path in zip(names, paths, strict=True):
        label = name if names.count(name) == 1 else f"{name} ({path.stem})"
        found.append(f"{label} {len(found) + 1}" if label in found else label)
    return found


def guess_paradigm(trace: "Trace") -> "Paradigm":
    """How a trace generates, by the phases that its program marked."""
    names = {name.rpartition("/")[2] for name in trace.phases}
    if "denoise" in names:
        return "diffusion"
    return "autoregressive" if "decode" in names else "other"
