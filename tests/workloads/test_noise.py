import itertools
import math

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.samplers.noise import (
    SCHEDULES,
    absorb,
    absorbing_posterior,
    absorbing_score,
    leave_one_out,
    make_schedule,
    move_chance,
    race,
    scramble,
    staggered_score,
    token_probabilities,
    transposed_rate,
    transposed_transition,
    uniform_posterior,
    uniform_score,
)
from workloads.samplers.sedd import analytic_step, euler_step

PRIOR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MASK = 3
CHANCE, NEXT = 0.7, 0.4


def kernel(chance: float, *, absorbing: bool) -> torch.Tensor:
    """Forward noise as a matrix, from row to column, written down from its definition."""
    if absorbing:
        matrix = torch.zeros(4, 4, dtype=torch.float64)
        for state in range(3):
            matrix[state, state], matrix[state, MASK] = 1 - chance, chance
        matrix[MASK, MASK] = 1
        return matrix
    return torch.eye(3, dtype=torch.float64) * (1 - chance) + chance / 3


def bayes(prior: torch.Tensor, here: int, *, absorbing: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """`p(x_s | x_t)` and `p(x_0 | x_t)` by enumeration of every `x_0` and `x_s`."""
    before, between = kernel(NEXT, absorbing=absorbing), kernel((CHANCE - NEXT) / (1 - NEXT), absorbing=absorbing)
    earlier, clean = torch.zeros(len(before)).double(), torch.zeros(len(prior)).double()
    for start, middle in itertools.product(range(3), range(len(before))):
        weight = prior[start] * before[start, middle] * between[middle, here]
        earlier[middle] += weight
        clean[start] += weight
    return earlier / earlier.sum(), clean / clean.sum()


def normalized(weight: torch.Tensor) -> torch.Tensor:
    return weight / weight.sum(-1, keepdim=True)


def test_absorbing_posterior_is_bayes() -> None:
    earlier, clean = bayes(torch.cat((PRIOR, torch.zeros(1).double())), MASK, absorbing=True)

    posterior = absorbing_posterior(clean.clone(), MASK, CHANCE, NEXT)

    assert torch.allclose(normalized(posterior), earlier)


@pytest.mark.parametrize("here", [0, 1, 2])
def test_uniform_posterior_of_the_distribution_without_the_token_itself_is_bayes(here: int) -> None:
    earlier, clean = bayes(PRIOR, here, absorbing=False)
    token = torch.tensor(here)

    assert torch.allclose(normalized(uniform_posterior(PRIOR.clone(), token, CHANCE, NEXT)), earlier)
    assert torch.allclose(leave_one_out(clean, token, CHANCE), PRIOR)
    assert not torch.allclose(normalized(uniform_posterior(clean.clone(), token, CHANCE, NEXT)), earlier, atol=0.01)
    for start in range(3):  # a clean token that is known
        known = torch.nn.functional.one_hot(torch.tensor(start), 3).double()
        expected = bayes(known, here, absorbing=False)[0]
        assert torch.allclose(normalized(uniform_posterior(known, token, CHANCE, NEXT)), expected)


@pytest.mark.parametrize("absorbing", [True, False])
def test_score_is_the_ratio_of_marginals_and_analytic_step_is_bayes(absorbing: bool) -> None:
    prior = torch.cat((PRIOR, torch.zeros(1).double())) if absorbing else PRIOR
    marginal = prior @ kernel(CHANCE, absorbing=absorbing)
    mask_id = MASK if absorbing else None
    passed = -math.log(1 - CHANCE) + math.log(1 - NEXT)
    for here in [MASK] if absorbing else [0, 1, 2]:
        earlier, clean = bayes(prior, here, absorbing=absorbing)
        token = torch.tensor(here)
        score = absorbing_score(clean, token, MASK, CHANCE) if absorbing else uniform_score(clean, token, CHANCE)
        assert torch.allclose(score, marginal / marginal[here])
        staggered = staggered_score(score, passed, mask_id)
        assert torch.allclose(staggered, prior @ kernel(NEXT, absorbing=absorbing) / marginal[here])
        assert torch.allclose(analytic_step(score, token, passed, mask_id), earlier, rtol=1e-6)


@pytest.mark.parametrize("absorbing", [True, False])
def test_transposed_kernels_are_columns_of_the_forward_ones(absorbing: bool) -> None:
    mask_id, size = (MASK, 4) if absorbing else (None, 3)
    tokens = torch.arange(size)
    sigma = 0.8
    forward = kernel(move_chance(sigma), absorbing=absorbing)
    assert torch.allclose(transposed_transition(tokens, size, sigma, mask_id).double(), forward.T)
    tiny = 1e-6
    rates = ((kernel(move_chance(tiny), absorbing=absorbing) - torch.eye(size)) / tiny).T.fill_diagonal_(0)
    assert torch.allclose(transposed_rate(tokens, size, mask_id).double(), rates, atol=1e-5)


def test_euler_step_approaches_bayes_as_steps_shrink() -> None:
    errors = []
    for gap in (0.1, 0.01, 0.001):
        between = (gap) / (1 - CHANCE + gap)
        joint = (PRIOR @ kernel(CHANCE - gap, absorbing=False))[:, None] * kernel(between, absorbing=False)
        exact = normalized(joint[:, 0])
        clean = normalized(PRIOR * kernel(CHANCE, absorbing=False)[:, 0])
        token = torch.tensor(0)
        sigma = math.log(1 - CHANCE + gap) - math.log(1 - CHANCE)
        weight = euler_step(uniform_score(clean, token, CHANCE), token, sigma, None)
        assert float(weight.sum()) == pytest.approx(1)
        errors.append(float((weight - exact).abs().sum()))
    assert errors[0] / errors[1] > 50 and errors[1] / errors[2] > 50  # the error of one step is of second order


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_noise_grows_and_its_rate_is_the_derivative(name: str) -> None:
    schedule = make_schedule(name, "test")
    for time in (0.1, 0.5, 0.9):
        slope = (schedule.total_noise(time + 1e-6) - schedule.total_noise(time - 1e-6)) / 2e-6
        assert schedule.noise_rate(time) == pytest.approx(slope, rel=1e-4)
    assert schedule.total_noise(0) == pytest.approx(0, abs=1e-3)
    assert move_chance(schedule.total_noise(1)) > 0.99


def test_log_linear_move_chance_is_the_time() -> None:
    schedule = make_schedule("log_linear", "test")
    assert move_chance(schedule.total_noise(0.25)) == pytest.approx(0.999 * 0.25)
    with pytest.raises(
        WorkloadError, match="test: schedule must be one of log_linear, geometric, cosine, got 'linear'"
    ):
        make_schedule("linear", "test")


def test_forward_noise_has_the_closed_form_marginals() -> None:
    generator = torch.Generator().manual_seed(5)
    tokens = torch.full((40_000,), 1)
    draws = 40_000
    hidden = absorb(tokens, 0.3, MASK, generator)
    assert int((hidden == MASK).sum()) == pytest.approx(0.3 * draws, abs=4 * math.sqrt(draws * 0.21))
    assert set(hidden.unique().tolist()) == {1, MASK}
    counts = torch.bincount(scramble(tokens, 0.3, 3, generator), minlength=3)
    expected = torch.tensor([0.1, 0.8, 0.1]) * draws
    assert float(((counts - expected) ** 2 / expected).sum()) < 9.21  # 99th percentile, 2 degrees of freedom


def test_race_draws_by_weight_and_never_what_has_none() -> None:
    weight = torch.tensor([3.0, 0.0, 1.0, -2.0]).expand(40_000, -1)
    counts = torch.bincount(race(weight, torch.Generator().manual_seed(2)), minlength=4)
    assert counts[[1, 3]].tolist() == [0, 0]
    assert int(counts[0]) == pytest.approx(30_000, abs=4 * math.sqrt(40_000 * 0.75 * 0.25))


def test_temperature_sharpens_and_zero_is_certain() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0])
    assert token_probabilities(logits, 0.0).tolist() == [0, 1, 0]
    assert torch.allclose(token_probabilities(logits, 0.5), torch.softmax(torch.tensor([2.0, 6.0, 4.0]), -1))
