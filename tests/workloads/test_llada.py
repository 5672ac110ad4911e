import itertools
import math

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.markers import Marker
from workloads.oracle import FunctionDenoiser
from workloads.samplers import autoregressive
from workloads.samplers.choosing import choose_tokens
from workloads.samplers.llada import Options, guide, sample
from workloads.samplers.masked import transfer_counts
from workloads.transformer import Transformer

MASK = 3


def with_confidences(*probabilities: float, prompt_length: int) -> FunctionDenoiser:
    """Predicts token `i % 3` at generated position i with the given probability, the rest spread over the others."""
    logits = torch.zeros(prompt_length + len(probabilities), MASK + 1)
    for i, probability in enumerate(probabilities):
        row = torch.full((MASK + 1,), math.log((1 - probability) / 2))
        row[i % 3] = math.log(probability)
        row[MASK] = 50.0  # must be ignored: the mask token is never predicted
        logits[prompt_length + i] = row
    return FunctionDenoiser(lambda tokens: logits.expand(tokens.shape[0], -1, -1).clone(), mask_id=MASK)


def filled_order(denoiser: FunctionDenoiser, final: torch.Tensor, prompt_length: int) -> list[set[int]]:
    """Which generated positions each step filled, of the first sequence."""
    states = [*denoiser.shown, final]
    return [
        set((((before != after)[0]).nonzero()[:, 0] - prompt_length).tolist())
        for before, after in itertools.pairwise(states)
    ]


def test_low_confidence_commits_the_most_probable_positions_block_by_block() -> None:
    # Block 1 holds positions 0-3, block 2 positions 4-7. Two steps each: 2 + 2 commits, most confident first.
    # Position 6 is the most confident of all, and must wait for its block.
    denoiser = with_confidences(0.5, 0.9, 0.6, 0.8, 0.7, 0.4, 0.99, 0.6, prompt_length=2)
    prompt = torch.tensor([[1, 2]])

    generation = sample(denoiser, prompt, Options(gen_length=8, block_length=4, steps=4))

    assert filled_order(denoiser, generation.tokens, 2) == [{1, 3}, {0, 2}, {4, 6}, {5, 7}]
    assert generation.tokens.tolist() == [[1, 2, 0, 1, 2, 0, 1, 2, 0, 1]]
    assert generation.committed_per_forward == (2, 2, 2, 2)
    assert generation.tokens_per_forward == 2.0
    assert denoiser.markers == [Marker("denoise", step) for step in range(4)]


def test_the_first_steps_of_a_block_take_the_remainder() -> None:
    assert transfer_counts(7, 3) == (3, 2, 2)
    assert transfer_counts(32, 32) == (1,) * 32
    denoiser = with_confidences(0.5, 0.9, 0.6, 0.8, 0.7, prompt_length=1)

    generation = sample(denoiser, torch.tensor([[0]]), Options(gen_length=5, steps=3))

    assert generation.committed_per_forward == (2, 2, 1)
    assert filled_order(denoiser, generation.tokens, 1) == [{1, 3}, {4, 2}, {0}]


def test_every_step_shows_the_network_every_position() -> None:
    denoiser = with_confidences(0.5, 0.9, 0.6, 0.8, prompt_length=3)
    generation = sample(denoiser, torch.zeros((2, 3), dtype=torch.long), Options(gen_length=4, block_length=2))
    assert [tuple(tokens.shape) for tokens in denoiser.shown] == [(2, 7)] * 4
    assert generation.nfe == 4
    assert generation.rows_per_forward == (14,) * 4


def test_random_remasking_commits_the_promised_counts_and_follows_the_seed() -> None:
    orders = []
    for seed in (1, 1, 2, 3):
        denoiser = with_confidences(*[0.9] * 12, prompt_length=1)
        options = Options(gen_length=12, block_length=6, steps=4, remasking="random", seed=seed)
        generation = sample(denoiser, torch.tensor([[0]]), options)
        order = filled_order(denoiser, generation.tokens, 1)
        assert [len(step) for step in order] == [3, 3, 3, 3] == list(generation.committed_per_forward)
        assert order[0] | order[1] == set(range(6))
        orders.append(order)

    assert orders[0] == orders[1]
    assert len({str(order) for order in orders}) > 1


