"""Tiny networks that tests of several architectures share."""

from collections.abc import Sequence
from typing import TypeVar

import torch

from workloads.presets import ModelPreset
from workloads.transformer import Transformer

Network = TypeVar("Network", bound=Transformer)


def tiny_preset(**changes: object) -> ModelPreset:
    """A causal network of two layers with grouped heads, with some of its figures changed."""
    fields: dict[str, object] = {
        "name": "tiny",
        "kind": "ar",
        "layers": 2,
        "d_model": 16,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
        "ffn": 24,
        "vocab": 50,
        "max_length": 256,
        "norm_eps": 1e-6,
        "source": "made up for these tests",
    }
    return ModelPreset(**{**fields, **changes})  # type: ignore[arg-type]  # the fields are named above


@torch.no_grad()
def shaken(model: Network) -> Network:
    """The network with noise on its weights, large enough that every part matters."""
    generator = torch.Generator().manual_seed(3)
    for weight in model.parameters():
        weight.add_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype), alpha=0.2)
    return model


def logits_in_pieces(model: Transformer, tokens_BS: torch.Tensor, pieces: Sequence[int]) -> torch.Tensor:
    """Logits `[B, S, V]` of tokens that are shown a few at a time, against a cache of those before."""
    cache = model.new_cache(len(tokens_BS), 16)
    return torch.cat(
        [model(piece_BS, cache=cache, position=cache.length) for piece_BS in tokens_BS.split(list(pieces), dim=1)],
        dim=1,
    )
