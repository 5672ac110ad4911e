from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.markers import marked_role
from workloads.presets import ModelPreset, load_preset, parameter_count
from workloads.transformer import Transformer

Build = Callable[..., Transformer]
NAMES = {  # ours -> those of transformers' Llama and Qwen3
    "embedding.weight": "model.embed_tokens.weight",
    "head.weight": "lm_head.weight",
    "norm.weight": "model.norm.weight",
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("qwen", [False, True])
def test_logits_equal_those_of_transformers(build_model: Build, qwen: bool) -> None:
    transformers = pytest.importorskip("transformers")
    model = build_model(qk_norm=qwen)
    dimensions = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 50,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
        "tie_word_embeddings": False,
    }
    reference = (
        transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**dimensions))
        if qwen
        else transformers.LlamaForCausalLM(transformers.LlamaConfig(**dimensions))
    ).eval()

    def their_name(name: str) -> str:
        if name in NAMES:
            return NAMES[name]
        _, layer, part = name.split(".", 2)
        return f"model.layers.{layer}.{NAMES[part.removesuffix('.weight')]}.weight"

    reference.load_state_dict({their_name(name): weight for name, weight in model.named_parameters()})
    ids = tokens(3, 17)

    with torch.no_grad():
        torch.testing.assert_close(model(ids), reference(ids).logits, rtol=1e-4, atol=1e-4)


def test_qkv_bias_enters_the_projections_and_the_count(build_model: Build) -> None:
    model = build_model(qkv_bias=True)
    before = model(tokens(1, 5))
    with torch.no_grad():
        model.blocks[0].attention.value.bias.zero_()

    assert not torch.allclose(before, model(tokens(1, 5)))
    assert sum(weight.numel() for weight in model.parameters()) == parameter_count(model.preset)


@pytest.mark.parametrize("changes", [{}, {"tied": True}, {"qkv_bias": True, "qk_norm": True}])
def test_parameter_count_equals_the_parameters_built(tiny_ar: ModelPreset, changes: dict[str, bool]) -> None:
    preset = replace(tiny_ar, **changes)
    built = sum(weight.numel() for weight in Transformer(preset, device="meta").parameters())
    assert built == parameter_count(preset)


def test_causal_network_ignores_the_future_and_bidirectional_one_does_not(ar_model: Transformer) -> None:
    ids = tokens(1, 9)
    changed = ids.clone()
    changed[0, 8] = (changed[0, 8] + 1) % 50

    torch.testing.assert_close(ar_model(ids)[:, :8], ar_model(changed)[:, :8])
    assert not torch.allclose(ar_model(ids, causal=False)[:, :8], ar_model(changed, causal=False)[:, :8], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("pieces", [(6, 1, 1, 1), (4, 3, 2), (1, 1, 7)])
def test_kv_cache_gives_the_logits_of_one_full_forward(ar_model: Transformer, pieces: tuple[int, ...]) -> None:
    ids = tokens(2, sum(pieces))
    cache = ar_model.new_cache(2, 16)
    parts, start = [], 0
    for piece in pieces:
        parts.append(ar_model(ids[:, start : start + piece], cache=cache, position=start))
        start += piece

    torch.testing.assert_close(torch.cat(parts, dim=1), ar_model(ids), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_truncated_cache_forgets_rejected_tokens(ar_model: Transformer) -> None:
    cache = ar_model.new_cache(1, 16)
    ids = tokens(1, 8)
    ar_model(ids[:, :4], cache=cache)
    ar_model(tokens(1, 3, seed=9), cache=cache, position=4)
    cache.truncate(4)

    rest = ar_model(ids[:, 4:], cache=cache, position=4)

    torch.testing.assert_close(rest, ar_model(ids)[:, 4:], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_block_rewritten_in_place_sees_the_whole_bidirectional_cache(build_model: Build) -> None:
    model = build_model(layers=1)  # one layer: old rows do not depend on the block
    ids = tokens(1, 10)
    cache = model.new_cache(1, 10)
    model(ids, cache=cache, causal=False)
    changed = ids.clone()
    changed[:, 4:7] = tokens(1, 3, seed=7)

    block = model(changed[:, 4:7], cache=cache, position=4, causal=False)

    torch.testing.assert_close(block, model(changed, causal=False)[:, 4:7], rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("prompt_length", [8, 6])
def test_block_causal_forward_equals_its_blocks_one_by_one(diffusion_model: Transformer, prompt_length: int) -> None:
    ids = tokens(2, prompt_length)
    cache = diffusion_model.new_cache(2, 16)
    parts = [
        diffusion_model(ids[:, start : start + 4], cache=cache, position=start) for start in range(0, prompt_length, 4)
    ]

    whole = diffusion_model(ids, cache=diffusion_model.new_cache(2, 16), block_length=4)

    torch.testing.assert_close(whole, torch.cat(parts, dim=1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(diffusion_model(ids, block_length=4), whole)
    torch.testing.assert_close(diffusion_model(ids, block_length=1), diffusion_model(ids, causal=True))
    assert not torch.allclose(diffusion_model(ids), whole, atol=1e-3)
    with pytest.raises(WorkloadError, match="block_length must be > 0 and without causal, got 0"):
        diffusion_model(ids, block_length=0)


@torch.no_grad()
def test_block_rows_may_run_against_the_cache_without_lasting_effect(diffusion_model: Transformer) -> None:
    ids, drafts = tokens(1, 8), tokens(1, 4, seed=5)
    cache = diffusion_model.new_cache(1, 16)
    diffusion_model(ids[:, :4], cache=cache)
    diffusion_model(drafts, cache=cache, position=4)  # a draft of the block, overwritten by what comes next

    rest = diffusion_model(ids[:, 4:], cache=cache, position=4)

    torch.testing.assert_close(rest, diffusion_model(ids, block_length=4)[:, 4:], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_last_only_gives_the_last_row(ar_model: Transformer) -> None:
    torch.testing.assert_close(ar_model(tokens(2, 5), last_only=True), ar_model(tokens(2, 5))[:, -1:])


def test_weights_follow_the_seed(tiny_ar: ModelPreset) -> None:
    first, again, other = (Transformer(tiny_ar, seed=seed).head.weight for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_cache_is_marked_and_bounded(ar_model: Transformer) -> None:
    cache = ar_model.new_cache(1, 4)
    key = cache._keys[0]
    assert key.shape == (1, 2, 4, 8)
    assert marked_role(key, key.untyped_storage()._cdata) == "kv_cache"
    with pytest.raises(WorkloadError, match="holds 4 positions, got tokens up to position 5"):
        ar_model(tokens(1, 5), cache=cache)
    with pytest.raises(WorkloadError, match=r"truncate takes 0\.\.0 positions, got 2"):
        cache.truncate(2)
    with pytest.raises(WorkloadError, match="has 64 positions, got a length of 65"):
        ar_model(tokens(1, 65))


def test_full_size_model_runs_on_meta_without_memory() -> None:
    model = Transformer(load_preset("llama-3.1-8b"), dtype=torch.bfloat16, device="meta")
    cache = model.new_cache(2, 256)
    ids = torch.zeros((2, 200), dtype=torch.long, device="meta")

    assert model(ids, cache=cache, last_only=True).shape == (2, 1, 128256)
    logits = model(ids[:, :1], cache=cache, position=200)
    assert (logits.shape, logits.dtype, logits.device.type) == ((2, 1, 128256), torch.bfloat16, "meta")
