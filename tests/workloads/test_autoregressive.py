from dataclasses import dataclass

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.markers import Marker, current_marker
from workloads.samplers.autoregressive import Options, sample
from workloads.transformer import Transformer


def prompts(batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, 50, (batch, length), generator=torch.Generator().manual_seed(1))


@dataclass
class FixedDenoiser:
    """Answers the same logits to everything, and notes what it was shown and in which phase."""

    logits: torch.Tensor

    def __post_init__(self) -> None:
        self.seen: list[tuple[int, Marker]] = []

    mask_id = None

    def new_cache(self, batch: int, capacity: int) -> KVCache | None:
        return None

    def __call__(
        self, tokens_BS: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
    ) -> torch.Tensor:
        self.seen.append((tokens_BS.shape[1], current_marker()))
        rows = 1 if last_only else tokens_BS.shape[1]
        return self.logits.expand(tokens_BS.shape[0], rows, -1).clone()


def test_greedy_decoding_equals_full_recomputation_without_a_cache(ar_model: Transformer) -> None:
    sequence = prompts(3, 5)
    for _ in range(12):
        with torch.no_grad():
            sequence = torch.cat((sequence, ar_model(sequence)[:, -1].argmax(-1, keepdim=True)), dim=1)

    generation = sample(ar_model, prompts(3, 5), Options(gen_length=12))

    assert torch.equal(generation.tokens, sequence)
    assert len(sequence[:, 5:].unique()) > 3  # the tokens depend on what came before


def test_prefill_shows_the_prompt_and_each_decode_step_one_row(ar_model: Transformer) -> None:
    generation = sample(ar_model, prompts(2, 5), Options(gen_length=4))

    assert generation.nfe == 4
    assert generation.rows_per_forward == (10, 2, 2, 2)
    assert generation.committed_per_forward == (2, 2, 2, 2)
    assert generation.tokens_per_forward == 1.0
    assert generation.generated.shape == (2, 4)


def test_phases_are_prefill_then_decode_steps_and_no_cache_means_whole_sequences() -> None:
    denoiser = FixedDenoiser(torch.tensor([0.0, 1.0]))

    generation = sample(denoiser, torch.zeros((1, 3), dtype=torch.long), Options(gen_length=3))

    assert denoiser.seen == [(3, Marker("prefill", None)), (4, Marker("decode", 0)), (5, Marker("decode", 1))]
    assert generation.tokens.tolist() == [[0, 0, 0, 1, 1, 1]]


def test_temperature_samples_the_softmax_and_follows_the_seed() -> None:
    denoiser = FixedDenoiser(torch.tensor([0.0, 1.0, 2.0]))
    options = Options(gen_length=1, temperature=2.0, seed=4)
    prompt = torch.zeros((20_000, 1), dtype=torch.long)

    drawn = sample(denoiser, prompt, options).generated[:, 0]

    expected = torch.softmax(torch.tensor([0.0, 0.5, 1.0]), -1) * 20_000
    chi_square = ((torch.bincount(drawn, minlength=3) - expected) ** 2 / expected).sum()
    assert chi_square < 9.21  # 99th percentile of chi-square with 2 degrees of freedom; the seed is fixed
    assert torch.equal(drawn, sample(denoiser, prompt, options).generated[:, 0])


@pytest.mark.parametrize("filters", [{"top_k": 2}, {"top_p": 0.9}])
def test_filters_never_draw_what_they_exclude_and_renormalize_the_rest(filters: dict[str, float]) -> None:
    # Probabilities 0.6, 0.36, 0.04: both filters leave the first two, as 0.625 and 0.375.
    denoiser = FixedDenoiser(torch.tensor([0.6, 0.36, 0.04]).log())
    prompt = torch.zeros((20_000, 1), dtype=torch.long)
    drawn = sample(denoiser, prompt, Options(gen_length=1, temperature=1.0, seed=2, **filters)).generated[:, 0]
    counts = torch.bincount(drawn, minlength=3)
    assert counts[2] == 0
    assert abs(int(counts[0]) - 12_500) < 2.6 * (20_000 * 0.625 * 0.375) ** 0.5  # 99 % of a binomial; fixed seed


def test_runs_on_meta_with_the_same_shape_and_counts(ar_model: Transformer) -> None:
    options = Options(gen_length=6, temperature=1.0, top_k=5, top_p=0.9)
    real = sample(ar_model, prompts(2, 5), options)

    pretended = sample(Transformer(ar_model.preset, device="meta"), prompts(2, 5).to("meta"), options)

    assert pretended.tokens.device.type == "meta"
    assert pretended.tokens.shape == real.tokens.shape
    assert pretended.rows_per_forward == real.rows_per_forward


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gen_length": 0}, "gen_length must be > 0, got 0"),
        ({"temperature": -1.0}, "temperature must be finite and >= 0, got -1.0"),
        ({"temperature": float("nan")}, "temperature must be finite and >= 0, got nan"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        Options(**{"gen_length": 4, **changes})


def test_an_empty_prompt_is_refused(ar_model: Transformer) -> None:
    with pytest.raises(WorkloadError, match="at least one token"):
        sample(ar_model, prompts(1, 0), Options(gen_length=2))
