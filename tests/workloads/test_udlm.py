import pytest
import torch

from workloads.errors import WorkloadError
from workloads.exactness import UniformOracle
from workloads.markers import Marker
from workloads.oracle import FunctionDenoiser
from workloads.samplers import sedd
from workloads.samplers.udlm import Options, guide, sample
from workloads.transformer import Transformer

MOVE = torch.tensor([[0.1, 0.8, 0.1], [0.05, 0.05, 0.9], [0.6, 0.2, 0.2]])


class Uninformed(FunctionDenoiser):
    vocab = 4


def test_every_step_shows_all_positions_and_only_the_last_commits() -> None:
    denoiser = Uninformed(lambda tokens: torch.zeros(*tokens.shape, 4), mask_id=None)

    generation = sample(denoiser, torch.zeros((2, 3), dtype=torch.long), Options(gen_length=5, steps=4))

    assert generation.nfe == 4
    assert generation.rows_per_forward == (16,) * 4
    assert generation.committed_per_forward == (0, 0, 0, 10)
    assert denoiser.markers == [Marker("denoise", step) for step in range(4)]
    assert generation.tokens[:, :3].eq(0).all()


def test_posterior_of_the_leave_one_out_oracle_draws_what_exact_scores_draw() -> None:
    prompt = torch.zeros((200, 1), dtype=torch.long)
    tokens = sample(UniformOracle(MOVE), prompt, Options(gen_length=4, steps=8, seed=3)).tokens

    options = sedd.Options(gen_length=4, steps=8, seed=3, graph="uniform", predictor="analytic")
    ratio = sedd.sample(UniformOracle(MOVE, leave_one_out=False), prompt, options).tokens

    assert float((tokens == ratio).float().mean()) > 0.99  # SEDD takes one more step, from t = 1e-5


def test_guidance_by_hand_and_doubled_batch() -> None:
    conditional, unconditional = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.5, 0.25])
    # c^2 / u: 1, 0.125, 0.25
    assert torch.allclose(guide(conditional, unconditional, 1.0), torch.tensor([1.0, 0.125, 0.25]) / 1.375)
    denoiser = Uninformed(lambda tokens: torch.zeros(*tokens.shape, 4), mask_id=3)

    generation = sample(denoiser, torch.zeros((2, 3), dtype=torch.long), Options(gen_length=5, steps=2, cfg_scale=1.5))

    assert generation.rows_per_forward == (32, 32)
    assert denoiser.shown[0][:2, :3].eq(0).all()
    assert denoiser.shown[0][2:, :3].eq(3).all()
    assert torch.equal(denoiser.shown[0][:2, 3:], denoiser.shown[0][2:, 3:])


def test_guidance_by_equal_halves_changes_nothing() -> None:
    denoiser = Uninformed(lambda tokens: torch.nn.functional.one_hot(tokens, 4).float(), mask_id=None)
    prompt = torch.zeros((3, 0), dtype=torch.long)
    plain = sample(denoiser, prompt, Options(gen_length=6, steps=5))
    guided = sample(denoiser, prompt, Options(gen_length=6, steps=5, cfg_scale=2.0))
    assert torch.equal(plain.tokens, guided.tokens)


def test_runs_on_meta_with_the_same_counts(diffusion_model: Transformer) -> None:
    options = Options(gen_length=6, steps=3, cfg_scale=0.5, prediction="posterior")
    prompt = torch.randint(0, 49, (2, 4), generator=torch.Generator().manual_seed(1))
    real = sample(diffusion_model, prompt, options)
    pretended = sample(Transformer(diffusion_model.preset, device="meta"), prompt.to("meta"), options)
    assert pretended.rows_per_forward == real.rows_per_forward == (40,) * 3
    assert torch.equal(real.tokens, sample(diffusion_model, prompt, options).tokens)


def test_confidence_keeps_what_noise_leaves_clean_and_noises_the_rest() -> None:
    # Position i is sure of token 1 + i, the later the surer; at two steps half of four tokens are kept after the first.
    table = torch.zeros(4, 6)
    for position in range(4):
        table[position, 1 + position] = 5.0 + position

    class Sure(FunctionDenoiser):
        vocab = 6

    denoiser = Sure(lambda tokens: table.expand(len(tokens), 4, 6).clone(), mask_id=None)
    options = Options(gen_length=4, steps=2, routing="confidence", temperature=0.0)
    generation = sample(denoiser, torch.zeros((300, 0), dtype=torch.long), options)

    halfway = denoiser.shown[1]
    assert halfway[:, 2].eq(3).all()
    assert halfway[:, 3].eq(4).all()
    assert {int(token) for token in halfway[:, 0]} == set(range(6))  # fresh noise
    assert generation.tokens.eq(torch.tensor([1, 2, 3, 4])).all()
    assert generation.committed_per_forward == (0, 1200)


def test_confidence_runs_on_meta(diffusion_model: Transformer) -> None:
    options = Options(gen_length=6, steps=3, routing="confidence")
    prompt = torch.zeros((2, 4), dtype=torch.long, device="meta")
    assert sample(Transformer(diffusion_model.preset, device="meta"), prompt, options).rows_per_forward == (20,) * 3


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(WorkloadError, match="udlm: prediction must be one of leave_one_out, posterior, got 'score'"):
        Options(gen_length=2, prediction="score")
    with pytest.raises(WorkloadError, match="udlm: cfg_scale must be finite and >= 0, got -1"):
        Options(gen_length=2, cfg_scale=-1.0)
    with pytest.raises(WorkloadError, match="udlm: routing must be one of posterior, confidence, got 'best'"):
        Options(gen_length=2, routing="best")
    with pytest.raises(WorkloadError, match="routing=confidence takes no guidance"):
        Options(gen_length=2, routing="confidence", cfg_scale=1.0)
