import math

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.markers import Marker, current_marker
from workloads.oracle import FunctionDenoiser, MarkovOracle
from workloads.samplers.canvas import Options, prepare, sample
from workloads.self_conditioning import SelfConditioned
from workloads.transformer import Transformer

MOVE = torch.tensor([[0.1, 0.8, 0.1], [0.05, 0.05, 0.9], [0.6, 0.2, 0.2]])


class PlainCanvas(FunctionDenoiser):
    """A function of the canvas that notes the signals it was given."""

    vocab = 3

    def signal(self, probability_BSV: torch.Tensor) -> torch.Tensor:
        return probability_BSV

    def denoise(self, tokens_BS: torch.Tensor, signal_BSD: torch.Tensor | None, **_: object) -> torch.Tensor:
        self.signals = [*getattr(self, "signals", []), signal_BSD]
        return self(tokens_BS)


def always(*rows: tuple[float, float, float]) -> PlainCanvas:
    logits = torch.tensor(rows)
    return PlainCanvas(lambda tokens: logits.expand(len(tokens), -1, -1).clone(), mask_id=None)


SURE, UNSURE = (0.0, 40.0, 0.0), (0.0, 2.0, 0.0)


def test_a_sure_canvas_stops_when_its_most_probable_tokens_have_settled() -> None:
    denoiser = always(*[SURE] * 5)

    generation = sample(denoiser, torch.zeros((2, 0), dtype=torch.long), Options(gen_length=5))

    assert generation.tokens.eq(1).all()
    assert generation.nfe == 2  # the second forward is shown what it says itself
    assert generation.committed_per_forward == (0, 10)
    assert denoiser.markers == [Marker("denoise", 0), Marker("denoise", 1)]
    assert denoiser.signals[0] is None
    assert torch.equal(denoiser.signals[1].argmax(-1), generation.tokens)


def test_an_unsure_canvas_runs_all_its_steps_and_accepts_by_entropy() -> None:
    # At the last step's temperature of 0.6 an unsure row has an entropy of 0.28 nats, above 0.1: of four such rows the
    # first in order is accepted alone; the others stay random.
    denoiser = always(SURE, UNSURE, SURE, UNSURE, UNSURE, UNSURE)
    options = Options(gen_length=6, steps_per_canvas=5, temperature=1.0)
    generation = sample(denoiser, torch.zeros((300, 0), dtype=torch.long), options)
    assert generation.nfe == 5
    assert generation.tokens[:, [0, 2]].eq(1).all()
    shares = [float((generation.tokens[:, i] == 1).float().mean()) for i in (1, 3, 4, 5)]
    assert sum(share > 0.8 for share in shares) == 1
    assert sum(abs(share - 1 / 3) < 0.12 for share in shares) == 3


def test_temperature_falls_linearly_with_noise() -> None:
    options = Options(gen_length=1)
    assert [options.temperature_at(noise) for noise in (1.0, 0.5, 0.0)] == pytest.approx([0.8, 0.6, 0.4])
    assert Options(gen_length=1, temperature=1.0, last_temperature=1.0).temperature_at(0.3) == 1.0


def test_canvases_of_one_token_are_exact() -> None:
    def logits(tokens: torch.Tensor) -> torch.Tensor:
        return MOVE[torch.zeros_like(tokens)].log()

    drawn = sample(
        PlainCanvas(logits, mask_id=None),
        torch.zeros((5000, 1), dtype=torch.long),
        Options(gen_length=1, canvas_length=1, temperature=1.0, last_temperature=1.0, steps_per_canvas=3),
    ).generated
    statistic, degrees = MarkovOracle(MOVE).chi_square(0, drawn)
    assert degrees == 2
    assert statistic < 9.21  # 99th percentile


def test_forwards_are_prefill_then_steps_and_one_to_store_each_canvas(ar_model: Transformer) -> None:
    options = Options(gen_length=10, canvas_length=8, steps_per_canvas=3)
    prompt = torch.randint(0, 50, (2, 4), generator=torch.Generator().manual_seed(1))
    markers: list[Marker] = []
    ar_model.norm.register_forward_hook(lambda *_: markers.append(current_marker()))
    generation = sample(prepare(ar_model, options), prompt, options)
    assert generation.rows_per_forward == (8, *(16,) * 4, *(4,) * 4)
    assert generation.committed_per_forward == (0, 0, 0, 16, 0, 0, 0, 4, 0)
    assert [marker.phase for marker in markers] == ["prefill", *(["denoise"] * 3 + ["store_kv"]) * 2]
    assert torch.equal(generation.tokens, sample(prepare(ar_model, options), prompt, options).tokens)


def test_runs_on_meta_with_assumed_steps(ar_model: Transformer) -> None:
    model = Transformer(ar_model.preset, device="meta")
    prompt = torch.zeros((1, 4), dtype=torch.long, device="meta")
    options = Options(gen_length=40, canvas_length=32)
    # ceil(32 / 17) = 2 and ceil(8 / 17) = 1 steps, one forward to store each, the prefill.
    assert sample(prepare(model, options), prompt, options).nfe == 1 + 3 + 2
    options = Options(gen_length=40, canvas_length=32, assumed_commits=4, steps_per_canvas=6)
    assert sample(prepare(model, options), prompt, options).nfe == 1 + 7 + 3


@torch.no_grad()
def test_signal_is_the_mean_embedding_and_enters_the_logits(ar_model: Transformer) -> None:
    model = SelfConditioned(ar_model)
    ids = torch.tensor([[3, 7, 9]])
    probability = torch.zeros(1, 3, 50)
    probability[0, :, 5], probability[0, :, 6] = 0.25, 0.75
    table = ar_model.embedding.weight
    signal = model.signal(probability)
    torch.testing.assert_close(signal, (0.25 * table[5] + 0.75 * table[6]).expand(1, 3, -1))

    def rms(x: torch.Tensor) -> torch.Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()

    gate, up, down = (part.weight for part in (model.gate, model.up, model.down))
    inner = rms(signal)
    mixed = rms(table[ids] + (torch.nn.functional.silu(inner @ gate.T) * (inner @ up.T)) @ down.T)
    expected = ar_model(ids, causal=False, inputs_BSD=mixed)
    torch.testing.assert_close(model.denoise(ids, signal), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model.denoise(ids, None), expected, atol=1e-4)
    torch.testing.assert_close(model(ids), ar_model(ids))
    assert sum(weight.numel() for weight in (gate, up, down)) == 3 * 24 * 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canvas_length": 0}, "canvas: canvas_length must be > 0, got 0"),
        ({"entropy_bound": -1.0}, "canvas: entropy_bound must be >= 0, got -1.0"),
        ({"stop_entropy": math.nan}, "canvas: stop_entropy must be >= 0, got nan"),
        ({"last_temperature": 2.0}, r"last_temperature must lie in 0\.\.temperature = 0\.8, got 2\.0"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        Options(gen_length=4, **changes)
