"""`roofscape import`: turn another profiler's file into a trace."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson, chip_for, default_output, writable

if TYPE_CHECKING:
    from profiler.importers.summary import KernelSummary
    from profiler.traces import Trace


def import_trace(
    format_name: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="kineto: JSON of the PyTorch profiler, or a folder with one per rank; nsys: SQLite of Nsight Systems; "
            "ncu: CSV or .ncu-rep of Nsight Compute; rocprof: CSV of rocprof or rocprofv3. All but .ncu-rep also .gz.",
        ),
    ],
    file: Annotated[Path, typer.Argument(help="The file to import.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", callback=writable, help="Where to save the trace (default: out/FILE.parquet)."),
    ] = None,
    onto: Annotated[
        Path | None,
        typer.Option(
            "--onto",
            metavar="TRACE",
            help="Put the counters of FILE onto the kernels of this trace of the same program, whose ops are known.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="The GPU that it was measured on, where the file names none: 'NVIDIA H100 SXM', for example."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where a kernel or an op cannot be explained.")] = False,
    as_json: AsJson = False,
) -> None:
    """Import a trace that another profiler recorded on a real device.

    Kernels are attached to the operations that launched them; what cannot be explained is kept, timed and counted.

      roofscape import kineto trace.json.gz -o trace.parquet

      roofscape roofline trace.parquet --chip h100-sxm

      roofscape import ncu counters.csv --onto trace.parquet -o counted.parquet
    """
    from dataclasses import asdict

    from profiler.counter_join import join_counters
    from profiler.importers.registry import find_importer
    from profiler.importers.strictness import refuse_unknown
    from profiler.importers.summary import summarize_kernels
    from profiler.storage import load_trace, save_trace
    from reports.console import print_json, progress, remark
    from reports.trace_summary import show, trace_json

    importer = find_importer(format_name)
    with progress(f"reading {file}"):
        trace = importer(file, strict=strict and onto is None)
        if onto is not None:
            trace = join_counters(load_trace(onto), trace)
            if strict:
                refuse_unknown(onto, trace)
    if device is not None:
        trace = _measured_on(device, trace)
    path = output or default_output(file.name.partition(".")[0])
    save_trace(trace, path)
    kernels = summarize_kernels(trace)
    if as_json:
        print_json({**trace_json(trace, path), "kernels": asdict(kernels)})
        return
    show(trace, path)
    _print_kernels(kernels)
    for note in trace.provenance.notes:
        remark(f"note: {note}")
    remark(f"next: roofscape roofline {path} --chip {chip_for((trace,), None)}")


def _measured_on(device: str, trace: "Trace") -> "Trace":
    """The trace with the name of its GPU, which its file does not hold."""
    from dataclasses import replace

    from reports.errors import ReportError

    named = trace.provenance.device
    if named:
        raise ReportError(f"--device is for files that name no GPU; this one names {named!r}, got {device!r}")
    notes = (*trace.provenance.notes, f"The name of the GPU, {device}, was given by hand.")
    return replace(trace, provenance=replace(trace.provenance, device=device, notes=notes))


def _print_kernels(kernels: "KernelSummary") -> None:
    """How much the device was busy, and how much of that ops with shapes explain."""
    from reports import formatting
    from reports.console import print_line

    seconds = formatting.format_seconds
    print_line(
        f"{formatting.format_count(kernels.kernel_count)} kernels, {seconds(kernels.kernel_s)} of kernel time, "
        + (
            f"device busy {seconds(kernels.busy_s)} of {seconds(kernels.span_s)} with copies; "
            if kernels.span_s
            else ""
        )
        + f"{kernels.unexplained_count} unexplained ({seconds(kernels.unexplained_s)})"
    )
    if kernels.gemm_explained_ratio is not None:
        print_line(
            f"matrix products: {seconds(kernels.gemm_s)} of kernel time, "
            f"{formatting.format_ratio(kernels.gemm_explained_ratio)} explained by ops with shapes and FLOPs"
        )
