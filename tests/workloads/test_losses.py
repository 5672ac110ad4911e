import math
from dataclasses import replace

import pytest
import torch

from workloads.trained import losses
from workloads.trained.losses import _two_streams, _uniform_bound
from workloads.transformer import Transformer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def indifferent(tiny_diffusion) -> Transformer:
    """A network that gives every token the same logit."""
    model = Transformer(replace(tiny_diffusion, vocab=5, mask_id=4))
    with torch.no_grad():
        model.head.weight.zero_()
    return model


def test_noise_levels_are_spread_evenly_over_the_batch():
    levels = losses.noise_levels(100, generator()).sort().values
    assert (levels > 0).all() and (levels < 1).all()
    torch.testing.assert_close(levels.diff(), torch.full((99,), 0.998 / 100), rtol=1e-3, atol=1e-5)


def test_indifferent_network_loses_the_logarithm_of_its_choices(indifferent):
    tokens = torch.randint(0, 4, (4000, 8), generator=generator())
    with torch.no_grad():
        assert losses.autoregressive_loss(indifferent, tokens, 4).item() == pytest.approx(math.log(5))
        # The mask is no choice; a masked token's weight 1 / t has mean 1 and a heavy tail, hence the tolerance.
        masked = losses.masked_loss(indifferent, tokens, 4, 4, generator()).item()
        assert masked == pytest.approx(math.log(4), rel=0.05)
        assert losses.block_loss(indifferent, tokens, 4, 2, 4, generator()).item() == pytest.approx(
            math.log(4), rel=0.05
        )
        # The bound is exact for a prediction that ignores the noised tokens: log V.
        assert losses.uniform_loss(indifferent, tokens, 4, generator()).item() == pytest.approx(math.log(5), rel=0.05)


def test_uniform_bound_integrates_to_the_negative_log_likelihood():
    """One token, a prediction p that does not look: the continuous-time bound is tight, -log p of the true token."""
    p, vocab, true = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), 3, 0
    steps = 4000
    time = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    total = 0.0
    for noised in range(vocab):
        chance = time / vocab + (1 - time) * (noised == true)
        bound = _uniform_bound(
            p.expand(steps, 1, vocab),
            torch.full((steps, 1), true),
            torch.full((steps, 1), noised),
            (1 - time).view(-1, 1, 1),
        )
        total += (chance * bound[:, 0]).mean().item()
    assert total == pytest.approx(-math.log(0.5), rel=1e-3)


def test_uniform_bound_vanishes_for_the_right_prediction():
    answer = torch.tensor([[0, 2]])
    right = torch.nn.functional.one_hot(answer, 3).double()
    bound = _uniform_bound(right, answer, torch.tensor([[1, 2]]), torch.full((1, 1, 1), 0.4, dtype=torch.float64))
    torch.testing.assert_close(bound, torch.zeros(1, 2, dtype=torch.float64))


def test_block_mask_by_hand():
    """Four clean tokens in blocks of two, the last two of them the answer, and behind them the noised answer."""
    expected = [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 1],
        [1, 1, 0, 0, 1, 1],
    ]
    assert losses.block_mask(4, 2, 2).int().tolist() == expected


def test_block_training_sees_what_block_sampling_will_see(diffusion_model):
    """Logits of each noised block equal those of a cache that holds the clean blocks before it."""
    tokens = torch.randint(0, 49, (3, 8), generator=generator())
    noised = torch.where(torch.rand(3, 4, generator=generator()) < 0.5, 49, tokens[:, 4:])
    with torch.no_grad():
        together = _two_streams(diffusion_model, tokens, noised, 4, 2)[:, 8:]
        cache = diffusion_model.new_cache(3, 8)
        for start in (0, 2):
            diffusion_model(tokens[:, start : start + 2], cache=cache, position=start, causal=False)
        for start in (4, 6):
            block = noised[:, start - 4 : start - 2]
            alone = diffusion_model(block, cache=cache, position=start, causal=False)
            torch.testing.assert_close(together[:, start - 4 : start - 2], alone, rtol=1e-4, atol=1e-4)
            diffusion_model(tokens[:, start : start + 2], cache=cache, position=start, causal=False)
