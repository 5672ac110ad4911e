"""`roofscape report`: one HTML page that a person opens."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import ChipName, View, ViewOption, read_trace, writable

if TYPE_CHECKING:
    from profiler.traces import Trace
    from reports.subject import Paradigm


def report(
    trace_files: Annotated[list[Path], typer.Argument(help="Traces to show side by side.")],
    chip: ChipName = "h100-sxm",
    output: Annotated[Path, typer.Option("--output", "-o", callback=writable, help="The HTML file to write.")] = Path(
        "out/report.html"
    ),
    page: Annotated[
        list[str] | None, typer.Option("--page", "-p", help="Only these pages (default: all); see --list-pages.")
    ] = None,
    view: ViewOption = View.eager,
    list_pages: Annotated[bool, typer.Option("--list-pages", help="Name the pages and stop.")] = False,
) -> None:
    """Write one self-contained HTML report; it works offline and in print.

    roofscape report ar.parquet diffusion.parquet --chip h100-sxm -o report.html
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
    loaded_chip = load_chip(chip)
    subjects = []
    with progress("analyzing and simulating"):
        for path in trace_files:
            trace = read_trace(path, view)
            subjects.append(
                Subject(
                    label=trace.name,
                    trace=trace,
                    chip=loaded_chip,
                    paradigm=guess_paradigm(trace),
                    simulation=simulate(trace, loaded_chip),
                )
            )
        write_report(build_reports(build_tables(subjects), page), output, title=f"Roofscape on {loaded_chip.title}")
    print_line(f"wrote {output}")


def guess_paradigm(trace: "Trace") -> "Paradigm":
    """How a trace generates, by the phases that its program marked."""
    names = {name.rpartition("/")[2] for name in trace.phases}
    if "denoise" in names:
        return "diffusion"
    return "autoregressive" if "decode" in names else "other"
