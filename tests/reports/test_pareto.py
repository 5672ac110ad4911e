import json
import math
import textwrap

import pandas as pd
import pytest
from typer.testing import CliRunner

from reports.cli import app
from reports.errors import ReportError
from reports.html import render
from reports.pareto import ChipCost, OperatingPoint, Setting, wilson_interval
from reports.pareto_page import build_pareto_page
from reports.pareto_settings import default_settings, own_settings
from reports.pareto_tables import (
    costs_table,
    frontier,
    points_table,
    read_published,
    shipped_published,
    verdict_sentences,
    verdicts,
)
from workloads.errors import WorkloadError

OWN_SAMPLER = textwrap.dedent('''
    """All cells at once."""
    import torch
    from workloads.samplers.protocol import Generation

    @torch.inference_mode()
    def sample(model, prompt_BP, options):
        masks = prompt_BP.new_full((len(prompt_BP), options.gen_length), model.mask_id)
        tokens = torch.cat((prompt_BP, masks), dim=1)
        tokens[:, 16:].copy_(model(tokens)[:, 16:, :5].argmax(dim=-1))
        count, rows = masks.numel(), tokens.numel()
        return Generation(
            tokens=tokens, prompt_length=16, committed_per_forward=(count,), rows_per_forward=(rows,)
        )
''')


def point(sampler: str, knobs: str, solved: int, cost: float, **changes) -> OperatingPoint:
    figures = {
        "setting": Setting(model="m", sampler=sampler, options=(("knob", knobs),)),
        "problems": 100,
        "solved": solved,
        "batch": 10,
        "forwards": cost,
        "tokens_per_forward": 16 / cost,
        "flops": 1e6 * cost,
        "bytes": 1e5 * cost,
        "unknown_ops": (),
        "measured_s": 1e-3 * cost,
        "spread_s": 1e-5,
        "chips": tuple(
            ChipCost(chip=chip, simulated_s=1e-5 * cost, energy_j=joules) for chip, joules in (("a", 2.0), ("b", None))
        ),
    }  # fmt: skip
    return OperatingPoint(**figures | changes)


@pytest.fixture
def points() -> pd.DataFrame:
    """Autoregression at 90 of 100; diffusion cheap and worse, equal and at half the forwards, better and dear."""
    return points_table(
        [
            point("autoregressive", "0", 90, 16.0),
            point("autoregressive", "1", 70, 16.0),
            point("llada", "fast", 40, 2.0),
            point("llada", "equal", 90, 8.0),
            point("llada", "best", 99, 32.0),
            point("llada", "useless", 30, 20.0),
        ]
    )


@pytest.mark.parametrize(("solved", "problems"), [(0, 50), (7, 50), (450, 500), (500, 500)])
def test_interval_holds_the_shares_that_a_score_test_would_not_reject(solved, problems):
    share = solved / problems
    for edge in wilson_interval(solved, problems):
        if 0 < edge < 1:
            deviation = abs(share - edge) / math.sqrt(edge * (1 - edge) / problems)
            assert deviation == pytest.approx(1.959964)
        else:
            assert edge == share


def test_table_has_a_row_per_point_and_chip_and_keeps_unknown_energy(points):
    assert len(points) == 12
    assert points["energy_j"].isna().tolist() == [False, True] * 6
    assert points["accuracy"].iloc[0] == 0.9


def test_frontier_is_what_no_point_beats(points):
    rows = costs_table(points).query("cost == 'forwards'")
    assert rows.loc[rows["is_frontier"], "knobs"].tolist() == ["knob=fast", "knob=equal", "knob=best"]
    assert frontier(pd.Series([1.0, 1.0]), pd.Series([0.5, 0.5])) == [True, True]


def test_verdict_compares_with_the_cheapest_diffusion_that_is_as_accurate(points):
    table = verdicts(costs_table(points)).set_index(["cost", "chip"])
    assert table.loc[("forwards", ""), "ratio"] == 0.5
    assert table.loc[("simulated_s", "b"), "winner"] == "m / llada (knob=equal)"
    assert ("energy_j", "b") not in table.index  # unknown there
    assert "diffusion wins" in verdict_sentences(table.reset_index())[0]


def test_verdict_says_when_no_diffusion_is_as_accurate(points):
    worse = points[~points["knobs"].isin(["knob=equal", "knob=best"])]
    sentence = verdict_sentences(verdicts(costs_table(worse)))[0]
    assert "no diffusion setting is as accurate as autoregression's 90 % (best 40 %)" in sentence


