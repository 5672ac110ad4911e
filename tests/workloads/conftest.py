from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from workloads.presets import ModelPreset
from workloads.transformer import Transformer


@pytest.fixture
def tiny_ar() -> ModelPreset:
    """A causal model small enough to run in a millisecond, with grouped heads."""
    return ModelPreset(
        name="tiny",
        kind="ar",
        layers=2,
        d_model=24,
        heads=4,
        kv_heads=2,
        head_dim=8,
        ffn=40,
        vocab=50,
        max_length=64,
        rope_theta=100.0,
        norm_eps=1e-5,
        source="made up for this test",
    )


@pytest.fixture
def tiny_diffusion(tiny_ar: ModelPreset) -> ModelPreset:
    """Its masked-diffusion twin, whose last token is the mask."""
    return replace(tiny_ar, kind="masked_diffusion", mask_id=49)


@torch.no_grad()
def spread_weights(model: Transformer) -> Transformer:
    """Larger random weights, norms and biases too, so that every part shows in the logits."""
    generator = torch.Generator().manual_seed(3)
    for weight in model.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3 + (weight.ndim == 1))
    return model


@pytest.fixture
def build_model(tiny_ar: ModelPreset) -> Callable[..., Transformer]:
    """Builds a network of `tiny_ar` with some of its figures changed."""
    return lambda **changes: spread_weights(Transformer(replace(tiny_ar, **changes)))


@pytest.fixture
def ar_model(tiny_ar: ModelPreset) -> Transformer:
    """A network of `tiny_ar` whose predictions depend on every token."""
    return spread_weights(Transformer(tiny_ar))


@pytest.fixture
def diffusion_model(tiny_diffusion: ModelPreset) -> Transformer:
    """A network of `tiny_diffusion` whose predictions depend on every token."""
    return spread_weights(Transformer(tiny_diffusion))
