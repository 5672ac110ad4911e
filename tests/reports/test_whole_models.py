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
from reports.arriving_prompts import median_prompt_tokens, prompt_steps
from reports.cli import app
from reports.errors import ReportError
from reports.whole_generations import host_pictures_s, predict_denoising, predict_denoising_text, predict_forward
from reports.whole_model_figures import MeasuredModel, read_measured_models
from reports.whole_models import predict_models, summarize_errors
from roofline.chipfile import load_chip
from workloads.decode_step import build_decode_step
from workloads.errors import WorkloadError
from workloads.mixture_of_experts import AssumedRouting
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


def test_decode_step_of_a_hybrid_reads_states_in_their_own_type_and_no_zeros() -> None:
    """By hand: 27 layers of 128 heads of 80 x 128 states of 4 bytes; 4 layers of 8 KV heads of 128, 2 bytes, twice."""
    with capture(name="step") as recording:
        build_decode_step("nemotron-nano-9b-v2", batch=3, context=49, state_dtype="float32")()
    frame = recording.trace.to_frame()
    decode = frame[frame["phase"] == "decode"]
    states = decode[decode["kind"] == "scan"]["read_kv_cache_bytes"].sum()
    keys = decode[decode["kind"] == "attention"]["read_kv_cache_bytes"].sum()
    assert states == 3 * 27 * 128 * 80 * 128 * 4
    assert keys == 3 * 50 * 4 * 2 * 8 * 128 * 2
    assert not decode["name"].str.contains("zeros").any()


def test_decode_step_spreads_tokens_over_experts_as_told() -> None:
    """Two tokens with 8 of 128 experts: 16 experts at most, 128 (1 - (15 / 16)^2) = 15.5 on average."""
    with capture(name="step") as recording:
        build_decode_step("qwen3-30b-a3b", batch=2, context=9, routing=AssumedRouting(independent=True))()
    assert any(16 in operand.shape for op in recording.trace.ops if op.kind == "gemm" for operand in op.inputs)


@pytest.mark.parametrize(("arriving", "prompt"), [(0.735, 330.0), (1.0, 330.0), (1.29, 330.0), (4.0, 50.0)])
def test_median_prompt_tokens_of_simulated_steps(arriving: float, prompt: float) -> None:
    random = np.random.default_rng(1)
    counts = random.poisson(arriving, 400_000)
    tokens = prompt * random.standard_gamma(np.maximum(counts, 1e-9)) * (counts > 0)
    spread = 0.02 * prompt
    assert median_prompt_tokens(arriving, prompt) == pytest.approx(float(np.median(tokens)), abs=spread)


def test_median_step_has_no_prompt_where_few_arrive() -> None:
    """exp(-mean) is half at ln 2 = 0.693."""
    assert median_prompt_tokens(0.69, 330.0) == 0
    assert median_prompt_tokens(0.70, 330.0) > 0


@pytest.mark.parametrize(("arriving", "prompt"), [(0.016, 634.0), (0.25, 634.0), (1.29, 330.0)])
def test_kinds_of_steps_are_those_of_simulated_steps(arriving: float, prompt: float) -> None:
    """Four equal parts of the steps with prompts, by their tokens; together they hold all prompts."""
    random = np.random.default_rng(1)
    counts = random.poisson(arriving, 4_000_000)
    tokens = prompt * random.standard_gamma(np.maximum(counts, 1e-9)) * (counts > 0)
    kinds = prompt_steps(arriving, prompt)
    drawn = [part.mean() for part in np.array_split(np.sort(tokens[tokens > 0]), 4)]
    assert [mean for _, mean in kinds[1:]] == pytest.approx(drawn, rel=0.02)
    assert kinds[0] == (pytest.approx(np.exp(-arriving)), 0.0)
    assert sum(share for share, _ in kinds) == pytest.approx(1)
    assert sum(share * mean for share, mean in kinds) == pytest.approx(arriving * prompt)


def test_measured_mean_and_median_steps_differ_by_prompts_and_waits_alone() -> None:
    """The mean is joules of a step over power: prompts lengthen it by a third at most, waits by a half.

    In problem solving the mean is that of young sequences, until the queue is empty, the median that of the whole run.
    """
    for one in read_measured_models():
        if one.program == "decode_step" and one.joules_per_output and one.power_w:
            mean_s = one.joules_per_output * one.batch / one.power_w
            low, high = (1.0, 1.55 if one.waits else 1.35) if one.task == "chat" else (0.85, 1.1)
            assert low < mean_s / one.latency_s < high, (one.model, one.chip, one.task, one.batch)