def test_guidance_is_the_formula_worked_out_by_hand() -> None:
    conditional, unconditional = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 3.0])
    # un + (s + 1)(c - un) with s = 1.5: 1 + 2.5 * 1 and 3 + 2.5 * (-4)
    assert guide(conditional, unconditional, 1.5).tolist() == [3.5, -7.0]


def test_guided_step_doubles_the_batch_and_masks_the_copy_of_the_prompt() -> None:
    def logits(tokens: torch.Tensor) -> torch.Tensor:
        has_prompt = (tokens[:, :1] != MASK).float()[..., None]
        # With prompt 1.0 for token 0 and 0.9 for token 1, without 2.0 and 0: un + 2 (c - un) = 0.0 and 1.8.
        with_prompt, without = torch.tensor([1.0, 0.9, -9.0, 0.0]), torch.tensor([2.0, 0.0, -9.0, 0.0])
        return (has_prompt * with_prompt + (1 - has_prompt) * without).expand(-1, tokens.shape[1], -1).clone()

    denoiser = FunctionDenoiser(logits, mask_id=MASK)
    generation = sample(denoiser, torch.tensor([[2], [0]]), Options(gen_length=2, cfg_scale=1.0))

    assert denoiser.shown[0].tolist() == [[2, MASK, MASK], [0, MASK, MASK], [MASK, MASK, MASK], [MASK, MASK, MASK]]
    assert generation.generated.tolist() == [[1, 1], [1, 1]]
    assert generation.rows_per_forward == (12, 12)
    assert sample(
        FunctionDenoiser(logits, mask_id=MASK), torch.tensor([[2]]), Options(gen_length=2)
    ).generated.tolist() == [[0, 0]]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_gumbel_noise_samples_the_softmax_of_tempered_logits(temperature: float) -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    draws = 40_000
    generator = torch.Generator().manual_seed(11)

    drawn = choose_tokens(logits.expand(1, draws, 4), temperature, generator)[0]

    expected = torch.softmax(logits.double() / temperature, -1) * draws
    chi_square = ((torch.bincount(drawn, minlength=4) - expected) ** 2 / expected).sum()
    assert chi_square < 11.34  # 99th percentile of chi-square with 3 degrees of freedom; the seed is fixed


def test_one_token_per_block_with_a_causal_network_is_greedy_autoregression(diffusion_model: Transformer) -> None:
    # Causal logits at row i say what follows token i; a masked-diffusion network says at row i what stands there.
    def next_token_logits(tokens: torch.Tensor) -> torch.Tensor:
        logits = diffusion_model(tokens, causal=True)
        logits[..., 49] = -torch.inf
        return logits

    shifted = FunctionDenoiser(lambda tokens: next_token_logits(tokens).roll(1, dims=1), mask_id=49)
    prompt = torch.randint(0, 49, (2, 6), generator=torch.Generator().manual_seed(2))

    diffusion = sample(shifted, prompt, Options(gen_length=10, block_length=1, steps=10))
    greedy = autoregressive.sample(
        FunctionDenoiser(next_token_logits, mask_id=None), prompt, autoregressive.Options(gen_length=10)
    )

    assert torch.equal(diffusion.tokens, greedy.tokens)
    assert len(greedy.generated.unique()) > 3


# A Markov chain over 3 states, and every sequence of it that has 4 tokens, with its exact probability.
START = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64)
MOVE = torch.tensor([[0.6, 0.2, 0.2], [0.15, 0.25, 0.6], [0.3, 0.5, 0.2]], dtype=torch.float64)
SEQUENCES = torch.tensor(list(itertools.product(range(3), repeat=4)))
PROBABILITIES = START[SEQUENCES[:, 0]] * torch.stack(
    [MOVE[SEQUENCES[:, i], SEQUENCES[:, i + 1]] for i in range(3)]
).prod(0)


