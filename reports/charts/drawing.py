"""Charts as pictures, drawn without a browser."""

from pathlib import Path

import altair as alt
import vl_convert

from profiler.files import write_atomically
from profiler.traces import Trace
from reports.charts.roofline import drawn_phases, kind_roofline, phase_roofline
from reports.errors import ReportError
from reports.html import render
from reports.report import Figure, Report, Section
from reports.roofline_rows import ceilings_frame, points_frame
from reports.subject import Subject
from reports.tables import Tables
from roofline.chipfile import load_chip
from simulator.analytic import simulate


def draw_roofline(trace: Trace, chip_name: str, path: Path) -> Path:
    """Draw a trace's operations, bounds, simulated and measured, under the roofline of a chip.

    Args:
        trace: what ran.
        chip_name: name or file of the chip.
        path: picture to write, `.svg`, `.png` or `.html`.

    Returns:
        The path written.

    Raises:
        ReportError: no operation has FLOPs, bytes and time known.
    """
    chip = load_chip(chip_name)
    subjects = [Subject(label=trace.name, trace=trace, chip=chip, simulation=simulate(trace, chip))]
    points = points_frame(subjects)
    drawn = points[points["grouping"] == "op"]
    if not (drawn["undrawn"] == "").any():
        raise ReportError(
            f"trace {trace.name!r}: no operation has FLOPs, bytes and time known, so there is no roofline"
        )
    return save_chart(kind_roofline(drawn, ceilings_frame(subjects), f"{trace.name} on {chip.title}"), path)


def draw_phases(tables: Tables, chip_name: str, path: Path) -> Path:
    """Draw the phases of every subject on a chip under its roofline, those with a share in their program's time.

    Args:
        tables: of a report.
        chip_name: name of the chip, as in the tables.
        path: picture to write, `.svg`, `.png` or `.html`.
    """
    chart = phase_roofline(
        drawn_phases(tables.points, chip_name),
        tables.ceilings[tables.ceilings["chip"] == chip_name],
        f"Phases under the roofline of {chip_name}",
    )
    return save_chart(chart, path)


def _page(chart: alt.typing.ChartType) -> str:
    """A page with this chart alone, that runs no text of a trace."""
    named = chart.to_dict().get("title", "Chart")
    title = str(named["text"] if isinstance(named, dict) else named)
    section = Section(title=title, figures=(Figure(chart=chart),))
    return render([Report(title="Roofline", findings=(), sections=(section,))], title)


def save_chart(chart: alt.typing.ChartType, path: Path, *, scale: float = 2.0) -> Path:
    """Write a chart as a picture.

    Args:
        chart: any chart of this folder.
        path: ending in `.svg`, `.png` or `.html`.
        scale: pixels of the picture per CSS pixel, for `.png`.

    Returns:
        The path written.

    Raises:
        ReportError: another ending, or a file that cannot be written.
    """
    spec = chart.to_dict()
    if path.suffix == ".svg":
        content = vl_convert.vegalite_to_svg(spec).encode()
    elif path.suffix == ".png":
        content = vl_convert.vegalite_to_png(spec, scale=scale)
    elif path.suffix == ".html":
        content = _page(chart).encode()
    else:
        raise ReportError(f"a chart is saved as .svg, .png or .html, got {path.name!r}")
    try:
        write_atomically(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        raise ReportError(f"cannot write picture {path}: {error.strerror or error}") from None
    return path
