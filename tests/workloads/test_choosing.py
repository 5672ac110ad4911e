import math

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.samplers.choosing import (
    FilterOptions,
    choose_tokens,
    commit_best,
    commit_where,
    draw_tokens,
    keep_top_k,
    keep_top_p,
    margin,
    negative_entropy,
    probability_of,
    select_best,
    select_by_factor,
    select_confident,
)

INF = math.inf


def kept(logits: torch.Tensor) -> list[bool]:
    return (logits > -INF).tolist()


def test_top_k_keeps_the_largest_and_all_that_tie_with_the_last() -> None:
    logits = torch.tensor([0.0, 3.0, 1.0, 3.0, 2.0])
    assert kept(keep_top_k(logits, 1)) == [False, True, False, True, False]
    assert kept(keep_top_k(logits, 3)) == [False, True, False, True, True]
    assert torch.equal(keep_top_k(logits, None), logits)
    assert torch.equal(keep_top_k(logits, 9), logits)


@pytest.mark.parametrize(
    ("mass", "expected"),
    [
        (0.05, [False, True, False, False]),  # the best always stays
        (0.5, [False, True, False, False]),  # 0.5 is reached by the first alone
        (0.6, [False, True, True, False]),
        (0.8, [False, True, True, False]),
        (0.85, [True, True, True, False]),
        (1.0, [True, True, True, True]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_the_mass(mass: float, expected: list[bool]) -> None:
    logits = torch.tensor([0.125, 0.5, 0.3125, 0.0625]).log()
    assert kept(keep_top_p(logits, mass)) == expected
    assert kept(keep_top_p(logits.expand(2, 3, 4), mass)[1, 2]) == expected


def test_filtered_distribution_is_temperature_then_top_k_then_top_p() -> None:
    # Squared and renormalized by temperature 0.5: weights 16, 9, 4, 1. Top-k 3 leaves 16/29, 9/29, 4/29; the nucleus
    # of 0.8 then needs the first two (25/29), which become 16/25 and 9/25.
    logits = torch.tensor([4.0, 3.0, 2.0, 1.0]).log()
    options = FilterOptions(gen_length=1, temperature=0.5, top_k=3, top_p=0.8)
    assert options.distribution(logits).tolist() == pytest.approx([0.64, 0.36, 0.0, 0.0])


def test_draws_follow_the_distribution_whatever_its_leading_shape() -> None:
    probability = torch.tensor([0.2, 0.0, 0.5, 0.3])
    generator = torch.Generator().manual_seed(1)
    drawn = draw_tokens(probability.expand(100, 200, 4), generator)
    assert drawn.shape == (100, 200)
    counts = torch.bincount(drawn.flatten(), minlength=4)
    expected = probability * 20_000
    assert counts[1] == 0
    chi_square = ((counts - expected)[[0, 2, 3]] ** 2 / expected[[0, 2, 3]]).sum()
    assert chi_square < 9.21  # 99th percentile of chi-square with 2 degrees of freedom; the seed is fixed


def test_confidences_worked_out_by_hand() -> None:
    probability = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0]])
    assert probability_of(probability, torch.tensor([1, 2, 0])).tolist() == pytest.approx([0.25, 0.7, 0.0])
    assert margin(probability).tolist() == pytest.approx([0.25, 0.5, 1.0])
    entropies = [-1.5 * math.log(2), 0.1 * math.log(0.1) + 0.2 * math.log(0.2) + 0.7 * math.log(0.7), 0.0]
    assert negative_entropy(probability).tolist() == pytest.approx(entropies, abs=1e-6)


def test_best_positions_are_counted_in_each_sequence() -> None:
    tokens, proposal = torch.full((2, 4), 9), torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]])
    confidence = torch.tensor([[0.1, 0.9, -INF, 0.5], [-INF, 0.2, 0.3, 0.1]])
    commit_best(tokens, proposal, confidence, 2)
    assert tokens.tolist() == [[9, 1, 9, 3], [9, 5, 6, 9]]
    commit_where(tokens, proposal, torch.tensor([[True, False, False, False], [False] * 4]))
    assert tokens.tolist() == [[0, 1, 9, 3], [9, 5, 6, 9]]
    assert select_best(confidence, 2).tolist() == [[False, True, False, True], [False, True, True, False]]
    assert select_best(torch.full((1, 3), -INF), 2).tolist() == [[False] * 3]
    assert select_best(confidence, 9).tolist() == [[True, True, False, True], [False, True, True, True]]


def test_threshold_takes_all_above_it_and_always_the_best() -> None:
    confidence = torch.tensor([[0.95, 0.3, 0.91, -INF], [0.2, 0.4, 0.3, -INF], [-INF] * 4])
    selected = select_confident(confidence, 0.9)
    assert selected.tolist() == [[True, False, True, False], [False, True, False, False], [False] * 4]


def test_factor_takes_the_longest_prefix_that_its_bound_allows() -> None:
    # (n + 1)(1 - c_n) < 1: c_1 > 1/2, c_2 > 2/3, c_3 > 3/4, c_4 > 4/5.
    confidence = torch.tensor([[0.7, 0.76, 0.9, 0.5], [0.9, 0.85, 0.81, 0.95], [0.1, 0.2, -INF, 0.05]])
    assert select_by_factor(confidence, 1.0).tolist() == [
        [False, True, True, False],  # sorted 0.9, 0.76 pass; 0.7 < 3/4
        [True, True, True, True],
        [False, True, False, False],  # none passes, the best is taken
    ]


def test_gumbel_in_float64_and_greedy_choice() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    assert choose_tokens(logits, 0.0, None).tolist() == [1]
    nearly_certain = choose_tokens(logits.expand(1000, 3), 0.01, torch.Generator().manual_seed(0))
    assert nearly_certain.unique().tolist() == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": 0}, "choosing: top_k must be > 0, got 0"),
        ({"top_p": 0.0}, "top_p must lie above 0 and at most at 1, got 0.0"),
        ({"top_p": 1.5}, "top_p must lie above 0 and at most at 1, got 1.5"),
    ],
)
def test_impossible_filters_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        FilterOptions(**{"gen_length": 1, **changes})
