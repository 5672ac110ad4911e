"""Drafters: a smaller network beside a large one, for speculative decoding; by default its own first layers.

Shape suffixes: B batch, S positions of one forward.
"""

from dataclasses import replace
from typing import Protocol

import torch
from torch import nn

from workloads.backbones import build_backbone
from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.memory import check_fits
from workloads.presets import load_preset, parameter_count
from workloads.samplers.protocol import Denoiser
from workloads.transformer import Transformer


class DraftingDenoiser(Denoiser, Protocol):
    """A network with a smaller one beside it that drafts; both know the same vocabulary."""

    @property
    def drafter(self) -> Denoiser:
        """The network that drafts."""


class Drafted:
    """A network and its drafter as one `DraftingDenoiser`."""

    def __init__(self, target: Denoiser, drafter: Denoiser) -> None:
        self.target = target
        self.drafter = drafter

    @property
    def mask_id(self) -> int | None:
        """The network's mask token."""
        return self.target.mask_id

    def new_cache(self, batch: int, capacity: int) -> KVCache | None:
        """An empty KV cache of the network."""
        return self.target.new_cache(batch, capacity)

    def __call__(
        self, tokens_BS: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
    ) -> torch.Tensor:
        """The network's logits."""
        return self.target(tokens_BS, cache=cache, position=position, last_only=last_only)


def early_exit(model: Transformer, layers: int) -> Transformer:
    """The first layers of a network with its embedding, last norm and output projection; shares all weights.

    Raises:
        WorkloadError: the network has fewer layers, or is not one that can draft with its own.
    """
    if not 1 <= layers <= model.preset.layers:
        raise WorkloadError(f"speculative: drafter_layers must lie in 1..{model.preset.layers}, got {layers}")
    if not model.preset.is_common:
        raise WorkloadError(
            f"speculative: {model.preset.name!r} cannot draft with its own first layers; name a drafter"
        )
    drafter = Transformer(
        replace(model.preset, layers=layers), dtype=model.embedding.weight.dtype, device="meta"
    )  # nothing is allocated: every part is replaced
    drafter.embedding, drafter.norm, drafter.head = model.embedding, model.norm, model.head
    drafter.blocks = nn.ModuleList(list(model.blocks)[:layers])
    drafter.cos_TC, drafter.sin_TC = model.cos_TC, model.sin_TC
    return drafter


def drafter_of(model: Denoiser) -> Denoiser:
    """The network that drafts for this one.

    Raises:
        WorkloadError: it has none.
    """
    drafter: Denoiser | None = getattr(model, "drafter", None)
    if drafter is None:
        raise WorkloadError("speculative: the network has no drafter; wrap it as Drafted(target, drafter)")
    return drafter


def add_drafter(model: Denoiser, *, preset_name: str | None, layers: int | None, seed: int) -> DraftingDenoiser:
    """A network and its drafter.

    Args:
        model: stays as it is where it has a drafter already.
        preset_name: model preset that drafts, with random weights; None for the first layers of the network itself.
        layers: how many of its first layers draft; None for a quarter.
        seed: seed of the drafter's random weights.

    Raises:
        WorkloadError: the preset has another vocabulary or does not fit, or there are not so many layers.
    """
    if not isinstance(model, Transformer):
        return Drafted(model, drafter_of(model))
    if preset_name is None:
        return Drafted(model, early_exit(model, max(1, model.preset.layers // 4) if layers is None else layers))
    preset = load_preset(preset_name)
    if preset.vocab != model.vocab:
        raise WorkloadError(
            f"speculative: drafter {preset.name!r} must have the vocabulary of {model.preset.name!r}, "
            f"{model.vocab}, got {preset.vocab}"
        )
    dtype = model.embedding.weight.dtype
    check_fits(f"drafter {preset.name}", parameter_count(preset) * dtype.itemsize, model.device)
    return Drafted(model, build_backbone(preset, dtype=dtype, device=model.device, seed=seed))
