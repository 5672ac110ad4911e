import pytest
import torch

from workloads.errors import WorkloadError
from workloads.oracle import MarkovOracle

MOVE = torch.tensor([[0.6, 0.2, 0.2], [0.15, 0.25, 0.6], [0.3, 0.5, 0.2]], dtype=torch.float64)


def test_posterior_equals_enumeration_of_all_sequences() -> None:
    oracle = MarkovOracle(MOVE)
    sequences, probabilities = oracle.exact(2, 4)
    assert float(probabilities.sum()) == pytest.approx(1.0)
    for shown in ([3, 3, 3, 3], [3, 1, 3, 3], [0, 3, 3, 2], [3, 3, 3, 1]):
        tokens = torch.tensor([[2, *shown]])
        agrees = ((tokens[:, 1:] == sequences) | (tokens[:, 1:] == 3)).all(-1) * probabilities
        expected = torch.stack([torch.bincount(sequences[:, i], agrees, minlength=3) for i in range(4)]) / agrees.sum()
        logits = oracle(tokens)
        assert torch.allclose(logits[0, 1:, :3].exp(), expected)
        assert bool((logits[..., 3] == -torch.inf).all())


def test_causal_rows_are_the_transitions() -> None:
    oracle = MarkovOracle(MOVE, is_causal=True)
    assert torch.allclose(oracle(torch.tensor([[2, 0]]))[0, :, :3].exp(), MOVE[[2, 0]])
    assert oracle(torch.tensor([[2, 0]]), last_only=True).shape == (1, 1, 4)
    assert oracle.mask_id is None
    assert oracle.evaluations == 2


def test_chi_square_is_pearsons_by_hand() -> None:
    oracle = MarkovOracle(torch.tensor([[0.25, 0.75], [0.5, 0.5]]))
    # From state 0, one step: expected 2 and 6 of 8 draws, observed 4 and 4.
    statistic, degrees = oracle.chi_square(0, torch.tensor([[0]] * 4 + [[1]] * 4))
    assert statistic == pytest.approx(4 / 2 + 4 / 6)
    assert degrees == 1


def test_broken_chains_are_refused() -> None:
    with pytest.raises(WorkloadError, match="each row of transitions must sum to 1"):
        MarkovOracle(torch.tensor([[0.5, 0.4], [0.5, 0.5]]))
    with pytest.raises(WorkloadError, match="must be a square of probabilities"):
        MarkovOracle(torch.ones(2, 3) / 3)
