"""`memory`, and measured energy on the command line: what fits, what does not, and joules with their label."""

import json
import time

import pytest
import torch
from power_samples import KnownPower
from typer.testing import CliRunner

from profiler.capture import EnergyMeter, capture, phase
from profiler.capture.energy.source import UnavailableSource
from profiler.storage import save_trace
from reports.cli import app
from reports.memory_fit import weights_do_not_fit
from roofline.chipfile import load_chip


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def record_layer(path, width, **options):
    layer = torch.nn.Linear(width, width, bias=False, device="meta", dtype=torch.bfloat16)
    with torch.no_grad(), capture(name="layer", **options) as recording, phase("forward"):
        layer(torch.empty(8, width, device="meta", dtype=torch.bfloat16))
    save_trace(recording.trace, path)
    return path


@pytest.fixture
def large_trace(tmp_path):
    return record_layer(tmp_path / "large.parquet", 250_000)  # 250,000 squared x 2 bytes = 125 GB


def test_memory_names_the_peak_and_that_it_fits(tmp_path):
    result = run("memory", record_layer(tmp_path / "t.parquet", 1000), "--chip", "h100-sxm", "--json")
    record = json.loads(result.stdout)
    assert record["fits"] is True
    assert record["peak_by_role"]["weights"] == 2_000_000
    assert record["peak_by_role"]["activations"] == 2 * 8 * 1000 * 2
    assert record["peak_bytes"] == 2_032_000
    assert [row["phase"] for row in record["by_phase"]] == ["forward"]


def test_memory_says_what_does_not_fit(large_trace):
    result = run("memory", large_trace, "--chip", "h100-sxm")
    assert "weights of 125 GB do not fit h100-sxm's 80.0 GB of hbm" in result.stdout
    assert "fits b200-sxm" in run("memory", large_trace, "--chip", "b200-sxm").stdout


@pytest.mark.parametrize("view", ["eager", "fused"])
def test_simulate_says_what_does_not_fit(large_trace, view):
    assert "note: layer: weights of 125 GB do not fit" in run("simulate", large_trace, "--view", view).stderr
    assert "not fit" not in run("simulate", large_trace, "--view", view, "--chip", "b200-sxm").stderr


@pytest.mark.slow
def test_capture_says_it_before_the_program_runs(tmp_path):
    result = run(
        "capture", "llama-3.1-70b@forward", "--device", "meta", "--seq-len", 8, "-o", tmp_path / "t.parquet", "--json"
    )
    assert "weights of 141 GB do not fit h100-sxm's 80.0 GB" in result.stderr
    json.loads(result.stdout)


def test_weights_of_unknown_number_or_type_give_no_sentence():
    chip = load_chip("h100-sxm")
    assert weights_do_not_fit("x", None, "bfloat16", chip) == ""
    assert weights_do_not_fit("x", 10**12, None, chip) == ""
    assert "it takes 25 of them" in weights_do_not_fit("x", 10**12, "bfloat16", chip)


@pytest.fixture
def lit_trace(tmp_path):
    lamp = KnownPower(60.0, name="lamp [b]")
    gone = UnavailableSource(name="GPU 7", device="gpu", state="permission_denied", message="not for you")
    with (
        torch.no_grad(),
        capture(
            name="lit", energy=EnergyMeter([lamp, gone], period_s=0.01, idle_s=0.05, clock=lamp.clock)
        ) as recording,
        phase("shine"),
    ):
        torch.ones(8) + 1
        time.sleep(0.1)
        torch.ones(8) + 1
    save_trace(recording.trace, tmp_path / "lit.parquet")
    return tmp_path / "lit.parquet"


def test_roofline_shows_measured_joules_with_label_idle_and_state(lit_trace):
    result = run("roofline", lit_trace)
    assert "energy of lamp [b]: measured" in result.stdout
    assert "idle before the program:" in result.stdout
    assert "permission denied" in result.stderr
    record = json.loads(run("roofline", lit_trace, "--json").stdout)["measured_energy"]
    assert [source["state"] for source in record["sources"]] == ["ok", "permission_denied"]
    whole = next(row for row in record["by_phase"] if row["phase"] == "(whole run)" and row["source"] == "lamp [b]")
    assert whole["energy_j"] == pytest.approx(60.0 * whole["duration_s"], rel=1e-4)
    assert {row["energy_j"] for row in record["by_phase"] if row["source"] == "GPU 7"} == {None}


def test_command_without_energy_shows_none(tmp_path):
    result = run("roofline", record_layer(tmp_path / "t.parquet", 100))
    assert "energy" not in result.stdout


def test_report_draws_live_memory_and_lists_measured_joules(lit_trace, large_trace, tmp_path):
    page = tmp_path / "report.html"
    run("report", lit_trace, large_trace, "-o", page, "--page", "memory", "--page", "breakdown")
    text = page.read_text(encoding="utf-8")
    assert "Does not fit: layer: weights of 125\N{NO-BREAK SPACE}GB" in text
    assert "energy (measured)" in text
    assert "permission denied" in text
