import pytest
import torch

from workloads.errors import WorkloadError
from workloads.exactness import UniformOracle
from workloads.oracle import FunctionDenoiser, MarkovOracle
from workloads.samplers.noise import LogLinear, at_noise, move_chance, scramble, uniform_score
from workloads.samplers.sedd import Options, sample
from workloads.transformer import Transformer

MOVE = torch.tensor([[0.1, 0.8, 0.1], [0.05, 0.05, 0.9], [0.6, 0.2, 0.2]])


@pytest.mark.parametrize("graph", ["absorbing", "uniform"])
@pytest.mark.parametrize("predictor", ["euler", "analytic"])
def test_one_forward_per_step_and_a_last_one(diffusion_model: Transformer, graph: str, predictor: str) -> None:
    options = Options(gen_length=8, steps=5, graph=graph, predictor=predictor)
    prompt = torch.randint(0, 49, (2, 3), generator=torch.Generator().manual_seed(1))

    generation = sample(diffusion_model, prompt, options)
    pretended = sample(Transformer(diffusion_model.preset, device="meta"), prompt.to("meta"), options)

    assert generation.nfe == pretended.nfe == 6
    assert generation.rows_per_forward == pretended.rows_per_forward == (22,) * 6
    assert sum(generation.committed_per_forward) == sum(pretended.committed_per_forward) == 16
    assert torch.equal(generation.tokens[:, :3], prompt)
    assert torch.equal(generation.tokens, sample(diffusion_model, prompt, options).tokens)
    if graph == "uniform":
        assert generation.committed_per_forward == (0, 0, 0, 0, 0, 16)
    else:
        assert not generation.tokens.eq(49).any()


def test_uniform_marginals_on_the_way_are_those_of_the_forward_process() -> None:
    """Half way back, single tokens are distributed as clean ones that noise hit with the chance of that time."""
    steps, draws = 32, 2000
    seen: list[torch.Tensor] = []

    class Watching(UniformOracle):
        def at_noise(self, move_chance: float) -> UniformOracle:
            return Watching(MOVE, leave_one_out=False, move_chance=move_chance)

        def __call__(self, tokens_BS: torch.Tensor, **_: object) -> torch.Tensor:
            seen.append(tokens_BS.clone())
            return UniformOracle.__call__(self, tokens_BS)

    options = Options(gen_length=2, steps=steps, graph="uniform", predictor="analytic")
    sample(Watching(MOVE, leave_one_out=False), torch.zeros((draws, 1), dtype=torch.long), options)

    for step in (0, 8, 16, 24):
        chance = move_chance(LogLinear().total_noise(1 - step / steps))
        clean = MOVE[0], MOVE[0] @ MOVE
        for position in (0, 1):
            expected = ((1 - chance) * clean[position] + chance / 3) * draws
            observed = torch.bincount(seen[step][:, position + 1], minlength=3)
            assert float(((observed - expected) ** 2 / expected).sum()) < 13.8  # 99.9th percentile, 2 degrees


def test_absorbing_marginals_on_the_way_are_the_closed_form() -> None:
    denoiser = FunctionDenoiser(MarkovOracle(MOVE), mask_id=3)
    draws = 4000
    options = Options(gen_length=2, steps=4, predictor="analytic", schedule="cosine")
    sample(denoiser, torch.zeros((draws, 1), dtype=torch.long), options)
    for step, tokens in enumerate(denoiser.shown):
        chance = 1 - (0.001 + 0.999 * float(torch.cos(torch.tensor((1 - step / 4) * torch.pi / 2))))
        first = torch.cat((MOVE[0] * (1 - chance), torch.tensor([chance]))) * draws
        observed = torch.bincount(tokens[:, 1], minlength=4)
        assert torch.all((observed - first).abs() <= 4 * first.sqrt() + 1)


def test_network_of_score_ratios_and_its_denoiser_give_the_same_tokens() -> None:
    class Ratios(UniformOracle):
        def at_noise(self, move_chance: float) -> UniformOracle:
            return Ratios(MOVE, leave_one_out=False, move_chance=move_chance)

        def __call__(self, tokens_BS: torch.Tensor, **_: object) -> torch.Tensor:
            clean = UniformOracle.__call__(self, tokens_BS).exp()
            return uniform_score(clean, tokens_BS, self.move_chance).log()

    prompt = torch.zeros((40, 1), dtype=torch.long)
    common = {"gen_length": 4, "steps": 6, "graph": "uniform", "seed": 2}
    expected = sample(UniformOracle(MOVE, leave_one_out=False), prompt, Options(**common)).tokens

    drawn = sample(Ratios(MOVE, leave_one_out=False), prompt, Options(**common, prediction="score")).tokens

    assert torch.equal(drawn, expected)


def test_noise_is_told_only_to_networks_that_ask(diffusion_model: Transformer) -> None:
    assert at_noise(diffusion_model, 0.5) is diffusion_model
    told = at_noise(UniformOracle(MOVE), 0.5)
    assert isinstance(told, UniformOracle) and told.move_chance == 0.5
    assert scramble(torch.tensor([0, 1, 2]), 0.0, 3, None).tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["graph", "predictor", "schedule", "prediction"])
def test_unknown_choices_are_refused(name: str) -> None:
    with pytest.raises(WorkloadError, match=f"sedd: {name} must be one of .*, got 'other'"):
        Options(gen_length=2, **{name: "other"})
