import json
import math

import altair as alt
import numpy as np
import pandas as pd
import pytest

from reports.charts import bytes_by_role, paradigms, time_by_kind, timeline, utilization
from reports.charts.drawing import draw_roofline, save_chart
from reports.charts.roofline import kind_roofline, phase_roofline
from reports.charts.theme import chart_data, decades, kind_color
from reports.errors import ReportError
from reports.frames import MAX_ROWS
from reports.tables import Tables


def subject_rows(frame: pd.DataFrame, subject: str = "Toy decoding") -> pd.DataFrame:
    return frame[frame["subject"] == subject]


def op_roofline(tables: Tables) -> alt.typing.ChartType:
    points = subject_rows(tables.points)
    return kind_roofline(points[points["grouping"] == "op"], subject_rows(tables.ceilings), "ops")


def phases(tables: Tables) -> alt.typing.ChartType:
    return phase_roofline(tables.points[tables.points["grouping"] == "phase"], tables.ceilings, "phases")


CHARTS = {
    "op_roofline": op_roofline,
    "phase_roofline": phases,
    "time_by_kind": lambda tables: time_by_kind.time_by_kind(tables.kinds),
    "bytes_by_role": lambda tables: bytes_by_role.bytes_by_role(tables.roles),
    "bytes_by_kind": lambda tables: bytes_by_role.bytes_by_kind(tables.roles),
    "per_forward": lambda tables: paradigms.paradigm_bars(tables.comparison, "forward"),
    "per_token": lambda tables: paradigms.paradigm_bars(tables.comparison, "token"),
    "timeline": lambda tables: timeline.step_timeline(subject_rows(tables.timeline), "one step"),
    "utilization": lambda tables: utilization.utilization_map(tables.utilization),
    "energy": lambda tables: utilization.energy_bars(tables.energy),
}


@pytest.mark.parametrize("name", CHARTS)
def test_chart_is_valid_json_with_few_finite_rows(name, tables):
    spec = CHARTS[name](tables).to_dict()  # validates against the Vega-Lite schema
    json.dumps(spec, allow_nan=False)
    assert spec["datasets"]
    for rows in spec["datasets"].values():
        assert 0 < len(rows) <= MAX_ROWS


@pytest.mark.parametrize("name", CHARTS)
def test_chart_says_what_its_figures_are(name, tables):
    title = CHARTS[name](tables).to_dict()["title"]
    words = ("measured", "predicted", "published", "counted", "bound")
    assert any(word in title["subtitle"] for word in words)


def datasets_with(spec: dict, column: str) -> list[dict]:
    return [row for rows in spec["datasets"].values() for row in rows if column in row]


def test_every_drawn_roofline_point_is_positive(tables):
    rows = datasets_with(op_roofline(tables).to_dict(), "intensity")
    assert {row["kind"] for row in rows} == {"gemm", "pointwise"}
    assert all(row["intensity"] > 0 and row["flops_per_s"] > 0 for row in rows)
    assert {row["basis"] for row in rows} == {"bound", "simulated", "measured"}


def test_ceilings_meet_at_the_ridge_points(tables):
    rows = datasets_with(op_roofline(tables).to_dict(), "line")
    dram = [row for row in rows if row["line"].startswith("dram")]
    assert max(row["x"] for row in dram) == pytest.approx(1e11 / 1e10)
    assert max(row["y"] for row in dram) == pytest.approx(1e11)
    for row in dram:
        assert row["y"] == pytest.approx(row["x"] * 1e10)
    assert {row["y"] for row in rows if row["line"].startswith("bfloat16 matrix")} == {1e11}


def test_no_point_lies_above_the_roof(tables):
    for row in datasets_with(op_roofline(tables).to_dict(), "intensity"):
        assert row["flops_per_s"] <= min(1e11, row["intensity"] * 1e10) * (1 + 1e-9)


def test_time_bars_of_a_panel_add_up_to_the_measured_time(tables):
    rows = datasets_with(CHARTS["time_by_kind"](tables).to_dict(), "duration_s")
    unique = {(row["subject"], row["basis"], row["kind"]): row["duration_s"] for row in rows}
    total_s = sum(s for (subject, basis, _), s in unique.items() if (subject, basis) == ("Toy decoding", "measured"))
    assert total_s == pytest.approx(18e-6)


def test_kind_keeps_its_color_in_every_chart():
    alone = kind_color(["softmax"]).to_dict()["scale"]
    among = kind_color(["gemm", "softmax", "copy"]).to_dict()["scale"]
    assert among["range"][among["domain"].index("softmax")] == alone["range"][0]


def test_colors_of_kinds_differ():
    scale = kind_color([*map(str, kind_domain())]).to_dict()["scale"]
    assert len(set(scale["range"])) == len(scale["range"])


def kind_domain() -> tuple[str, ...]:
    from profiler.op import KINDS

    return KINDS


def test_too_many_rows_are_refused():
    with pytest.raises(ReportError, match="at most 5,000 rows, got 5,001"):
        chart_data(pd.DataFrame({"x": np.zeros(5001)}), "big")


def test_infinity_is_refused():
    with pytest.raises(ReportError, match="infinity in x"):
        chart_data(pd.DataFrame({"x": [1.0, math.inf]}), "endless")


def test_decades_hold_all_values():
    low, high = decades([3e-3, 1e4])
    assert low == pytest.approx(1e-3)
    assert high == pytest.approx(1e5)


@pytest.mark.parametrize(("suffix", "head"), [(".svg", b"<svg"), (".png", b"\x89PNG"), (".html", b"<!DOCTYPE html>")])
def test_chart_is_saved_as_a_picture(tables, tmp_path, suffix, head):
    path = save_chart(CHARTS["energy"](tables), tmp_path / "folder" / f"energy{suffix}")
    assert path.read_bytes().startswith(head)


def test_a_chart_as_a_page_runs_no_text_of_a_trace(tables, tmp_path):
    data = pd.DataFrame({"name": ["</script><script>alert(1)</script>"], "value": [1.0]})
    chart = alt.Chart(data).mark_bar().encode(x="value:Q", y="name:N")
    page = save_chart(chart, tmp_path / "bar.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert" not in page


def test_unknown_picture_format_is_refused(tables, tmp_path):
    with pytest.raises(ReportError, match=r"saved as \.svg, \.png or \.html, got 'energy\.gif'"):
        save_chart(CHARTS["energy"](tables), tmp_path / "energy.gif")


def test_roofline_is_drawn_from_a_trace(decoding, tmp_path):
    svg = draw_roofline(decoding.trace, "h100-sxm", tmp_path / "roofline.svg").read_text()
    assert "bfloat16 matrix 989 TFLOP/s" in svg
    assert "hbm 3.35 TB/s" in svg
