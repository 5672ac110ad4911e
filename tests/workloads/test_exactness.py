"""Every stochastic sampler against the exact distribution of a Markov chain, asked through an exact denoiser."""

import itertools

import pytest
import torch

from workloads.exactness import UniformOracle, error_against_steps, total_variation
from workloads.oracle import MarkovOracle

MOVE = torch.tensor([[0.1, 0.8, 0.1], [0.05, 0.05, 0.9], [0.6, 0.2, 0.2]])
CHI_SQUARE_99 = {8: 20.09, 26: 45.64}  # 99th percentiles by degrees of freedom
POSTERIOR = {"prediction": "posterior"}
CASES = {
    "mdlm": ("mdlm", MarkovOracle(MOVE), {}),
    "mdlm, reuse": ("mdlm", MarkovOracle(MOVE), {"reuse": True}),
    "sedd absorbing, Euler": ("sedd", MarkovOracle(MOVE), {"schedule": "cosine"}),
    "sedd absorbing, analytic": ("sedd", MarkovOracle(MOVE), {"predictor": "analytic"}),
    "sedd uniform, Euler": ("sedd", UniformOracle(MOVE, leave_one_out=False), {"graph": "uniform"}),
    "sedd uniform, analytic": (
        "sedd",
        UniformOracle(MOVE, leave_one_out=False),
        {"graph": "uniform", "predictor": "analytic"},
    ),
    "udlm": ("udlm", UniformOracle(MOVE), {}),
    "udlm, posterior": ("udlm", UniformOracle(MOVE, leave_one_out=False), POSTERIOR),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_error_falls_with_steps_until_only_chance_is_left(case: str) -> None:
    sampler, oracle, options = CASES[case]

    points = error_against_steps(sampler, oracle, (1, 4, 32), draws=2000, options=options)

    errors = [point.total_variation for point in points]
    assert errors[0] > 0.25  # one step knows nothing of what stands between neighbors
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 1.5 * points[2].noise_floor
    assert points[2].chi_square < CHI_SQUARE_99[points[2].degrees]


def test_uniform_posterior_fed_with_the_wrong_conditional_stays_wrong_at_any_number_of_steps() -> None:
    oracle = UniformOracle(MOVE, leave_one_out=False)
    points = error_against_steps("udlm", oracle, (4, 32), draws=1000)
    assert min(point.total_variation for point in points) > 0.2


@pytest.mark.parametrize("leave_one_out", [True, False])
def test_uniform_oracle_equals_enumeration(leave_one_out: bool) -> None:
    chance, shown = 0.4, [2, 0, 2, 1]
    oracle = UniformOracle(MOVE, leave_one_out=leave_one_out).at_noise(chance)
    logits = oracle(torch.tensor([shown]))
    assert oracle(torch.tensor([shown]), last_only=True).shape == (1, 1, 3)
    for position in (1, 2, 3):
        expected = torch.zeros(3, dtype=torch.float64)
        for clean in itertools.product(range(3), repeat=3):
            sequence = (2, *clean)
            weight = 1.0
            for i in (1, 2, 3):
                weight *= float(MOVE[sequence[i - 1], sequence[i]])
                if not (leave_one_out and i == position):
                    weight *= (1 - chance) * (sequence[i] == shown[i]) + chance / 3
            expected[sequence[position]] += weight
        assert torch.allclose(logits[0, position].exp(), expected / expected.sum(), atol=1e-6)


def test_total_variation_by_hand() -> None:
    chain = MarkovOracle(torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    assert total_variation(chain, 0, torch.tensor([[0], [0], [1], [1]])) == pytest.approx(0.25)
