"""`roofscape explore` and `crossover`: pages, JSON, resuming, nonsense."""

import json
import sys

import pytest
from command_line import refused
from typer.testing import CliRunner

pytest.importorskip("torch", reason="workloads are captured")

from reports.cli import app

SPACE = """
schema = 1
title = "Small <b>chips</b>"
objectives = ["seconds_per_unit", "bill_usd"]

[parameters]
cores = [96, 132, 400]
stacks = [4, 6]
clock_ghz = [1.4, 1.8]

[[workload]]
name = "ar"
program = "ar-100m"
prompt_length = 32
gen_length = 4

[[workload]]
name = "denoise"
program = "diffusion-100m"
prompt_length = 32
gen_length = 8
block_length = 8
[[workload.point]]
label = "8 steps"
steps = 8
[[workload.point]]
label = "2 steps"
steps = 2
"""


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """(folder, result of the command as JSON) of a space of 24 designs."""
    folder = tmp_path_factory.mktemp("explore")
    (folder / "space.toml").write_text(SPACE)
    return folder, run(folder)


def run(folder, *more):
    arguments = [str(folder / "space.toml"), "-o", str(folder / "out.html"), "--processes", "1", "--json", *more]
    done = CliRunner().invoke(app, ["explore", *arguments])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_front_holds_constraints_and_is_beaten_by_none(explored):
    folder, found = explored
    assert found["designs_in_space"] == found["evaluations"] == 24
    assert found["known_before"] == 0
    front = found["front"]
    assert 0 < len(front) < 24
    assert all(row["die_mm2"] <= 858 and row["cores"] < 400 for row in front)
    for row in front:
        assert not any(
            other["seconds_per_unit"] < row["seconds_per_unit"] and other["bill_usd"] < row["bill_usd"]
            for other in front
        )
    assert all(row["denoise"] == "2 steps" for row in front)  # a quarter of the work for as many tokens
    assert {row["job"] for row in found["finalists"]} == {"ar", "denoise"}
    assert all(abs(row["difference"]) < 0.03 for row in found["finalists"])
    assert all(row["low_s"] < row["event_s"] < row["high_s"] for row in found["finalists"])
    page = (folder / "out.html").read_text()
    assert "Small &lt;b&gt;chips&lt;/b&gt;" in page and "Small <b>chips</b>" not in page


def test_page_draws_objectives_against_each_other_and_tells_of_slow_caches(explored, tmp_path):
    folder, _ = explored
    page = (folder / "out.html").read_text()
    assert "Objectives against each other" in page
    assert "holds it up" not in page  # six stacks of HBM3 give 4 TB/s, the cache at 1.4 GHz 7.4
    slow = SPACE.replace("[[workload]]", '[fixed]\ndram = "hbm4"\n\n[[workload]]', 1).replace(
        "stacks = [4, 6]", "stacks = [6]\nl2_bytes_per_clock = [2000]"
    )
    (tmp_path / "space.toml").write_text(slow)
    run(tmp_path, "--sensitivity", "0", "--no-finalists")
    found = (tmp_path / "out.html").read_text()
    assert "the shared cache gives less than main memory and holds it up" in found


def test_unknown_node_is_refused_before_anything_is_captured(tmp_path, capsys, monkeypatch):
    (tmp_path / "space.toml").write_text(SPACE.replace("[[workload]]", '[fixed]\nnode = "n3"\n\n[[workload]]', 1))
    line = refused(capsys, monkeypatch, "explore", tmp_path / "space.toml", "-o", tmp_path / "out.html")
    assert "unknown process node 'n3'; known: n12" in line
    assert not (tmp_path / "traces").exists()


def test_what_decides_over_the_whole_space_is_told(explored):
    folder, found = explored
    rows = {(row["parameter"], row["objective"]): row for row in found["whole_space"]}
    assert found["whole_space_not_weighed"] == ""
    assert set(rows) == {
        (name, objective)
        for name in ("cores", "stacks", "clock_ghz", "denoise")
        for objective in ("seconds_per_unit", "bill_usd")
    }
    # a quarter of the steps: half the geometric mean over both workloads, whatever the chip
    steps = rows["denoise", "seconds_per_unit"]
    assert steps["mean_absolute"] == pytest.approx(0.69, abs=0.02) and steps["spread"] < 0.05
    assert steps["total"] > 0.5 and steps["total"] == max(
        row["total"] for (_, objective), row in rows.items() if objective == "seconds_per_unit"
    )
    # silicon costs what it costs at any clock and any number of steps
    for name in ("clock_ghz", "denoise"):
        row = rows[name, "bill_usd"]
        assert row["total"] == row["first_order"] == row["mean_absolute"] == 0.0
    page = (folder / "out.html").read_text()
    assert "Sobol indices" in page and "Effects by Morris" in page
    assert "Over the whole space denoise decides most about seconds per token or image" in page


