import json

import pytest
from typer.testing import CliRunner

from reports.charts.exactness import exactness_chart
from reports.cli import app
from reports.errors import ReportError
from reports.exactness_page import build_exactness_page, error_rows
from reports.exactness_tables import CLOSED_FORM, exactness_sentences, exactness_table
from reports.html import render
from workloads.exactness import ErrorPoint
from workloads.exactness_study import Case, CasePoint


def case_point(label: str, steps: int, total_variation: float) -> CasePoint:
    point = ErrorPoint(
        sampler="mdlm",
        steps=steps,
        nfe=steps + 1,
        draws=1000,
        total_variation=total_variation,
        chi_square=1.0,
        degrees=26,
    )
    return CasePoint(case=Case(label=label, sampler="mdlm", noise="absorbing"), point=point)


POINTS = [case_point("good", 1, 0.3), case_point("good", 8, 0.05), case_point("bad", 1, 0.4), case_point("bad", 8, 0.4)]


def test_closed_form_stands_beside_the_draws_under_its_own_label() -> None:
    table = exactness_table(POINTS)
    assert table["basis"].tolist() == ["drawn"] * 4 + ["closed form"] * 2
    assert table[table["series"] == CLOSED_FORM]["nfe"].isna().all()


def test_sentences_tell_the_exact_from_the_wrong() -> None:
    good, bad = exactness_sentences(exactness_table(POINTS))  # the floor of 1,000 draws is 0.066
    assert good.endswith("0.050 at 8 steps (9 evaluations); only chance is left.")
    assert bad.endswith("it is not exact yet.")


def test_brief_table_has_a_row_per_sampler_and_a_column_per_number_of_steps() -> None:
    headers, rows = error_rows(exactness_table(POINTS))
    assert headers == ["sampler", "1 steps", "8 steps"]
    assert [row[0] for row in rows] == ["good", "bad", CLOSED_FORM]
    assert rows[0][1:] == ("0.300", "0.0500")


def test_chart_by_evaluations_leaves_out_what_has_none() -> None:
    table = exactness_table(POINTS)
    drawn = json.dumps(exactness_chart(table).to_dict())
    assert CLOSED_FORM in drawn
    assert CLOSED_FORM not in json.dumps(exactness_chart(table, "nfe").to_dict())


def test_page_escapes_names() -> None:
    page = build_exactness_page(exactness_table([case_point("<img src=x>", 1, 0.3)]))
    assert "<img src=x>" not in render((page,), "x").partition("<main")[2].partition("<script")[0]


def test_command_writes_page_and_json(tmp_path) -> None:
    arguments = ["--draws", "200", "--steps", "1,2", "--json", "-o", str(tmp_path / "e.html")]
    result = CliRunner().invoke(app, ["exactness", *arguments])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert {row["steps"] for row in rows} == {1, 2}
    formula = [row["total_variation"] for row in rows if row["basis"] == "closed form"]
    assert formula == pytest.approx([0.3023, 0.1546], abs=1e-3)
    assert (tmp_path / "e.html").stat().st_size > 10_000


def test_bad_steps_are_one_line() -> None:
    result = CliRunner().invoke(app, ["exactness", "--steps", "1,x"])
    assert isinstance(result.exception, ReportError)
    assert "--steps must be whole numbers" in str(result.exception)
