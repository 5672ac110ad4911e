import pytest
import torch

from workloads.errors import WorkloadError
from workloads.markers import Marker
from workloads.oracle import FunctionDenoiser, MarkovOracle
from workloads.samplers import sedd
from workloads.samplers.mdlm import Options, sample
from workloads.samplers.reveals import expected_changes
from workloads.transformer import Transformer

MASK = 3


def uniform_denoiser() -> FunctionDenoiser:
    return FunctionDenoiser(lambda tokens: torch.zeros(*tokens.shape, MASK + 1), mask_id=MASK)


def test_one_forward_per_step_and_one_for_the_masks_that_are_left() -> None:
    denoiser = uniform_denoiser()

    generation = sample(denoiser, torch.zeros((4, 2), dtype=torch.long), Options(gen_length=8, steps=5))

    assert generation.nfe == 6 == len(denoiser.shown)
    assert generation.rows_per_forward == (40,) * 6
    assert sum(generation.committed_per_forward) == 32
    assert denoiser.markers == [Marker("denoise", step) for step in range(6)]
    assert int(generation.tokens.max()) < MASK
    assert generation.tokens[:, :2].eq(0).all()


def test_revealed_tokens_are_carried_over_and_commits_are_what_vanished() -> None:
    denoiser = uniform_denoiser()
    generation = sample(denoiser, torch.zeros((3, 1), dtype=torch.long), Options(gen_length=16, steps=8, seed=3))
    states = [*denoiser.shown, generation.tokens]
    for before, after, committed in zip(states, states[1:], generation.committed_per_forward, strict=False):
        was_shown = before != MASK
        assert torch.equal(before[was_shown], after[was_shown])
        assert int((before == MASK).sum() - (after == MASK).sum()) == committed


def test_each_step_reveals_a_binomial_number() -> None:
    generation = sample(uniform_denoiser(), torch.zeros((2000, 0), dtype=torch.long), Options(gen_length=8, steps=4))
    # 16,000 masks, 4,000 expected in each step; standard deviation sqrt(16000 * 3/16) = 55
    assert generation.committed_per_forward[:4] == pytest.approx([4000] * 4, abs=4 * 55)


def test_reuse_changes_no_token_and_saves_the_expected_forwards() -> None:
    prompt = torch.zeros((1, 2), dtype=torch.long)
    denoiser = FunctionDenoiser(
        lambda tokens: torch.nn.functional.one_hot(tokens.cumsum(1) % 3, 4).float(), mask_id=MASK
    )
    counts = []
    for seed in range(30):
        plain = sample(denoiser, prompt, Options(gen_length=6, steps=20, seed=seed))
        reused = sample(denoiser, prompt, Options(gen_length=6, steps=20, seed=seed, reuse=True))
        assert torch.equal(plain.tokens, reused.tokens)
        assert plain.nfe == 21
        counts.append(reused.nfe)
    # The first forward, one behind each of the first 19 steps that revealed something, and the last.
    expected = 2 + expected_changes(20, 6) * 19 / 20
    assert sum(counts) / 30 == pytest.approx(expected, abs=0.45)  # three standard errors of the mean


def test_reuse_on_meta_runs_the_expected_forwards(diffusion_model: Transformer) -> None:
    model = Transformer(diffusion_model.preset, device="meta")
    prompt = torch.zeros((1, 4), dtype=torch.long, device="meta")
    generation = sample(model, prompt, Options(gen_length=6, steps=20, reuse=True))
    # 20 steps find 20 (1 - 0.95^6) = 5.3 that reveal; 5.03 of them among the first 19.
    assert generation.nfe == 7
    assert sum(generation.committed_per_forward) == 6
    assert sample(model, prompt, Options(gen_length=6, steps=20)).nfe == 21


def test_sedd_on_absorbing_noise_draws_the_same_tokens() -> None:
    """Analytic steps with exact scores are the posterior, and on log-linear noise Euler steps are so too."""
    oracle = MarkovOracle(torch.tensor([[0.6, 0.2, 0.2], [0.1, 0.3, 0.6], [0.3, 0.5, 0.2]]))
    prompt = torch.zeros((50, 2), dtype=torch.long)
    tokens = sample(oracle, prompt, Options(gen_length=6, steps=10, seed=7)).tokens
    for predictor in ("euler", "analytic"):
        options = sedd.Options(gen_length=6, steps=10, seed=7, predictor=predictor)
        ratio = sedd.sample(oracle, prompt, options).tokens
        assert float((ratio == tokens).float().mean()) > 0.99  # the last step draws where MDLM takes the most probable


def test_temperature_zero_reveals_the_most_probable_tokens() -> None:
    logits = torch.tensor([0.0, 2.0, 1.0, 9.0])
    denoiser = FunctionDenoiser(lambda tokens: logits.expand(*tokens.shape, -1).clone(), mask_id=MASK)
    generation = sample(denoiser, torch.zeros((2, 1), dtype=torch.long), Options(gen_length=5, temperature=0.0))
    assert generation.generated.eq(1).all()


def test_network_without_a_mask_and_no_steps_are_refused(ar_model: Transformer) -> None:
    with pytest.raises(WorkloadError, match="mdlm: the network has no mask token"):
        sample(ar_model, torch.zeros((1, 2), dtype=torch.long), Options(gen_length=2))
    with pytest.raises(WorkloadError, match="mdlm: steps must be > 0, got 0"):
        Options(gen_length=2, steps=0)
