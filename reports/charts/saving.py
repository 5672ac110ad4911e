"""Charts as pictures, drawn without a browser."""

from pathlib import Path

import altair as alt
import vl_convert

from reports.errors import ReportError


def save_chart(chart: alt.typing.ChartType, path: Path, *, scale: float = 2.0) -> Path:
    """Write a chart as a picture.

    Args:
        chart: any chart of this folder.
        path: ending in `.svg` or `.png`.
        scale: pixels of the picture per CSS pixel, for `.png`.

    Returns:
        The path written.

    Raises:
        ReportError: another ending.
    """
    spec = chart.to_dict()
    if path.suffix == ".svg":
        content = vl_convert.vegalite_to_svg(spec).encode()
    elif path.suffix == ".png":
        content = vl_convert.vegalite_to_png(spec, scale=scale)
    else:
        raise ReportError(f"a chart is saved as .svg or .png, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
