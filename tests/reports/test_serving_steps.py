"""Steps of serving: what the host adds where a step holds a prompt, by hand."""

from dataclasses import replace

import pytest

from reports import serving_steps
from reports.serving_steps import Cost, metadata_s, predict_serving
from reports.whole_model_figures import MeasuredModel
from workloads.presets import load_preset

DISPATCH_S = 5e-6  # a chip without a figure of its own


def test_metadata_of_layers_with_a_state_holds_the_device_up() -> None:
    """27 Mamba-2 layers beside 4 of attention are 7 groups of at most 4; 34 operations each; without a state none."""
    assert metadata_s(load_preset("nemotron-nano-9b-v2"), "h100-sxm") == pytest.approx(7 * 34 * DISPATCH_S)
    assert metadata_s(load_preset("llama-3.1-8b"), "h100-sxm") == 0.0


def test_costs_add_up_and_more_work_needs_no_more_dispatches() -> None:
    one = Cost(time_s=1.0, dynamic_j=2.0, pieces_s=3.0, singly_s=4.0)
    assert one + one == Cost(time_s=2.0, dynamic_j=4.0, pieces_s=6.0, singly_s=8.0)
    assert one.longer(2.5) == Cost(time_s=2.5, dynamic_j=5.0, pieces_s=3.0, singly_s=4.0)


def made_up(monkeypatch: pytest.MonkeyPatch, *, device_s: float) -> None:
    """Parts of a step that take the device so long and the host 10 ms in pieces, 20 ms singly, all in its rows."""
    rows = Cost(time_s=device_s, dynamic_j=0.0, pieces_s=10e-3, singly_s=20e-3)
    parts = {"attention": Cost(), "states": Cost(), "vocabulary": Cost(), "rows": rows}
    monkeypatch.setattr(serving_steps, "_decode_costs", lambda *_: parts)
    # A prompt of the mean length mixes for 1 ms; its attention is issued with that of the others.
    prompt = {"attention": Cost(time_s=1e-3, pieces_s=1.0, singly_s=1.0), "states": Cost()}
    monkeypatch.setattr(serving_steps, "_prompt_costs", lambda *_: prompt)


ONE = MeasuredModel(
    model="nemotron-nano-9b-v2",
    program="decode_step",
    chip="h100-sxm",
    source="made up",
    batch=100,
    latency_s=1.0,
    context=1000,
    prompt=400,
    output=500,
)


@pytest.mark.parametrize(
    ("device_s", "tokens", "expected_s"),
    [
        (5e-3, 0, 5e-3),  # one graph: nobody waits for the host
        (5e-3, 400, 1.19e-3 + 10e-3),  # 500 tokens: in pieces, the host is slower
        (12e-3, 400, 1.19e-3 + 13e-3),  # the device is, with 1 ms of mixing the prompt
        (5e-3, 800, 1.19e-3 + 20e-3),  # 900 tokens: more than are captured
    ],
)
def test_the_slower_of_host_and_device_counts(
    monkeypatch: pytest.MonkeyPatch, device_s: float, tokens: float, expected_s: float
) -> None:
    made_up(monkeypatch, device_s=device_s)
    assert serving_steps.step_cost(ONE, tokens).time_s == pytest.approx(expected_s)


def test_a_model_without_a_state_waits_for_no_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, device_s=12e-3)
    plain = replace(ONE, model="llama-3.1-8b")
    assert serving_steps.step_cost(plain, 400).time_s == pytest.approx(13e-3)


def test_a_short_prompt_pays_its_own_kernels_and_long_steps_hold_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans of n tokens take 1 ms and 1 us a token: 100 tokens 1.1 ms, 800 two prompts of 400 at once."""

    def costs(_model: str, _chip: str, length: int) -> dict[str, Cost]:
        return {"attention": Cost(time_s=1e-6 * length), "states": Cost(time_s=1e-3 + 1e-6 * length, pieces_s=2e-3)}

    monkeypatch.setattr(serving_steps, "_prompt_costs", costs)
    short, long = serving_steps._mixed_prompts(ONE, 100.0), serving_steps._mixed_prompts(ONE, 800.0)
    assert short.time_s == pytest.approx(100e-6 + 1.1e-3)
    assert long.time_s == pytest.approx(800e-6 + 2 * 1.4e-3)
    assert short.pieces_s == long.pieces_s == pytest.approx(2e-3)


def test_steps_with_prompts_lengthen_the_mean_and_not_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.2 prompts a step: 1 - exp(-0.2) = 18.1 % of the steps hold one, and the median none."""
    made_up(monkeypatch, device_s=12e-3)
    median_s, _, _ = predict_serving(ONE)
    assert median_s == pytest.approx(12e-3)


def test_the_host_issues_a_real_step_with_a_prompt() -> None:
    """Nemotron's 27 mixers by hand: 8 kernels of Triton at 58 us, and 13 others; pieces and attention are few."""
    decoding = serving_steps._decode_costs("nemotron-nano-9b-v2", "h100-sxm", 8, 100, None, "float32")
    prompt = serving_steps._prompt_costs("nemotron-nano-9b-v2", "h100-sxm", 300)["states"]
    assert decoding["states"].pieces_s + prompt.pieces_s == pytest.approx(27 * 8 * 58e-6)  # 2 of updates, 1 + 5
    assert decoding["attention"].pieces_s == pytest.approx(4 * DISPATCH_S)
    # Two products, ten operations of the norm and a copy a mixer; a piece behind each of 31 cuts, and one before.
    assert decoding["rows"].pieces_s == pytest.approx((27 * 13 + 32) * DISPATCH_S, rel=0.03)
    assert decoding["rows"].singly_s > decoding["rows"].pieces_s
