import itertools

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.markers import Marker
from workloads.oracle import FunctionDenoiser, MarkovOracle
from workloads.samplers import autoregressive
from workloads.samplers.any_order import Options, sample
from workloads.transformer import Transformer

MOVE = torch.tensor([[0.6, 0.2, 0.2], [0.15, 0.25, 0.6], [0.3, 0.5, 0.2]])


def test_left_to_right_under_a_causal_network_is_greedy_autoregression(ar_model: Transformer) -> None:
    prompt = torch.randint(0, 50, (2, 6), generator=torch.Generator().manual_seed(2))

    diffusion = sample(ar_model, prompt, Options(gen_length=12, order="left_to_right", token_shift=True))
    greedy = autoregressive.sample(ar_model, prompt, autoregressive.Options(gen_length=12))

    assert torch.equal(diffusion.tokens, greedy.tokens)
    assert len(greedy.generated.unique()) > 3
    assert diffusion.committed_per_forward == greedy.committed_per_forward == (2,) * 12


def test_each_forward_commits_one_position_and_the_seed_orders_them() -> None:
    orders = []
    for seed in (1, 1, 2):
        denoiser = FunctionDenoiser(lambda tokens: torch.zeros(*tokens.shape, 4), mask_id=3)
        generation = sample(denoiser, torch.zeros((2, 3), dtype=torch.long), Options(gen_length=6, seed=seed))
        states = [*denoiser.shown, generation.tokens]
        order = []
        for before, after in itertools.pairwise(states):
            changed = (before != after).nonzero()
            assert changed[:, 0].tolist() == [0, 1]
            assert changed[0, 1] == changed[1, 1]
            order.append(int(changed[0, 1]))
        assert sorted(order) == [3, 4, 5, 6, 7, 8]
        assert denoiser.markers == [Marker("denoise", step) for step in range(6)]
        assert generation.rows_per_forward == (18,) * 6
        orders.append(order)
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("seed", [0, 7])
def test_any_order_with_the_exact_posterior_reproduces_the_chain(seed: int) -> None:
    oracle = MarkovOracle(MOVE)
    prompt = torch.ones((5_000, 1), dtype=torch.long)
    drawn = sample(oracle, prompt, Options(gen_length=3, temperature=1.0, seed=seed)).generated
    assert float(oracle.exact(1, 3)[1].min()) * 5_000 > 5
    statistic, degrees = oracle.chi_square(1, drawn)
    assert degrees == 26
    assert statistic < 45.6  # 99th percentile of chi-square with 26 degrees of freedom; the seed is fixed


def test_unknown_orders_and_networks_without_a_mask_are_refused(ar_model: Transformer) -> None:
    with pytest.raises(WorkloadError, match="order must be one of random, left_to_right, got 'up'"):
        Options(gen_length=2, order="up")
    with pytest.raises(WorkloadError, match="any_order: the network has no mask token"):
        sample(ar_model, torch.zeros((1, 2), dtype=torch.long), Options(gen_length=2))
    with pytest.raises(WorkloadError, match="token_shift needs a prompt"):
        sample(
            ar_model,
            torch.zeros((1, 0), dtype=torch.long),
            Options(gen_length=2, order="left_to_right", token_shift=True),
        )