def test_page_draws_every_known_cost_and_escapes_names(points):
    hostile = points.assign(knobs="</script><b>")
    page = build_pareto_page(hostile)
    assert [section.title for section in page.sections][-1] == "All points"
    assert len(page.sections) == 4 + 2 + 1 + 1
    assert "<b>" not in render((page,), "x").partition("<body")[2].partition("<script")[0].replace("<body", "")


def test_own_sampler_text():
    (first, second) = own_settings("sudoku-masked@llada:steps=2/4,block_length=4")
    assert first == Setting(
        model="sudoku-masked", sampler="llada", options=(("steps", "2"), ("block_length", "4")), is_own=True
    )
    assert second.knobs == "steps=4, block_length=4"
    assert [setting.knobs for setting in own_settings("llada")] == ["steps=2", "steps=4", "steps=8", "steps=16"]


@pytest.mark.parametrize("text", ["", "nobody@llada", "llada:steps", "llada:=4"])
def test_bad_sampler_text_is_one_line(text):
    with pytest.raises(ReportError, match="--sampler"):
        own_settings(text)


def test_default_sweep_has_both_paradigms_and_can_be_limited():
    assert {setting.paradigm for setting in default_settings()} == {"autoregressive", "diffusion"}
    assert {setting.model for setting in default_settings(["sudoku-ar"])} == {"sudoku-ar"}
    with pytest.raises(ReportError, match="unknown trained model 'gpt'"):
        default_settings(["gpt"])
    with pytest.raises(WorkloadError, match="unknown sampler"):
        own_settings("nobody")


def test_published_points_need_tokens_per_forward_and_percent(tmp_path):
    path = tmp_path / "published.csv"
    header = "source,model,method,task,tpf,quality,quality_unit\n"
    rows = ("paper,L,base,GSM8K,1.0,79.3,acc %", "paper,L,none,GSM8K,,79.3,acc %", "paper,D,x,Images,2,1.8,FID")
    path.write_text(header + "\n".join(rows))
    table = read_published(path)
    assert table[["series", "tokens_per_forward"]].to_numpy().tolist() == [["L / base", 1.0]]
    assert table["accuracy"].tolist() == pytest.approx([0.793])
    path.write_text("source,model\nx,y\n")
    with pytest.raises(ReportError, match="lack the column method"):
        read_published(path)
    path.write_text(header)
    with pytest.raises(ReportError, match="no row has"):
        read_published(path)
    with pytest.raises(ReportError, match="cannot be read"):
        read_published(tmp_path / "none.csv")


def test_shipped_points_have_references_and_known_rows():
    table = shipped_published()
    assert table["source"].str.contains(r"\(arXiv:\d{4}\.\d{5}\)$").all()
    # arXiv:2505.22618, table 1: LLaDA on GSM8K, 5-shot, 256 tokens: 79.3, one token per step
    first = table[table["series"] == "LLaDA-8B-Instruct / baseline (1 token/step, no cache)"].iloc[0]
    assert (first["tokens_per_forward"], first["accuracy"]) == pytest.approx((1.0, 0.793))


def test_published_points_keep_their_label(points):
    published = pd.DataFrame(
        {"source": ["paper"], "series": ["L"], "task": ["t"], "tokens_per_forward": [2.0], "accuracy": [0.7]}
    )
    text = json.dumps(build_pareto_page(points, published).sections[-2].figures[0].chart.to_dict())
    assert "published: score of 100" in text
    assert "measured here: exact accuracy" in text


@pytest.mark.slow
def test_command_sweeps_shipped_models_and_an_own_sampler(tmp_path):
    file = tmp_path / "at_once.py"
    file.write_text(OWN_SAMPLER)
    arguments = ["--model", "sudoku-ar", "--sampler", str(file), "--problems", "40", "--batch", "20", "--json"]
    paths = ["-o", str(tmp_path / "p.html"), "--csv", str(tmp_path / "p.csv"), "--picture", str(tmp_path / "p.svg")]
    result = CliRunner().invoke(app, ["pareto", *arguments, *paths])
    assert result.exit_code == 0, result.output
    rows = {(row["sampler"], row["knobs"]): row for row in json.loads(result.stdout)["points"]}
    greedy, own = rows["autoregressive", "temperature=0.0"], rows["at_once", "defaults"]
    assert greedy["accuracy"] >= 0.75
    assert own["accuracy"] <= 0.3  # cells filled at once clash
    assert (greedy["forwards"], own["forwards"], own["tokens_per_forward"]) == (16, 1, 16)
    assert own["origin"] == "own"
    assert all(row[name] > 0 for row in rows.values() for name in ("flops", "bytes", "measured_s", "simulated_s"))
    assert len(pd.read_csv(tmp_path / "p.csv")) == len(rows) == 3
    assert "Quality beside cost" in (tmp_path / "p.html").read_text()
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
