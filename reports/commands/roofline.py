"""`roofscape roofline`: a trace under the roofline of a chip."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson, MeasuredChip, TraceFile, View, ViewOption, chip_for, read_trace, writable

if TYPE_CHECKING:
    from profiler.traces import Trace
    from roofline.points import RooflinePoint


class Grouping(StrEnum):
    """What one row of the table stands for."""

    op = "op"
    kind = "kind"
    phase = "phase"
    step = "step"
    module = "module"
    layer = "layer"
    trace = "trace"


def roofline(
    trace_file: TraceFile,
    chip: MeasuredChip = None,
    by: Annotated[
        Grouping,
        typer.Option("--by", "-b", help="What one row stands for; layer: modules that differ in numbers alone."),
    ] = Grouping.kind,
    view: ViewOption = View.eager,
    top: Annotated[int, typer.Option(min=1, help="Show this many rows, the longest first: measured, else bound.")] = 30,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", callback=writable, help="Draw the roofline with every op into an .svg, .png or .html file."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Place a trace under a chip's roofline: the least time each part can take, what binds it, how far it is from that.

    The bound is a lower bound with cold caches: FLOPs at the peak of their type, each byte once through each memory.
    Measured times, where the trace has any, belong to the device that it was recorded on.
    """
    from profiler.summary import summarize
    from reports.console import print_json, print_line, remark
    from reports.measured_energy import energy_json, print_energy
    from reports.subject import is_same_device
    from reports.trace_summary import unknown_line
    from reports.traffic_table import show_traffic, traffic_json
    from roofline.analysis import analyze
    from roofline.chipfile import load_chip
    from roofline.points import points_frame

    trace = read_trace(trace_file, view)
    loaded_chip = load_chip(chip_for((trace,), chip))
    points = sorted(analyze(trace, loaded_chip, by=by.value), key=_longest_first)
    is_here = is_same_device(trace.provenance.device, loaded_chip)
    if not is_here:  # a time of another device says nothing of this chip's limits
        points = [replace(point, efficiency=None, gap_s=None) for point in points]
    if plot is not None:
        _draw(trace_file, view, loaded_chip.name if chip is None else chip, plot)
    if as_json:
        print_json(
            {
                "trace": trace.name,
                "view": trace.view,
                "chip": loaded_chip.name,
                "measured_on": trace.provenance.device if trace.is_measured else None,
                "is_measured_on_chip": trace.is_measured and is_here,
                "ridge_flops_per_byte": loaded_chip.ridge_flops_per_byte("bfloat16"),
                "measured_energy": energy_json(trace),
                "points": points_frame(tuple(points)).to_dict("records"),
                "traffic": traffic_json(trace),
            }
        )
        return
    whole = analyze(trace, loaded_chip, by="trace")
    _print(
        trace.name, loaded_chip.title, by.value, [*points[:top], *(whole if by is not Grouping.trace else ())], is_here
    )
    if trace.is_counted:
        show_traffic(trace, top)
    if trace.is_measured and not is_here:
        remark(_elsewhere(trace.provenance.device, loaded_chip.title))
    for note in _notes(trace, whole[0]) if whole else ():
        remark(f"note: {note}")
    partial = _partly_judged(whole[0]) if whole and is_here else ""
    if partial:
        remark(partial)
    print_energy(trace)
    summary = summarize(trace)
    if len(points) > top:
        remark(f"{len(points) - top} more rows; --top {len(points)} shows all, --json gives every figure")
    if summary.unknown_ops:
        print_line(unknown_line(trace, summary))
    if plot is not None:
        print_line(f"wrote {plot}")


def _longest_first(point: "RooflinePoint") -> tuple[float, float]:
    """Sorts by measured time where there is any, so that what nobody can bound is not hidden behind trifles."""
    return -(point.measured_s or 0.0), -(point.bound_s or 0.0)


def _notes(trace: "Trace", whole: "RooflinePoint") -> list[str]:
    """What a reader of the table must know: FLOPs that it leaves out, and copies whose limit it does not know."""
    from profiler.importers.summary import summarize_kernels
    from reports import formatting
    from reports.findings import host_copies_text

    notes = []
    if whole.flops and whole.required_flops and whole.flops > 1.01 * whole.required_flops:
        notes.append(
            f"FLOPs and intensity leave out what a causal mask lets a kernel skip; with it there are "
            f"{formatting.format_flops(whole.flops)}"
        )
    kernels = summarize_kernels(trace)
    if copies := host_copies_text(kernels.host_copy_count, kernels.host_copy_s, whole.measured_s):
        notes.append(copies)
    return notes


def _elsewhere(device: str, chip: str) -> str:
    """Why a trace that was not measured on this chip has no efficiency, and what to do where it was."""
    if not device:
        return "measured on an unnamed device: no efficiency (`roofscape import --device` names it)"
    return (
        f"measured on {device}, not on {chip}: no efficiency (a chip file is that device where its title is the "
        "device's name)"
    )


def _partly_judged(whole: "RooflinePoint") -> str:
    """What the efficiency of a trace leaves out where calls of it have no bound; empty where none is left out."""
    from reports import formatting

    if not whole.unbounded_calls or not whole.efficiency or not whole.measured_s or whole.gap_s is None:
        return ""
    judged_s = whole.gap_s / (1.0 - whole.efficiency) if whole.efficiency != 1.0 else whole.bound_s
    return (
        f"efficiency is that of the calls that have a bound, {formatting.format_seconds(judged_s)} of the "
        f"{formatting.format_seconds(whole.measured_s)} measured"
    )


def _print(trace: str, chip: str, by: str, points: "list[RooflinePoint]", is_here: bool) -> None:
    from reports import formatting
    from reports.console import print_table

    rows = [
        (
            formatting.shorten(point.label, 90) or "(none)",
            formatting.format_count(point.calls),
            formatting.format_flops(point.required_flops),
            formatting.format_bytes(point.bytes),
            formatting.format_intensity(point.intensity),
            formatting.format_seconds(point.bound_s),
            point.bound_by,
            formatting.format_seconds(point.measured_s) if point.measured_calls else "-",
            formatting.format_ratio(point.efficiency) if point.measured_calls and is_here else "-",
        )
        for point in points
    ]
    columns = (by, "calls", "FLOPs", "bytes", "intensity", "bound", "bound by", "measured", "efficiency")
    print_table(f"{trace} under the roofline of {chip} (bound: predicted, lower limit)", columns, rows)


def _draw(trace_file: Path, view: View, chip: str, path: Path) -> None:
    from reports.charts.drawing import draw_roofline
    from reports.console import progress

    with progress(f"drawing {path}"):
        draw_roofline(read_trace(trace_file, view), chip, path)