def test_four_objectives_without_moocore_end_before_anything_runs(tmp_path, capsys, monkeypatch):
    wanted = 'objectives = ["seconds_per_unit", "bill_usd", "area_mm2", "tdp_w"]'
    (tmp_path / "space.toml").write_text(SPACE.replace('objectives = ["seconds_per_unit", "bill_usd"]', wanted))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "moocore", None)  # an import of it then fails
    error = refused(capsys, monkeypatch, "explore", "space.toml", "--processes", "1")
    assert "4 objectives needs moocore: pip install 'roofscape[explore]'" in error
    assert [path.name for path in tmp_path.iterdir()] == ["space.toml"]  # nothing captured, nothing stored


def test_a_second_run_evaluates_nothing_again(explored):
    folder, found = explored
    again = run(folder)
    assert again["known_before"] == 24
    assert [row["design"] for row in again["front"]] == [row["design"] for row in found["front"]]


def test_sobol_and_search_find_designs_of_the_same_space(explored):
    folder, found = explored
    pytest.importorskip("pymoo", reason="NSGA-II needs pymoo")
    sampled = run(folder, "--sampling", "sobol", "--designs", "10", "--no-finalists")
    assert sampled["evaluations"] == 10 and sampled["finalists"] == []
    searched = run(folder, "--sampling", "nsga2", "--designs", "24", "--no-finalists")
    best = {row["design"] for row in found["front"]}
    assert {row["design"] for row in searched["front"]} <= {row["design"] for row in found["front"]} | best


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "cores = [96, 132, 400]",
            "cores = [400]",
            "none of 8 designs holds all constraints; most often: die_mm2 above",
        ),
        ("cores = [96, 132, 400]", "cores = [96, 0]", "parameter 'cores' must be > 0, got 0"),
        ("stacks = [4, 6]", "stacks = []", "parameter 'stacks' has no values"),
        ('program = "ar-100m"', 'program = "nobody"', "nobody"),
    ],
)
def test_nonsense_is_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, old, new, message):
    (tmp_path / "space.toml").write_text(SPACE.replace(old, new))
    monkeypatch.chdir(tmp_path)
    error = refused(capsys, monkeypatch, "explore", "space.toml", "--processes", "1")
    assert message in error
    assert not (tmp_path / "out" / "explore.html").exists()


LARGE = """
[[workload]]
name = "large"
program = "llama-3.1-70b"
prompt_length = 32
gen_length = 1
"""


def test_a_workload_that_fits_no_design_is_named_and_left_out_where_the_space_says_so(
    explored, tmp_path, capsys, monkeypatch
):
    _, found = explored
    (tmp_path / "space.toml").write_text(SPACE + LARGE)
    monkeypatch.chdir(tmp_path)
    error = refused(capsys, monkeypatch, "explore", "space.toml", "--processes", "1")
    assert "96 GB at most and do not hold large (141 GB)" in error

    (tmp_path / "space.toml").write_text(SPACE + LARGE + "weight = 0\n")
    without = run(tmp_path)
    assert [row["design"] for row in without["front"]] == [row["design"] for row in found["front"]]
    assert {row["job"] for row in without["finalists"]} == {"ar", "denoise"}
    page = (tmp_path / "out.html").read_text()
    assert "large: no design of the front holds it in memory; of weight 0, it judged no design." in page


def test_crossover_places_chips_of_ones_own(tmp_path):
    arguments = ["crossover", "--autoregression", "ar-100m", "--diffusion", "diffusion-100m", "--batch", "1"]
    arguments += ["--prompt-length", "32", "--gen-length", "8", "--chip", "h100-sxm", "--chip", "tpu-v5e"]
    done = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "c.html"), "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["chip"] for row in rows] == ["h100-sxm", "tpu-v5e"]
    assert all(row["visits"] > 1 and row["simulated_ratio"] > 0 for row in rows)
    assert (tmp_path / "c.html").stat().st_size > 10_000