def _shows_waits(one: MeasuredModel) -> bool:
    """One in ten steps takes over 1.2 times the median, though fewer have a prompt, and the board has power left."""
    assert one.p90_s
    assert one.power_w
    few_prompts = one.batch / one.output < -np.log(0.9)
    limit_w = load_chip(one.chip).tdp_w
    assert limit_w
    return bool(few_prompts and one.p90_s > 1.2 * one.latency_s and one.power_w < 0.9 * limit_w)


def test_devices_wait_where_the_published_percentiles_show_it() -> None:
    decoding = [one for one in read_measured_models() if one.program == "decode_step"]
    series: dict[tuple[str, ...], list[MeasuredModel]] = {}
    for one in decoding:
        series.setdefault((one.model, one.chip, one.task), []).append(one)
    assert sum(one.waits for one in decoding) > 30
    for key, rows in series.items():
        for one in rows:
            seen = any(_shows_waits(other) for other in rows if other.batch <= one.batch)
            limit_w = load_chip(one.chip).tdp_w
            assert limit_w
            assert one.power_w
            assert one.waits == (seen and one.power_w < 0.9 * limit_w), (key, one.batch)


def test_prediction_never_beats_reading_the_weights() -> None:
    [one] = [m for m in read_measured_models() if (m.model, m.batch, m.chip) == ("llama-3.1-8b", 8, "h100-sxm")]
    frame = predict_models((one,))
    row = frame.iloc[0]
    assert row["predicted_s"] > 2 * 7.50e9 / 3.35e12
    assert row["residual_s"] == pytest.approx(row["measured_s"] - row["predicted_s"])
    assert row["predicted_w"] == pytest.approx(row["predicted_j"] * 8 / row["predicted_mean_s"])
    assert row["predicted_s"] < row["predicted_mean_s"] < 1.1 * row["predicted_s"]
    assert row["measured_mean_s"] == pytest.approx(0.4548 * 8 / 486.4)
    assert summarize_errors(frame)["time_mape_percent"].item() == pytest.approx(abs(row["time_error_percent"]))


def test_command_prints_measured_beside_predicted() -> None:
    done = CliRunner().invoke(app, ["validate-models", "--model", "llama-3.1-8b", "--json"])
    assert done.exit_code == 0
    printed = json.loads(done.stdout)
    assert {row["chip"] for row in printed["rows"]} == {"h100-sxm", "b200-sxm", "rtx-a6000"}
    assert printed["summary"][0]["time_target_percent"] == 12


def test_shipped_figures_are_those_of_the_published_table() -> None:
    folder = os.environ.get("ROOFSCAPE_SHARED_DATA")
    table = Path(folder or "missing") / "tables" / "mlenergy_v3_llm_h100.csv"
    if not table.exists():
        pytest.skip(f"{table} is not here")
    published = {
        (_preset_name(row["model_id"]), round(float(row["avg_batch_size"]))): row
        for row in csv.DictReader(table.open())
    }
    decoding = [one for one in read_measured_models() if one.program == "decode_step" and "@0cd52da" in one.source]
    assert decoding
    for one in decoding:
        row = published[one.model, one.batch]
        assert one.latency_s == pytest.approx(float(row["median_itl_ms"]) / 1e3, rel=1e-3)
        assert one.p90_s == pytest.approx(float(row["p90_itl_ms"]) / 1e3, rel=1e-3)
        assert one.joules_per_output == pytest.approx(float(row["energy_per_token_joules"]), rel=1e-3)


def _preset_name(model_id: str) -> str:
    return model_id.split("/")[1].lower().removesuffix("-2507").removesuffix("-instruct").removeprefix("nvidia-")


