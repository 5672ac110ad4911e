"""LLaDA in single operations: the same function as the transformer, and the operations of the authors' code."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from profiler.capture import capture
from workloads.backbones import build_backbone
from workloads.errors import WorkloadError
from workloads.presets import ModelPreset, load_preset
from workloads.samplers import fast_dllm
from workloads.transformer import Transformer


def _small() -> ModelPreset:
    published = load_preset("llada-8b-unfused")
    return replace(
        published, layers=2, d_model=32, heads=4, kv_heads=4, head_dim=8, ffn=48, vocab=50, mask_id=49, max_length=64
    )


def _pair() -> tuple[Transformer, Transformer]:
    """The plain transformer and the unfused network with the same weights."""
    plain, unfused = build_backbone(replace(_small(), unfused=False)), build_backbone(_small())
    unfused.load_state_dict(plain.state_dict())
    return plain, unfused


def _tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 49, shape, generator=torch.Generator().manual_seed(5))


@torch.inference_mode()
def test_logits_are_those_of_the_transformer() -> None:
    plain, unfused = _pair()
    tokens_BS = _tokens(2, 20)
    torch.testing.assert_close(unfused(tokens_BS), plain(tokens_BS), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(unfused(tokens_BS, last_only=True), plain(tokens_BS)[:, -1:], rtol=1e-5, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("shown", [slice(8, 20), slice(8, 12)], ids=["prefix", "dual"])
def test_cached_steps_are_those_of_the_transformer(shown: slice) -> None:
    """A full forward fills the cache, then a block with or without what stands behind it, twice with new tokens."""
    plain, unfused = _pair()
    caches = [network.new_cache(2, 20) for network in (plain, unfused)]
    for network, cache in zip((plain, unfused), caches, strict=True):
        network(_tokens(2, 20), cache=cache)
    for step in range(2):
        tokens_BS = (_tokens(2, 20)[:, shown] + step) % 49
        expected, given = (
            network(tokens_BS, cache=cache, position=shown.start)
            for network, cache in zip((plain, unfused), caches, strict=True)
        )
        torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_sampler_writes_the_same_text(cache: str) -> None:
    options = fast_dllm.Options(gen_length=16, block_length=8, steps=8, cache=cache)
    texts = [fast_dllm.sample(network, _tokens(2, 10), options).tokens for network in _pair()]
    assert torch.equal(*texts)


def test_operations_are_those_of_the_published_code() -> None:
    """By hand, from modeling_llada.py, in bfloat16, of each layer: two norms (to float32, square, mean, add, root,
    product, back, weight), 7 projections, queries and keys turned (to float32, minus, join, 2 products, sum, back),
    attention, 2 residual sums, SiLU and product."""
    network = build_backbone(replace(_small(), layers=3), dtype=torch.bfloat16, device="meta")
    tokens_BS = torch.zeros(1, 6, dtype=torch.int64, device="meta")
    with capture(name="step") as recording:
        network(tokens_BS)
    trace = recording.trace
    counts = Counter(trace.ops[op].name.removeprefix("aten::") for op in trace.calls.op)
    norms, layers = 2 * 3 + 1, 3
    assert counts == {
        "embedding": 1,
        "linear": 7 * layers + 1,
        "scaled_dot_product_attention": layers,
        "_to_copy": 2 * norms + 2 * 2 * layers,
        "pow": norms,
        "mean": norms,
        "rsqrt": norms,
        "add": norms + 2 * layers + 2 * layers,
        "mul": 2 * norms + 2 * 2 * layers + layers,
        "neg": 2 * layers,
        "cat": 2 * layers,
        "silu": layers,
    }


def test_keys_of_the_whole_cache_are_turned_at_every_step() -> None:
    """20 positions of 4 heads of 8 in float32 and bfloat16, whatever the block's length."""
    network = build_backbone(_small(), dtype=torch.bfloat16, device="meta")
    cache = network.new_cache(1, 20)
    network(torch.zeros(1, 20, dtype=torch.int64, device="meta"), cache=cache)
    with capture(name="block") as recording:
        network(torch.zeros(1, 4, dtype=torch.int64, device="meta"), cache=cache, position=8)
    shapes = [operand.shape for op in recording.trace.ops if op.kind == "pointwise" for operand in op.outputs]
    assert (1, 4, 20, 8) in shapes
    assert (1, 4, 4, 8) in shapes


def test_every_layer_narrows_a_bias_that_its_attention_does_without() -> None:
    """On a cache, 4 of 20 rows: to bfloat16, where it is minus infinity, filled there; in a full forward nothing."""
    network = build_backbone(_small(), dtype=torch.bfloat16, device="meta")
    cache = network.new_cache(1, 20)
    counts = []
    for shown, position in ((20, 0), (4, 8)):
        with capture(name="step") as recording:
            network(torch.zeros(1, shown, dtype=torch.int64, device="meta"), cache=cache, position=position)
        trace = recording.trace
        counts.append(
            Counter(
                trace.ops[op].name.removeprefix("aten::")
                for op in trace.calls.op
                if any(operand.shape == (1, 1, 4, 20) for operand in trace.ops[op].outputs)
            )
        )
    layers = 2
    assert counts == [{}, {"_to_copy": layers, "eq": layers, "masked_fill_": layers}]


def test_refuses_what_the_authors_code_does_not_do() -> None:
    network = build_backbone(_small(), device="meta")
    tokens_BS = torch.zeros(1, 4, dtype=torch.int64, device="meta")
    with pytest.raises(WorkloadError, match="takes no causal"):
        network(tokens_BS, causal=True)
    plain = build_backbone(replace(_small(), unfused=False), device="meta")
    with pytest.raises(WorkloadError, match="new_cache only"):
        network(tokens_BS, cache=plain.new_cache(1, 8))
    with pytest.raises(WorkloadError, match="unfused takes LLaDA's form"):
        replace(_small(), kv_heads=2)
