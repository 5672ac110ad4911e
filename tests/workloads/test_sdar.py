import math

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.oracle import FunctionDenoiser, MarkovOracle
from workloads.samplers.choosing import select_low_entropy
from workloads.samplers.sdar import Options, sample
from workloads.transformer import Transformer

MASK = 3
NO_PROMPT = torch.zeros((1, 0), dtype=torch.long)


def with_confidences(*probabilities: float) -> FunctionDenoiser:
    """Predicts token `i % 3` at position i with the given probability, the rest spread over the two others."""
    logits = torch.full((len(probabilities), MASK + 1), 50.0)  # the mask must be ignored
    for i, probability in enumerate(probabilities):
        logits[i, :MASK] = math.log((1 - probability) / 2)
        logits[i, i % 3] = math.log(probability)
    return FunctionDenoiser(lambda tokens: logits[: tokens.shape[1]].expand(len(tokens), -1, -1).clone(), mask_id=MASK)


def filled(denoiser: FunctionDenoiser, final: torch.Tensor) -> list[set[int]]:
    """Which positions each forward filled."""
    masks = [set((tokens[0] == MASK).nonzero()[:, 0].tolist()) for tokens in [*denoiser.shown, final]]
    return [
        {i for i in before if i < tokens.shape[1]} - after
        for before, after, tokens in zip(masks, masks[1:], denoiser.shown, strict=False)
    ]


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({"strategy": "sequential", "steps_per_block": 2}, [{0, 1}, {2, 3}]),
        ({"strategy": "low_confidence_static", "steps_per_block": 2}, [{1, 3}, {0, 2}]),
        ({"strategy": "low_confidence_static", "steps_per_block": 3}, [{1, 3}, {2}, {0}]),
        ({"threshold": 0.55}, [{1, 2, 3}, {0}]),
        ({"threshold": 0.85}, [{1}, {3}, {2}, {0}]),
        ({"threshold": 0.99, "steps_per_block": 2}, [{1, 3}, {0, 2}]),
        # Entropies of p = 0.5, 0.9, 0.6, 0.8 are 1.04, 0.39, 0.95, 0.64 nats; the sum grows 0.39, 1.03, 1.98, 3.02.
        ({"strategy": "entropy_bounded", "entropy_bound": 1.5}, [{1, 3}, {2}, {0}]),
        ({"strategy": "entropy_bounded", "entropy_bound": 0.1}, [{1}, {3}, {2}, {0}]),
        ({"assumed_commits": 3}, [{1, 2, 3}, {0}]),
    ],
)
def test_strategies_commit_as_worked_out_by_hand(options: dict[str, object], order: list[set[int]]) -> None:
    denoiser = with_confidences(0.5, 0.9, 0.6, 0.8)

    generation = sample(denoiser, NO_PROMPT, Options(gen_length=4, temperature=0.0, **options))

    assert filled(denoiser, generation.tokens) == order
    assert generation.tokens.tolist() == [[0, 1, 2, 0]]
    assert generation.committed_per_forward == tuple(len(step) for step in order)


def test_each_block_takes_at_most_its_steps_and_one_forward_to_store(diffusion_model: Transformer) -> None:
    prompt = torch.randint(0, 49, (3, 6), generator=torch.Generator().manual_seed(1))
    for steps in (1, 2, 4):
        for strategy in ("sequential", "low_confidence_static", "low_confidence_dynamic"):
            options = Options(gen_length=10, strategy=strategy, steps_per_block=steps)
            generation = sample(diffusion_model, prompt, options)
            # The prompt fills one block, the second holds two masks, two more follow.
            assert generation.nfe <= 1 + 3 * (steps + 1)
            assert generation.rows_per_forward == (12,) * generation.nfe
            assert sum(generation.committed_per_forward) == 30
            assert not generation.tokens.eq(49).any()
    assert sample(diffusion_model, prompt, options).tokens.tolist() == generation.tokens.tolist()


def test_sequential_one_by_one_is_exact_and_two_at_a_time_is_not() -> None:
    oracle = MarkovOracle(torch.tensor([[0.1, 0.8, 0.1], [0.05, 0.05, 0.9], [0.6, 0.2, 0.2]]))
    prompt = torch.zeros((3000, 1), dtype=torch.long)
    options = {"gen_length": 3, "strategy": "sequential", "block_length": 4}
    exact, degrees = oracle.chi_square(0, sample(oracle, prompt, Options(**options)).generated)
    rough, _ = oracle.chi_square(0, sample(oracle, prompt, Options(**options, steps_per_block=2)).generated)
    assert degrees == 26
    assert exact < 45.64 < rough  # 99th percentile


def test_sequences_of_a_batch_wait_for_the_slowest() -> None:
    def logits(tokens: torch.Tensor) -> torch.Tensor:
        sharp = torch.tensor([[9.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0]])
        return sharp[:, None].expand(-1, tokens.shape[1], -1).clone()

    generation = sample(
        FunctionDenoiser(logits, mask_id=MASK), NO_PROMPT.expand(2, -1), Options(gen_length=4, temperature=0.0)
    )
    assert generation.committed_per_forward == (5, 1, 1, 1)  # all four of the first, one of the second at a time


def test_runs_on_meta_with_the_assumed_commits(diffusion_model: Transformer) -> None:
    model = Transformer(diffusion_model.preset, device="meta")
    prompt = torch.zeros((2, 4), dtype=torch.long, device="meta")
    assert sample(model, prompt, Options(gen_length=8)).committed_per_forward == (0, 4, 4, 0, 4, 4, 0)
    assert sample(model, prompt, Options(gen_length=8, assumed_commits=4)).nfe == 1 + 2 * 2


def test_low_entropy_rules_by_hand() -> None:
    entropy = torch.tensor([[0.2, torch.inf, 0.05, 0.1], [0.6, 0.5, torch.inf, torch.inf]])
    # Sums: 0.05, 0.15, 0.35 and 0.5, 1.1; sums of those before: 0, 0.05, 0.15 and 0, 0.5.
    inclusive = select_low_entropy(entropy, 0.15, counts_itself=True)
    exclusive = select_low_entropy(entropy, 0.1, counts_itself=False)
    assert inclusive.int().tolist() == [[0, 0, 1, 0], [0, 1, 0, 0]]
    assert exclusive.int().tolist() == [[0, 0, 1, 1], [0, 1, 0, 0]]
    assert not select_low_entropy(torch.full((1, 3), torch.inf), 1.0, counts_itself=False).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "random"}, "sdar: strategy must be one of sequential, .*, got 'random'"),
        ({"threshold": 1.5}, "sdar: threshold must lie in 0..1, got 1.5"),
        ({"entropy_bound": 0.0}, "sdar: entropy_bound must be > 0, got 0.0"),
        ({"assumed_commits": 0}, "sdar: assumed_commits must be > 0, got 0"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        Options(gen_length=4, **changes)
