"""`roofscape export`: a trace as a file that other programs read."""

from pathlib import Path
from typing import Annotated

import typer

from reports.commands.options import (
    AsJson,
    Engine,
    EngineOption,
    Mode,
    ModeOption,
    TraceFile,
    View,
    ViewOption,
    default_output,
    read_trace,
    writable,
)
from reports.commands.simulate import play


def export_trace(
    format_name: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT", help="perfetto: timeline for ui.perfetto.dev or chrome://tracing; csv: one row a call."
        ),
    ],
    trace_file: TraceFile,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            callback=writable,
            help="The file to write, compressed where it ends in .gz (default: in out/).",
        ),
    ] = None,
    chip: Annotated[
        str | None,
        typer.Option("--chip", "-c", help="Also simulate on this chip, by name or TOML file, and show that beside it."),
    ] = None,
    engine: EngineOption = Engine.analytic,
    mode: ModeOption = Mode.graph,
    view: ViewOption = View.eager,
    as_json: AsJson = False,
) -> None:
    """Export a trace for other programs: a timeline for Perfetto, or a table of all calls.

    roofscape export perfetto trace.parquet -o timeline.json.gz

    roofscape export perfetto llada.parquet --chip h100-sxm --engine event -o simulated.json

    roofscape export csv trace.parquet -o calls.csv
    """
    from reports import formatting
    from reports.console import print_json, print_line, progress, remark
    from reports.exporters.registry import find_exporter

    exporter, suffix = find_exporter(format_name)
    trace = read_trace(trace_file, view)
    with progress(f"exporting {trace.name}"):
        simulation = None if chip is None else play(trace, chip, engine, mode)
        path = exporter(trace, output or default_output(trace.name).with_suffix(suffix), simulation=simulation)
    if as_json:
        print_json(
            {
                "trace": trace.name,
                "format": format_name,
                "calls": len(trace.calls),
                "kernels": len(trace.kernels),
                "simulated_on": simulation.chip if simulation else None,
                "file": str(path),
                "bytes": path.stat().st_size,
            }
        )
        return
    print_line(f"wrote {formatting.format_count(len(trace.calls))} calls to {path}")
    if format_name == "perfetto":
        remark("open it at https://ui.perfetto.dev or chrome://tracing; nothing is sent anywhere by this command")
