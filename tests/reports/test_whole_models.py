"""Whole models beside measurements: the parts of a step, the shipped figures, the command."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from profiler.capture import capture
from profiler.traces import Trace
from reports.cli import app
from reports.errors import ReportError
from reports.whole_model_figures import MeasuredModel, read_measured_models
from reports.whole_models import median_arrivals, predict_models, summarize_errors
from workloads.decode_step import build_decode_step
from workloads.errors import WorkloadError
from workloads.samplers.choosing import FilterOptions


def test_decode_step_reads_all_weights_and_the_whole_cache() -> None:
    """By hand: Llama-3.1-8B has 8.03e9 parameters (embedding not read: 0.53e9); 131,072 bytes a cached token."""
    with capture(name="step") as recording:
        build_decode_step("llama-3.1-8b", batch=4, context=99)()
    trace = recording.trace
    roles = {"weights": 0, "kv_cache": 0}
    for op, count in zip(trace.ops, trace.call_counts, strict=True):
        if op.kind not in ("gemm", "attention"):
            continue
        for operand in op.inputs:
            if operand.role in roles:
                roles[operand.role] += int(count) * 2 * int(np.prod(operand.shape))
    assert roles["weights"] == pytest.approx(2 * 7.50e9, rel=0.002)
    assert roles["kv_cache"] == 4 * 100 * 131_072


def test_decode_step_chooses_a_token_of_every_sequence() -> None:
    options = FilterOptions(gen_length=1, temperature=0.6, top_p=0.9)
    with capture(name="step") as recording:
        tokens = build_decode_step("smollm2-135m", batch=2, context=3, options=options)()
    assert tokens.shape == (2,)
    assert tokens.dtype == torch.int64
    sorted_by = {
        recording.trace.phases[phase] for phase in recording.trace.calls.phase[_calls(recording.trace, "sort")]
    }
    assert sorted_by == {"sample"}


def _calls(trace: Trace, kind: str) -> list[int]:
    return [call for call, op in enumerate(trace.calls.op) if trace.ops[op].kind == kind]


def test_decode_step_refuses_other_kinds() -> None:
    with pytest.raises(WorkloadError, match="allowed: ar"):
        build_decode_step("llada-8b", batch=1, context=8)


@pytest.mark.parametrize(("mean", "median"), [(0.6, 0), (0.7, 1), (5.0, 5), (1.6, 1), (1.7, 2)])
def test_median_of_poisson_arrivals(mean: float, median: int) -> None:
    """exp(-mean) is half at ln 2 = 0.693; (1 + mean) exp(-mean) at 1.678."""
    assert median_arrivals(mean) == median


def test_prediction_never_beats_reading_the_weights() -> None:
    [one] = [m for m in read_measured_models() if m.model == "llama-3.1-8b" and m.batch == 8]
    frame = predict_models((one,))
    row = frame.iloc[0]
    assert row["predicted_s"] > 2 * 7.50e9 / 3.35e12
    assert row["residual_s"] == pytest.approx(row["measured_s"] - row["predicted_s"])
    assert row["predicted_w"] == pytest.approx(row["predicted_j"] * 8 / row["predicted_s"], rel=0.05)
    assert summarize_errors(frame)["time_mape_percent"].item() == pytest.approx(abs(row["time_error_percent"]))


def test_command_prints_measured_beside_predicted() -> None:
    done = CliRunner().invoke(app, ["validate-models", "--model", "llama-3.1-8b", "--json"])
    assert done.exit_code == 0
    printed = json.loads(done.stdout)
    assert {row["chip"] for row in printed["rows"]} == {"h100-sxm"}
    assert printed["summary"][0]["time_target_percent"] == 12


def test_shipped_figures_are_those_of_the_published_table() -> None:
    folder = os.environ.get("ROOFSCAPE_SHARED_DATA")
    table = Path(folder or "missing") / "tables" / "mlenergy_v3_llm_h100.csv"
    if not table.exists():
        pytest.skip(f"{table} is not here")
    published = {
        (row["model_id"].split("/")[1].lower().removesuffix("-instruct"), round(float(row["avg_batch_size"]))): row
        for row in csv.DictReader(table.open())
    }
    decoding = [one for one in read_measured_models() if one.program == "decode_step"]
    assert decoding
    for one in decoding:
        row = published[one.model, one.batch]
        assert one.latency_s == pytest.approx(float(row["median_itl_ms"]) / 1e3, rel=1e-3)
        assert one.joules_per_output == pytest.approx(float(row["energy_per_token_joules"]), rel=1e-3)


def test_figures_are_checked() -> None:
    with pytest.raises(ReportError, match="program must be one of"):
        MeasuredModel(model="m", program="guess", chip="c", source="s", batch=1, latency_s=1.0)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ReportError, match="latency_s must be > 0"):
        MeasuredModel(model="m", program="text_step", chip="c", source="s", batch=1, latency_s=0.0, output=1)
    with pytest.raises(ReportError, match="needs batch"):
        read_measured_models('schema = 1\n[sources]\na = "b"\n[[measured]]\nmodel = "m"\nsource = "a"\n')