def test_models_with_experts_or_states_have_a_wider_target() -> None:
    rows = [m for m in read_measured_models() if (m.model, m.task, m.batch) == ("qwen3-30b-a3b", "chat", 8)]
    summary = summarize_errors(predict_models(tuple(rows)))
    hopper, blackwell = (summary[summary["chip"] == chip].iloc[0] for chip in ("h100-sxm", "b200-sxm"))
    assert hopper["time_target_percent"] == hopper["joules_target_percent"] == 20
    # How fast a host is, for which a device waits, nobody knows: such steps stand apart and have no target.
    assert np.isnan([blackwell["time_target_percent"], blackwell["joules_target_percent"]]).all()
    assert (hopper["task"], blackwell["task"]) == ("chat", "chat, device waits")


def test_shipped_image_figures_are_those_of_the_published_table() -> None:
    folder = os.environ.get("ROOFSCAPE_SHARED_DATA")
    table = Path(folder or "missing") / "tables" / "mlenergy_v3_diffusion_h100.csv"
    if not table.exists():
        pytest.skip(f"{table} is not here")
    names = {
        "FLUX.1-dev": "flux.1-dev",
        "stable-diffusion-3.5-medium": "sd3.5-medium",
        "PixArt-Sigma-XL-2-1024-MS": "pixart-sigma",
        "SANA1.5_1.6B_1024px_diffusers": "sana1.5-1.6b",
    }
    published = {
        (names.get(row["model_id"].split("/")[1]), int(row["batch_size"])): row for row in csv.DictReader(table.open())
    }
    measured = [one for one in read_measured_models() if one.program == "denoise_step" and one.chip == "h100-sxm"]
    drawing = [one for one in measured if one.model != "sd3.5-large"]
    assert {(one.model, one.batch) for one in drawing} == {key for key in published if key[0]}
    for one in drawing:
        row = published[one.model, one.batch]
        assert one.steps == int(row["inference_steps"])
        assert one.latency_s == pytest.approx(float(row["batch_latency_s"]) / one.steps, rel=1e-3)
        assert one.joules_per_output == pytest.approx(float(row["energy_per_image_joules"]), rel=1e-3)
        assert one.power_w == pytest.approx(float(row["avg_power_watts"]), rel=1e-3)


def _drawing(steps: int) -> MeasuredModel:
    return MeasuredModel(
        model="dit-xl-2", program="denoise_step", chip="h100-sxm", source="s", batch=2, latency_s=1.0, steps=steps
    )


def test_what_an_image_needs_once_is_spread_over_its_steps() -> None:
    """With s steps of d and once v, a step takes d + v / s: from s = 1 and 2 follow both, and so s = 250."""
    one, two, many = (predict_denoising(_drawing(steps)) for steps in (1, 2, 250))
    once_s = 2 * (one[0] - two[0])
    step_s = one[0] - once_s
    assert once_s > 0
    assert many[0] == pytest.approx(step_s + once_s / 250)
    assert many[1] == pytest.approx(many[2] * many[0] * 250 / 2)  # joules of an image: power, whole time, two images
    assert many[2] <= 700


