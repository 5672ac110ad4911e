"""The usual study of exactness against closed forms."""

import itertools
import math

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.exactness_study import CASES, CHAIN, Case, make_oracle, masked_error, study
from workloads.oracle import MarkovOracle


def test_one_step_draws_from_marginals_alone() -> None:
    # By hand: state 0, then two tokens; the first by row 0 of the chain, the second by row 0 of its square.
    first = CHAIN[0]
    second = [sum(first[k] * CHAIN[k][j] for k in range(3)) for j in range(3)]
    expected = sum(abs(first[a] * second[b] - first[a] * CHAIN[a][b]) for a, b in itertools.product(range(3), repeat=2))
    assert masked_error(make_oracle("absorbing"), 1, 2) == pytest.approx(expected / 2)


def test_two_tokens_are_drawn_together_once_in_as_many_steps() -> None:
    # Drawn in different steps two tokens are exact, so the error is that of one step times the chance of the same step.
    oracle = make_oracle("absorbing")
    for steps in (2, 5, 40):
        assert masked_error(oracle, steps, 2) == pytest.approx(masked_error(oracle, 1, 2) / steps)


def test_tokens_that_do_not_depend_on_each_other_are_exact_at_once() -> None:
    row = [0.2, 0.3, 0.5]
    assert masked_error(MarkovOracle(torch.tensor([row, row, row], dtype=torch.float64)), 1, 3) == pytest.approx(
        0.0, abs=1e-12
    )


@pytest.mark.parametrize("case", [case for case in CASES if case.noise == "absorbing" and case.sampler != "bd3lm"])
def test_masked_samplers_lie_on_the_closed_form(case: Case) -> None:
    for found in study(cases=(case,), steps=(1, 2, 4), draws=6000):
        expected = masked_error(make_oracle("absorbing"), found.point.steps, 3)
        # A share of n draws deviates by sqrt(p (1 - p) / n); half their sum over all sequences is below the floor.
        assert found.point.total_variation == pytest.approx(expected, abs=found.point.noise_floor)


def test_uniform_noise_in_one_step_draws_from_marginals_as_well() -> None:
    case = next(case for case in CASES if case.label == "udlm")
    (found,) = study(cases=(case,), steps=(1,), draws=6000)
    expected = masked_error(make_oracle("absorbing"), 1, 3)
    assert found.point.total_variation == pytest.approx(expected, abs=found.point.noise_floor)
    assert math.isclose(found.point.noise_floor, math.sqrt(27 / (2 * math.pi * 6000)))


def test_bad_requests_are_one_line() -> None:
    with pytest.raises(WorkloadError, match="steps and draws must be > 0"):
        study(steps=(0,))
    with pytest.raises(WorkloadError, match="noise must be absorbing"):
        make_oracle("pink")
