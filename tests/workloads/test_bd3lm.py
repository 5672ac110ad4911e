import pytest
import torch

from workloads.errors import WorkloadError
from workloads.exactness import error_against_steps, total_variation
from workloads.markers import Marker, current_marker
from workloads.oracle import FunctionDenoiser, MarkovOracle
from workloads.samplers.bd3lm import Options, sample
from workloads.samplers.reveals import expected_changes
from workloads.transformer import Transformer

MOVE = torch.tensor([[0.1, 0.8, 0.1], [0.05, 0.05, 0.9], [0.6, 0.2, 0.2]])
MASK = 3


def prompts(batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, 49, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("block_length", [1, 2, 3, 8])
def test_first_hitting_is_exact_at_any_block_length(block_length: int) -> None:
    oracle = MarkovOracle(MOVE)
    prompt = torch.zeros((20_000, 1), dtype=torch.long)
    drawn = sample(oracle, prompt, Options(gen_length=3, block_length=block_length, seed=1)).generated
    statistic, degrees = oracle.chi_square(0, drawn)
    assert degrees == 26
    assert statistic < 45.64  # 99th percentile
    assert total_variation(oracle, 0, drawn) < 0.02


def test_ancestral_steps_come_closer_with_their_number() -> None:
    errors = []
    for steps in (1, 4, 32):
        (point,) = error_against_steps(
            "bd3lm",
            MarkovOracle(MOVE),
            (steps,),
            draws=2000,
            steps_option="steps_per_block",
            options={"block_length": 4, "update": "ddpm"},
        )
        errors.append(point.total_variation)
    assert errors[0] > 0.25
    assert errors[0] > 2 * errors[1] > 3 * errors[2]


def test_forwards_are_prefill_then_one_per_token_and_one_to_store_each_block(diffusion_model: Transformer) -> None:
    generation = sample(diffusion_model, prompts(2, 10), Options(gen_length=9, block_length=4))
    # Blocks 0-3 and 4-7 are prefilled; 8-11 holds two given tokens and two masks; then 12-15; 16-18 is cut short.
    assert generation.rows_per_forward == (16, *(8,) * 3, *(8,) * 5, *(6,) * 4)
    assert generation.committed_per_forward == (0, 2, 2, 0, 2, 2, 2, 2, 0, 2, 2, 2, 0)
    assert generation.nfe == 1 + 9 + 3
    assert torch.equal(generation.tokens[:, :10], prompts(2, 10))
    assert not generation.tokens.eq(49).any()


def test_phases_name_each_kind_of_forward(diffusion_model: Transformer) -> None:
    markers: list[Marker] = []
    diffusion_model.register_forward_hook(lambda *_: markers.append(current_marker()))
    sample(diffusion_model, prompts(1, 4), Options(gen_length=4, block_length=2))
    denoise = [Marker("denoise", step) for step in range(4)]
    stores = [Marker("store_kv", 0), Marker("store_kv", 1)]
    assert markers == [Marker("prefill", None), *denoise[:2], stores[0], *denoise[2:], stores[1]]


def test_cached_blocks_equal_block_causal_recomputation(diffusion_model: Transformer) -> None:
    class Uncached:
        mask_id = 49

        def new_cache(self, batch: int, capacity: int) -> None:
            return None

        def __call__(self, tokens: torch.Tensor, **_: object) -> torch.Tensor:
            return diffusion_model(tokens, block_length=4)

    options = Options(gen_length=11, block_length=4, seed=5)
    cached = sample(diffusion_model, prompts(2, 6), options)
    plain = sample(Uncached(), prompts(2, 6), options)
    assert torch.equal(cached.tokens, plain.tokens)
    assert plain.nfe == 11  # nothing to prefill or store
    assert plain.rows_per_forward == (16, 16, *(24,) * 4, *(32,) * 4, 34)


def test_ancestral_forwards_are_the_steps_that_reveal_something() -> None:
    denoiser = FunctionDenoiser(lambda tokens: torch.zeros(*tokens.shape, MASK + 1), mask_id=MASK)
    counts = []
    for seed in range(20):
        options = Options(gen_length=8, block_length=8, update="ddpm", steps_per_block=10, seed=seed)
        generation = sample(denoiser, torch.zeros((1, 0), dtype=torch.long), options)
        assert sum(generation.committed_per_forward) == 8
        assert min(generation.committed_per_forward) > 0
        counts.append(generation.nfe)
    # 10 (1 - 0.9^8) = 5.7 of 10 steps; three standard errors of the mean
    assert sum(counts) / 20 == pytest.approx(expected_changes(10, 8), abs=0.7)


@pytest.mark.parametrize("update", ["first_hitting", "ddpm"])
def test_runs_on_meta_with_expected_forwards(diffusion_model: Transformer, update: str) -> None:
    model = Transformer(diffusion_model.preset, device="meta")
    options = Options(gen_length=16, block_length=8, update=update, top_p=0.9)
    generation = sample(model, prompts(1, 8).to("meta"), options)
    # Two blocks of 8 masks: 8 forwards each, or 8 (1 - (7/8)^8) = 5.3 of 8 steps; one to store each; the prefill.
    assert generation.nfe == (1 + 2 * 9 if update == "first_hitting" else 1 + 2 * 6)
    assert sum(generation.committed_per_forward) == 16


def test_nucleus_leaves_only_the_most_probable_token() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, 9.0])
    denoiser = FunctionDenoiser(lambda tokens: logits.expand(*tokens.shape, -1).clone(), mask_id=MASK)
    for options in (Options(gen_length=20, top_p=0.6), Options(gen_length=20, temperature=0.0)):
        assert sample(denoiser, torch.zeros((2, 0), dtype=torch.long), options).tokens.eq(0).all()
    drawn = sample(denoiser, torch.zeros((2, 0), dtype=torch.long), Options(gen_length=20, top_p=0.8)).tokens
    assert set(drawn.unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_length": 0}, "bd3lm: block_length must be > 0, got 0"),
        ({"update": "ddpm", "steps_per_block": 0}, "bd3lm: steps_per_block must be > 0, got 0"),
        ({"steps_per_block": 4}, "give update=ddpm for steps_per_block = 4"),
        ({"update": "euler"}, "bd3lm: update must be one of first_hitting, ddpm, got 'euler'"),
    ],
)
def test_impossible_options_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        Options(gen_length=4, **changes)
