"""Scenarios on the command line, in the page, and what fits into a budget."""

import json

import pytest
from command_line import refused
from typer.testing import CliRunner

from reports.cli import app
from reports.scenario_budget import most_units

MODEL = """
schema = 1
kind = "{kind}"
layers = 2
d_model = 64
heads = 2
kv_heads = 2
head_dim = 32
ffn = 128
vocab = 100
max_length = 64
rope_theta = 10000.0
norm_eps = 1e-5
source = "invented for this test"
"""
SCENARIO = """
schema = 1
title = "a < b"
kind = "{kind}"
[job]
{job}
[[contender]]
model = "ar.toml"
sampler = "autoregressive"
quality = {{ value = 0.5, task = "T", gen_length = 16, source = "somebody, table 1" }}
[[contender]]
model = "masked.toml"
sampler = "llada"
label = "masked"
tokens_per_step = 4
"""


@pytest.fixture
def scenario_file(tmp_path):
    (tmp_path / "ar.toml").write_text(MODEL.format(kind="ar"))
    (tmp_path / "masked.toml").write_text(MODEL.format(kind="masked_diffusion") + "mask_id = 99\n")

    def write(kind, job):
        (tmp_path / "mine.toml").write_text(SCENARIO.format(kind=kind, job=job))
        return tmp_path / "mine.toml"

    return write


def run(*arguments):
    return CliRunner().invoke(app, ["scenario", *map(str, arguments)], catch_exceptions=False)


@pytest.mark.parametrize(("budget", "answer"), [(0.55, 0), (0.6, 1), (1.0, 5), (2.0, 15), (1e9, 40)])
def test_most_units_is_the_largest_that_fits(budget, answer):
    assert most_units(lambda n: (5 + n) / 10, 40, budget, {}) == answer


def test_most_units_needs_few_tries_on_curved_costs():
    known = {}
    most = most_units(lambda n: 1e-4 * n**2 + 0.01 * n, 4000, 1.0, known)
    assert most == 61  # 0.3721 + 0.61 = 0.9821; 62: 1.0044
    assert len(known) < 12


def test_counts_and_published_quality_reach_the_rows(scenario_file):
    file = scenario_file("generate", "batch = [1, 2]\nprompt_length = 32\ngen_length = 16")
    rows = json.loads(run(file, "--json").stdout)["rows"]
    assert [(row["size"], row["contender"], row["forwards"], row["rows"], row["tokens"]) for row in rows] == [
        ("batch 1", "ar.toml@autoregressive", 16, 32 + 15, 16),
        ("batch 1", "masked", 4, 4 * 48, 16),
        ("batch 2", "ar.toml@autoregressive", 16, 2 * 47, 32),
        ("batch 2", "masked", 4, 2 * 4 * 48, 32),
    ]
    assert {(row["quality"], row["quality_basis"]) for row in rows} == {(0.5, "published"), (None, "unknown")}
    other = json.loads(run(file, "--json", "--set", "gen_length=8").stdout)["rows"]
    assert {row["quality_basis"] for row in other} == {"unknown"}  # nobody published this length


@pytest.mark.slow
def test_budget_tells_most_tokens_and_best_quality(scenario_file, tmp_path):
    file = scenario_file(
        "budget", "prompt_length = 32\ngen_length = 16\nbudgets_s = [1e-9, 1e-2, 10.0]\nresolution = 4"
    )
    result = json.loads(run(file, "--json", "-o", tmp_path / "page.html").stdout)
    table = {(row["contender"], row["budget_s"]): row for row in result["budgets"]}
    assert len(table) == 6
    assert {row["most_tokens"] for (_, budget), row in table.items() if budget == 1e-9} == {0}
    # 10 s is plenty: all 64 - 32 positions
    assert {row["most_tokens"] for (_, budget), row in table.items() if budget == 10.0} == {32}
    for row in table.values():
        assert row["most_tokens_s"] is None or row["most_tokens_s"] <= row["budget_s"]
        assert row["point_fits"] == (row["point_s"] <= row["budget_s"])
    page = (tmp_path / "page.html").read_text()
    assert "somebody, table 1" in page
    assert "a &lt; b" in page


def test_markdown_and_table_name_every_contender(scenario_file, tmp_path):
    file = scenario_file("infill", "prefix_length = 8\nhole_length = 4\nsuffix_length = 8")
    result = run(file, "--markdown", tmp_path / "table.md", "--contender", f"{tmp_path}/masked.toml@any_order")
    assert result.exit_code == 0
    text = (tmp_path / "table.md").read_text()
    for part in ("ar.toml@autoregressive", "masked", "any_order", "regenerate", "hole", "unknown"):
        assert part in text
        assert part in result.stdout


def test_scenarios_are_listed():
    listed = {each["name"] for each in json.loads(run("--json").stdout)}
    assert {"single", "batch", "lengths", "budget", "rollouts", "infill", "edit"} <= listed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "unknown scenario 'nothing'; known: batch,"),
        (("single", "--set", "batch"), "--set must be KEY=VALUE"),
        (("single", "--set", "bach=2"), "unknown key job.bach"),
        (("single", "--set", "batch=two"), "job.batch must be a whole number, got 'two'"),
        (("single", "--chip", "h1"), "unknown chip"),
    ],
)
def test_wrong_requests_are_one_line(monkeypatch, capsys, arguments, message):
    assert message in refused(capsys, monkeypatch, "scenario", *arguments)