def oracle_logits(tokens: torch.Tensor) -> torch.Tensor:
    """Exact log p(x_i | the unmasked tokens) under the chain, by enumeration; the first column is a prompt."""
    shown = tokens[:, 1:]
    agrees = ((shown[:, None] == SEQUENCES) | (shown[:, None] == MASK)).all(-1).double() * PROBABILITIES
    one_hot = torch.nn.functional.one_hot(SEQUENCES, MASK + 1).double()
    posterior = torch.einsum("bn,nlv->blv", agrees / agrees.sum(-1, keepdim=True), one_hot)
    return torch.cat((torch.zeros(len(tokens), 1, MASK + 1, dtype=torch.float64), posterior.log()), dim=1)


def oracle_chi_square(steps: int, samples: int = 20_000) -> float:
    options = Options(gen_length=4, steps=steps, remasking="random", temperature=1.0, seed=5)
    prompt = torch.zeros((samples, 1), dtype=torch.long)
    drawn = sample(FunctionDenoiser(oracle_logits, mask_id=MASK), prompt, options).generated
    counts = torch.bincount((drawn * torch.tensor([27, 9, 3, 1])).sum(-1), minlength=81)
    expected = PROBABILITIES * samples
    return float(((counts - expected) ** 2 / expected).sum())


def test_one_token_per_step_with_the_exact_posterior_reproduces_the_chain() -> None:
    assert float(PROBABILITIES.sum()) == pytest.approx(1.0)
    assert float(PROBABILITIES.min()) * 20_000 > 5  # the chi-square test needs at least five expected per cell
    assert oracle_chi_square(steps=4) < 112.3  # 99th percentile of chi-square with 80 degrees of freedom


def test_parallel_commits_lose_the_chain_even_with_the_exact_posterior() -> None:
    # Tokens committed together are drawn independently (arXiv:2602.19619): far outside of what chance allows.
    assert oracle_chi_square(steps=1) > 1000


def test_runs_on_meta_with_the_same_shape_and_counts(diffusion_model: Transformer) -> None:
    prompt = torch.zeros((2, 5), dtype=torch.long)
    for extra in ({}, {"remasking": "random"}, {"cfg_scale": 1.0}, {"temperature": 1.0}):
        options = Options(gen_length=8, block_length=4, steps=4, **extra)
        real = sample(diffusion_model, prompt, options)
        pretended = sample(Transformer(diffusion_model.preset, device="meta"), prompt.to("meta"), options)
        assert not (real.tokens == 49).any()
        assert pretended.tokens.shape == real.tokens.shape
        assert pretended.rows_per_forward == real.rows_per_forward
        assert pretended.committed_per_forward == real.committed_per_forward


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_length": 5}, r"block_length must divide gen_length = 12 \(1, 2, 3, 4, 6, 12\), got 5"),
        ({"block_length": 0}, r"block_length must divide gen_length = 12 .*, got 0"),
        ({"block_length": 4, "steps": 4}, r"steps must be a multiple of the 3 blocks .* from 3 to 12, got 4"),
        ({"steps": 13}, r"from 1 to 12, got 13"),
        ({"steps": 0}, r"from 1 to 12, got 0"),
        ({"remasking": "high"}, r"remasking must be one of low_confidence, random, got 'high'"),
        ({"temperature": -0.5}, r"temperature must be finite and >= 0, got -0.5"),
        ({"cfg_scale": -1.0}, r"cfg_scale must be finite and >= 0, got -1.0"),
    ],
)
def test_impossible_options_are_refused_with_what_is_allowed(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        Options(**{"gen_length": 12, **changes})


def test_a_network_without_a_mask_token_is_refused() -> None:
    with pytest.raises(WorkloadError, match="no mask token"):
        sample(
            FunctionDenoiser(oracle_logits, mask_id=None), torch.zeros((1, 1), dtype=torch.long), Options(gen_length=2)
        )
