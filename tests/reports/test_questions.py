"""`roofscape iso`, `worth`, `load` and `mix`: pages, JSON, one line for nonsense."""

import json

import pytest
from command_line import refused
from typer.testing import CliRunner

pytest.importorskip("torch", reason="workloads are captured")

from reports.cli import app

SPACE = """
schema = 1

[parameters]
cores = [96, 132]
stacks = [4, 6]

[[workload]]
name = "ar"
program = "ar-100m"
paradigm = "autoregressive"
prompt_length = 32
gen_length = 4

[[workload]]
name = "denoise"
program = "diffusion-100m"
paradigm = "diffusion"
prompt_length = 32
gen_length = 8
block_length = 8
[[workload.point]]
label = "8 a<b>r"
steps = 8
[[workload.point]]
label = "2 steps"
steps = 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    (folder / "space.toml").write_text(SPACE)
    return folder


def run(folder, command, *arguments):
    words = [command, str(folder / "space.toml"), *arguments, "-o", str(folder / f"{command}.html")]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    page = (folder / f"{command}.html").read_text()
    assert "<b>r" not in page.replace("a&lt;b&gt;r", "")
    return json.loads(done.stdout)


def test_iso_scales_b_and_compares_every_operating_point(folder):
    found = run(folder, "iso", "--a", "h100-sxm", "--b", "stacks=8", "--equal", "power")
    a, b = found["designs"]
    assert b["tdp_w"] == pytest.approx(a["tdp_w"], rel=0.01)
    assert found["scaled"]["before"] == 132 and found["scaled"]["after"] < 132
    rows = {row["workload"]: row for row in found["workloads"]}
    assert list(rows) == ["ar", "denoise, 8 a<b>r", "denoise, 2 steps"]
    for row in rows.values():
        assert row["seconds_ratio"] == pytest.approx(row["seconds_b"] / row["seconds_a"])
    # a quarter of the steps for as many tokens
    assert rows["denoise, 2 steps"]["seconds_a"] == pytest.approx(rows["denoise, 8 a<b>r"]["seconds_a"] / 4, rel=0.02)


def test_worth_weighs_every_change_on_every_operating_point(folder):
    found = run(folder, "worth", "--around", "cores=100")
    labels = [row["change"] for row in found["prices"]]
    assert labels[0] == "stacks 5 to 6" and "cores 100 to 120" in labels
    assert len(found["changes"]) == 3 * len(labels)
    stack = next(row for row in found["changes"] if row["change"] == labels[0])
    assert stack["seconds_change"] == pytest.approx(stack["seconds_after"] / stack["seconds_before"] - 1)
    assert stack["seconds_change"] < 0 < found["prices"][0]["bill_usd_more"]


def test_tables_are_printed(folder):
    words = [str(folder / "space.toml"), "-o", str(folder / "printed.html")]
    done = CliRunner().invoke(app, ["worth", *words, "--change", "stacks+1"])
    assert done.exit_code == 0 and "stacks 5 to 6" in done.stdout and "denoise, 2 steps: most time by" in done.stdout
    done = CliRunner().invoke(app, ["iso", *words, "--a", "cores=132", "--b", "stacks=8"])
    assert done.exit_code == 0 and "B with cores =" in done.stdout and "What binds" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["iso", "space.toml", "--a", "h100-sxm", "--b", "a100"], "unknown chip 'a100'"),
        (["iso", "space.toml", "--a", "cores=132", "--b", "cores=1", "--equal", "money"], "unknown 'money'"),
        (["worth", "space.toml", "--around", "h100-sxm"], "whose knobs cannot be turned"),
        (["worth", "space.toml", "--change", "stacks"], "must be KNOB+AMOUNT"),
        (["worth", "nowhere.toml"], "cannot read space file"),
        (["mix", "space.toml", "--objective", "beauty"], "unknown objective 'beauty'"),
        (["mix", "space.toml", "--designs", "0"], "number of designs must be at least 1"),
        (["load", "--program", "nobody"], "nobody"),
        (["load", "--chip", "nobody"], "nobody"),
    ],
)
def test_nonsense_is_one_line_and_exit_code_2(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    assert message in refused(capsys, monkeypatch, *arguments, "-o", "none.html")
    assert not (folder / "none.html").exists()


def test_load_marks_what_does_not_fit(tmp_path):
    words = ["load", "--chip", "h100-sxm", "--program", "ar-100m", "--program", "diffusion-100m", "--batch", "1"]
    words += ["--batch", "4", "--context", "256", "--context", "8192", "-o", str(tmp_path / "load.html")]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [(row["program"], row["batch"], row["context"]) for row in rows[:4]] == [
        *(("ar-100m", 1, 256), ("ar-100m", 4, 256), ("ar-100m", 1, 8192), ("ar-100m", 4, 8192))
    ]
    for row in rows:
        if row["context"] == 8192:
            assert row["tokens_per_s"] is None and row["binds"] == "the model has 4,096 positions"
        else:
            assert row["tokens_per_s"] == pytest.approx(row["batch"] / row["step_s"])
    assert (tmp_path / "load.html").stat().st_size > 10_000
    printed = CliRunner().invoke(app, words)
    assert printed.exit_code == 0 and "2 do not fit" in printed.stdout


def test_mix_finds_the_chip_of_every_share(folder):
    rows = run(folder, "mix", "--parts", "4", "--processes", "1")
    assert [row["autoregression"] for row in rows] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert rows[0]["loss_denoising"] == rows[-1]["loss_autoregression"] == 0
    assert all(row["denoise"] == "2 steps" for row in rows)  # a quarter of the work for as many tokens
    assert all(row["stacks"] in (4, 6) and row["tdp_w"] > 0 for row in rows)