def test_host_makes_pictures_one_after_another_while_the_chip_draws_its_static_power(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten seconds of host work are ten seconds more of the call, and 228 W of an H100 that long."""
    before = predict_denoising(_drawing(4))
    own_s = host_pictures_s(2, 256)
    monkeypatch.setattr("reports.whole_generations.host_pictures_s", lambda pictures, side_px: own_s + 10.0)
    after = predict_denoising(_drawing(4))

    assert after[0] - before[0] == pytest.approx(10.0 / 4)
    assert after[1] - before[1] == pytest.approx(228 * 10.0 / 2)
    # Four pictures of 1,024 x 1,024: 14.5 ms each, and 4 x 6.3 MB at 64 GB/s; with a quarter of the pixels a quarter.
    assert host_pictures_s(4, 1024) == pytest.approx(0.0584, abs=5e-5)
    assert host_pictures_s(4, 512) == pytest.approx(0.0146, abs=5e-5)


def _filling(forwards: int, *, cache: str = "dual", text: int = 0) -> MeasuredModel:
    options = (("cache", cache), ("block_length", 32))
    return MeasuredModel(
        model="diffusion-100m", program="text_step", chip="a100-sxm-80gb", source="s", batch=1, latency_s=1.0,
        prompt=16, output=64, sampler="fast_dllm", options=options, forwards=forwards, text=text,
    )  # fmt: skip


def test_cached_steps_are_weighted_by_how_often_they_came() -> None:
    """Two blocks: n forwards take (2 full + (n - 2) short) / n."""
    full_s, four_s, eight_s = (predict_denoising_text(_filling(forwards))[0] for forwards in (2, 4, 8))
    short_s = 2 * four_s - full_s
    assert eight_s == pytest.approx((2 * full_s + 6 * short_s) / 8)
    assert short_s < full_s


def test_short_steps_come_where_text_is() -> None:
    """Two blocks of 32 behind a prefix: text in the first alone shows 64 positions a step, in both 64 and 32."""
    n = 10
    full_s = predict_denoising_text(_filling(2, cache="prefix"))[0]
    first_s, both_s, all_s = (
        (n * predict_denoising_text(_filling(n, cache="prefix", text=text))[0] - 2 * full_s) / (n - 2)
        for text in (32, 33, 0)
    )
    assert both_s == pytest.approx(all_s)
    second_s = 2 * both_s - first_s
    assert second_s < first_s < full_s


def test_shipped_figures_of_the_author_log_are_those_of_the_published_table() -> None:
    folder = os.environ.get("ROOFSCAPE_SHARED_DATA")
    table = Path(folder or "missing") / "tables" / "published_dllm.csv"
    if not table.exists():
        pytest.skip(f"{table} is not here")
    rows = [row for row in csv.DictReader(table.open()) if row["source"] == "2510.04146 author log"]
    steps, forwards = ([m for m in read_measured_models() if m.chip == "rtx-a6000" and m.program == program]
                       for program in ("text_step", "forward"))  # fmt: skip
    per_step = {
        (int(row["prompt_len"]), int(float(row["gen_len"]))): float(row["value"])
        for row in rows
        if row["metric"] == "time per step"
    }
    prefills = {int(row["prompt_len"]): float(row["value"]) for row in rows if row["method"] == "AR prefill"}
    tokens = {
        int(row["prompt_len"]): float(row["value"])
        for row in rows
        if row["metric"] == "time per token" and float(row["gen_len"]) == 128
    }
    assert steps
    assert forwards
    for one in steps:
        assert 1e3 * one.latency_s == pytest.approx(per_step[one.prompt, one.output])
    for one in forwards:
        published = tokens[one.context] if one.context else prefills[one.prompt]
        assert 1e3 * one.latency_s == pytest.approx(published, rel=1e-4)


def test_a_token_after_a_prompt_reads_all_weights_and_its_prompt_multiplies_with_them() -> None:
    """By hand: 7.50e9 weights in bfloat16 at 768 GB/s, and 2 x 7.50e9 FLOPs a token at 154.8 TFLOP/s."""
    forward = {m.prompt: m for m in read_measured_models() if m.program == "forward"}
    one_s, many_s = (predict_forward(forward[tokens])[0] for tokens in (1, 2048))
    assert 2 * 7.50e9 / 768e9 < one_s < 2 * 2 * 7.50e9 / 768e9
    assert 2 * 7.50e9 * 2048 / 154.8e12 < many_s < 2 * 2 * 7.50e9 * 2048 / 154.8e12


def test_images_on_other_boards_are_read_and_predicted() -> None:
    """Steps are the published calls over their number; an H100's are 7 to 20 % too fast in docs/whole-models.md."""
    given = (Path(__file__).parents[2] / "reports" / "other_boards.toml").read_text(encoding="utf-8")
    rows = read_measured_models(given)
    for one in rows:
        assert one.latency_s * one.steps == pytest.approx(float(one.task.removesuffix(" s")), rel=1e-4)
    frame = predict_models(tuple(one for one in rows if one.model == "sd3-medium"))
    assert frame["time_error_percent"].between(-21.0, -7.0).all()


def test_figures_are_checked() -> None:
    with pytest.raises(ReportError, match="program must be one of"):
        MeasuredModel(model="m", program="guess", chip="c", source="s", batch=1, latency_s=1.0)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ReportError, match="latency_s must be > 0"):
        MeasuredModel(
            model="m", program="text_step", chip="c", source="s", batch=1, latency_s=0.0, output=1, sampler="llada"
        )
    with pytest.raises(ReportError, match="needs batch"):
        read_measured_models('schema = 1\n[sources]\na = "b"\n[[measured]]\nmodel = "m"\nsource = "a"\n')
