"""The designs of a page of `roofscape explore` in a real Chromium: choose, hover, brush."""

import json

import pytest
from browser_visit import Designs, Visit
from typer.testing import CliRunner

pytest.importorskip("torch", reason="workloads are captured")

from reports.cli import app

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SPACE = """
schema = 1
title = "Small chips"
objectives = ["seconds_per_unit", "bill_usd"]

[parameters]
cores = [96, 120, 132]
stacks = [4, 6]
clock_ghz = [1.4, 1.8]
"""
WORKLOAD = """
[[workload]]
name = "{name}-b{batch}"
program = "{program}"
batch = {batch}
prompt_length = 32
gen_length = 4
"""
PALE = "#eeeeee"
TIME, ENERGY, COST = "seconds per token or image", "joules per token or image", "US$ per million"


@pytest.fixture(scope="module")
def explored(browser, tmp_path_factory):
    """(chart of designs of the open page, what the command found as JSON)."""
    folder = tmp_path_factory.mktemp("explore")
    jobs = [("ar", "ar-100m", 1), ("ar", "ar-100m", 8), ("denoise", "diffusion-100m", 1)]
    workloads = [WORKLOAD.format(name=name, program=program, batch=batch) for name, program, batch in jobs]
    (folder / "space.toml").write_text(SPACE + "".join(workloads))
    arguments = [str(folder / "space.toml"), "-o", str(folder / "out.html"), "--processes", "1", "--no-finalists"]
    done = CliRunner().invoke(app, ["explore", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    visit = Visit(browser, folder / "out.html")
    yield Designs(visit), json.loads(done.stdout)
    visit.context.close()


def values(points):
    return {int(point["design"]): float(point["value"]) for point in points}


def shown_in(designs, fits):
    """Designs whose color fits, in both charts."""
    return [{int(point["design"]) for point in designs.points(view) if fits(point["fill"])} for view in (0, 1)]


def test_page_is_silent_and_asks_for_nothing(explored):
    visit = explored[0].visit
    assert visit.messages == [] and visit.requests == [visit.address]


def test_workload_batch_and_objective_can_be_chosen(explored):
    designs, found = explored
    assert designs.menus() == {
        "workload": ["all, weighted", "ar", "denoise-b1"],
        "batch": ["1", "8"],
        "objective": [TIME, ENERGY, COST],
    }
    assert found["evaluations"] == 12
    for job, choice in {
        "ar-b1": {"workload": "ar", "batch": "1"},
        "ar-b8": {"workload": "ar", "batch": "8"},
        "denoise-b1": {"workload": "denoise-b1"},  # has one batch only: whatever batch is chosen
    }.items():
        for title, figure in ((TIME, "seconds_per_unit"), (ENERGY, "joules_per_unit"), (COST, "usd_per_million_units")):
            designs.choose(**choice, objective=title)
            expected = {row["design"]: pytest.approx(row[f"{job}.{figure}"], rel=1e-3) for row in found["front"]}
            designs.visit.eventually(lambda expected=expected: expected.items() <= values(designs.points()).items())
            assert len(values(designs.points())) == 12
            assert len(set(values(designs.points()).values())) > 1


def test_orange_points_are_the_front(explored):
    designs, found = explored
    designs.choose(workload="all, weighted", objective=TIME)
    front = {row["design"] for row in found["front"]}
    assert 0 < len(front) < 12
    designs.visit.eventually(lambda: shown_in(designs, lambda fill: fill == "#D55E00") == [front, front])


def test_hover_shows_the_design(explored):
    designs, _ = explored
    for point in designs.points()[:2]:
        words = designs.tooltip(point)
        for name in ("design", "cores", "stacks", "clock_ghz", "bill_usd"):
            assert words[words.index(name) + 1] == point[name]
    designs.visit.page.mouse.move(0, 0)


@pytest.mark.parametrize("brushed", [0, 1])
def test_brushing_one_chart_marks_the_same_designs_in_the_other(explored, brushed):
    designs, found = explored
    designs.choose(workload="ar", batch="1", objective=TIME)
    expected = {row["design"]: pytest.approx(row["ar-b1.seconds_per_unit"], rel=1e-3) for row in found["front"]}
    designs.visit.eventually(lambda: expected.items() <= values(designs.points()).items())
    assert shown_in(designs, lambda fill: fill == PALE) == [set(), set()]
    left, *_, right = sorted(designs.points(brushed), key=lambda point: point["x"])
    middle = (left["x"] + right["x"]) / 2
    highest, lowest = (edge(point["y"] for point in designs.points(brushed)) for edge in (min, max))
    designs.brush((left["x"] - 8, highest - 8), (middle, lowest + 8))
    inside = {int(point["design"]) for point in designs.points(brushed) if point["x"] < middle}
    assert 0 < len(inside) < 12
    designs.visit.eventually(lambda: shown_in(designs, lambda fill: fill != PALE) == [inside, inside])
    designs.visit.page.mouse.dblclick((middle + right["x"]) / 2, lowest + 4)  # takes the brush away
    designs.visit.eventually(lambda: shown_in(designs, lambda fill: fill == PALE) == [set(), set()])
