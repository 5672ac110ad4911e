from collections.abc import Callable

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.oracle import FunctionDenoiser
from workloads.samplers import llada
from workloads.samplers.dkv_cache import Options, sample
from workloads.transformer import Transformer


def prompts(batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, 49, (batch, length), generator=torch.Generator().manual_seed(4))


def test_chosen_rows_against_a_fresh_cache_are_rows_of_the_whole_forward(diffusion_model: Transformer) -> None:
    tokens = prompts(2, 9)
    rows = torch.tensor([[7, 0, 3], [8, 2, 4]])
    cache = diffusion_model.new_cache(2, 9)
    with torch.no_grad():
        whole = diffusion_model(tokens, cache=cache)
        part = diffusion_model(tokens.gather(1, rows), cache=cache, rows_BS=rows)
    assert cache.length == 9
    assert torch.allclose(part, whole.gather(1, rows[..., None].expand(-1, -1, 50)), atol=1e-5)


def test_chosen_rows_overwrite_their_own_keys_and_values(diffusion_model: Transformer) -> None:
    tokens, rows = prompts(2, 6), torch.tensor([[1, 5], [4, 0]])
    changed = tokens.scatter(1, rows, (tokens.gather(1, rows) + 7) % 49)
    cache, fresh = diffusion_model.new_cache(2, 6), diffusion_model.new_cache(2, 6)
    with torch.no_grad():
        diffusion_model(tokens, cache=cache)
        diffusion_model(changed.gather(1, rows), cache=cache, rows_BS=rows)
        diffusion_model(changed, cache=fresh)
    # The first layer's keys and values depend on the tokens alone.
    for ours, theirs in zip(cache.read(0, 6), fresh.read(0, 6), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_refreshing_every_step_is_llada(diffusion_model: Transformer, temperature: float) -> None:
    knobs = {"gen_length": 12, "block_length": 6, "steps": 8, "temperature": temperature, "seed": 3}
    ours = sample(diffusion_model, prompts(2, 5), Options(refresh=1, **knobs))
    theirs = llada.sample(diffusion_model, prompts(2, 5), llada.Options(**knobs))
    assert torch.equal(ours.tokens, theirs.tokens)
    assert ours.rows_per_forward == theirs.rows_per_forward
    assert ours.committed_per_forward == theirs.committed_per_forward


def test_one_layer_loses_nothing_by_the_cache(build_model: Callable[..., Transformer]) -> None:
    # Keys and values of a first layer depend on their own token only, which no longer changes once it is decoded.
    model = build_model(kind="masked_diffusion", mask_id=49, layers=1)
    cached = sample(model, prompts(3, 5), Options(gen_length=16, block_length=8, refresh=100))
    exact = llada.sample(model, prompts(3, 5), llada.Options(gen_length=16, block_length=8))
    assert torch.equal(cached.tokens, exact.tokens)
    assert sum(cached.rows_per_forward) < sum(exact.rows_per_forward)
    assert len(exact.generated.unique()) > 3


def test_rows_shown_are_all_but_those_decoded_before_the_last_step(diffusion_model: Transformer) -> None:
    generation = sample(diffusion_model, prompts(1, 5), Options(gen_length=12, block_length=6, refresh=4))
    # 17 rows in steps 0, 1 and 4; step 2 lacks the prompt and the token of step 0, step 3 one more, and so on.
    first, second = (
        (17, 17, 17 - 5 - 1, 17 - 5 - 2, 17, 17 - 5 - 4),
        (17, 17, 17 - 11 - 1, 17 - 11 - 2, 17, 17 - 11 - 4),
    )
    assert generation.rows_per_forward == (*first, *second)
    assert generation.committed_per_forward == (1,) * 12
    assert not (generation.tokens == 49).any()


def test_runs_on_meta_with_the_same_shape_and_counts(diffusion_model: Transformer) -> None:
    options = Options(gen_length=12, block_length=6, steps=6, refresh=5, temperature=1.0)
    real = sample(diffusion_model, prompts(2, 5), options)
    pretended = sample(Transformer(diffusion_model.preset, device="meta"), prompts(2, 5).to("meta"), options)
    assert pretended.tokens.shape == real.tokens.shape
    assert pretended.rows_per_forward == real.rows_per_forward
    assert pretended.committed_per_forward == real.committed_per_forward == (4,) * 6


def test_impossible_requests_are_refused(ar_model: Transformer, diffusion_model: Transformer) -> None:
    with pytest.raises(WorkloadError, match="dkv_cache: refresh must be > 0, got 0"):
        Options(gen_length=4, refresh=0)
    with pytest.raises(WorkloadError, match="dkv_cache: the network has no mask token"):
        sample(ar_model, prompts(1, 2), Options(gen_length=4))
    uncached = FunctionDenoiser(lambda tokens: torch.zeros(*tokens.shape, 4), mask_id=3)
    with pytest.raises(WorkloadError, match="dkv_cache: needs a network that keeps a KV cache"):
        sample(uncached, prompts(1, 2), Options(gen_length=4))  # type: ignore[arg-type] # it takes no rows either
    with pytest.raises(WorkloadError, match="rows need a bidirectional network, a filled KV cache and no position"):
        diffusion_model(prompts(1, 2), rows_BS=torch.tensor([[0, 1]]))
