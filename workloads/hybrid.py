"""Layers that differ from one to the next: mixers by letter, experts beside a dense network, norms on both sides.

Shape suffixes: B batch, S positions, D model width.
"""

import torch
from torch import nn

from workloads.architecture import FEEDS_FORWARD, MIXES_ATTENTION, MIXES_STATE
from workloads.attention_variants import MultiHeadLatentAttention, WindowAttention
from workloads.conditioning import AdaptiveBlock
from workloads.feed_forward import build_feed_forward
from workloads.mamba import Mamba1, Mamba2
from workloads.mixture_of_experts import MixtureOfExperts
from workloads.presets import ModelPreset
from workloads.transformer import Attention, Shared, build_norm


class LayoutBlock(nn.Module):
    """A mixer, a feed-forward network, or both, each behind a norm and added to the residual stream."""

    def __init__(self, preset: ModelPreset, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        letter = preset.letter(layer)
        self.attention: nn.Module | None = None
        self.mlp: nn.Module | None = None
        if letter in MIXES_ATTENTION | MIXES_STATE:
            self.attention_norm = build_norm(preset, dtype)
            self.attention = build_mixer(preset, layer, dtype)
        if letter in FEEDS_FORWARD:
            self.mlp_norm = build_norm(preset, dtype)
            self.mlp = build_mlp(preset, layer, dtype)

    def forward(self, x_BSD: torch.Tensor, shared: Shared) -> torch.Tensor:
        """The residual stream `[B, S, D]` after this layer."""
        if self.attention is not None:
            x_BSD = self.attention(self.attention_norm(x_BSD), shared).add_(x_BSD)
        if self.mlp is not None:
            x_BSD = self.mlp(self.mlp_norm(x_BSD)).add_(x_BSD)
        return x_BSD


class SandwichBlock(nn.Module):
    """A layer of Gemma 4 and DiffusionGemma: norms before and after each part, experts beside a dense network."""

    def __init__(self, preset: ModelPreset, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.attention_norm = build_norm(preset, dtype)
        self.attention = build_mixer(preset, layer, dtype)
        self.after_attention_norm = build_norm(preset, dtype)
        self.mlp_norm = build_norm(preset, dtype)
        self.mlp = build_feed_forward(preset, preset.ffn, dtype)
        self.after_norm = build_norm(preset, dtype)
        self.experts: MixtureOfExperts | None = None
        if preset.moe is not None and preset.has_experts(layer):
            self.experts = MixtureOfExperts(preset, preset.moe, dtype)
            self.experts_norm = build_norm(preset, dtype)
            self.after_experts_norm = build_norm(preset, dtype)
            self.after_mlp_norm = build_norm(preset, dtype)

    def forward(self, x_BSD: torch.Tensor, shared: Shared) -> torch.Tensor:
        """The residual stream `[B, S, D]` after this layer."""
        x_BSD = self.after_attention_norm(self.attention(self.attention_norm(x_BSD), shared)).add_(x_BSD)
        y_BSD = self.mlp(self.mlp_norm(x_BSD))
        if self.experts is not None:
            routed_BSD = self.experts(self.experts_norm(x_BSD), routed_by_BSD=x_BSD)
            y_BSD = self.after_mlp_norm(y_BSD).add_(self.after_experts_norm(routed_BSD))
        output_BSD: torch.Tensor = self.after_norm(y_BSD).add_(x_BSD)
        return output_BSD


def build_block(preset: ModelPreset, layer: int, dtype: torch.dtype) -> nn.Module:
    """One layer of a network that is not the common one."""
    if preset.condition is not None:
        attention, mlp = Attention(preset, layer, dtype), build_mlp(preset, layer, dtype)
        return AdaptiveBlock(preset, preset.condition, attention, mlp, dtype)
    return (SandwichBlock if preset.sandwich_norms else LayoutBlock)(preset, layer, dtype)


def build_mixer(preset: ModelPreset, layer: int, dtype: torch.dtype) -> nn.Module:
    """The attention or state space of one layer."""
    space = preset.state_space
    if space is not None and preset.letter(layer) in MIXES_STATE:
        return (Mamba1 if space.version == 1 else Mamba2)(preset, space, layer, dtype)
    if preset.latent_attention is not None:
        return MultiHeadLatentAttention(preset, preset.latent_attention, layer, dtype)
    if preset.window is not None:
        return WindowAttention(preset, preset.window, layer, dtype)
    return Attention(preset, layer, dtype)


def build_mlp(preset: ModelPreset, layer: int, dtype: torch.dtype) -> nn.Module:
    """The feed-forward network of one layer, dense or of experts."""
    if preset.moe is not None and preset.has_experts(layer):
        return MixtureOfExperts(preset, preset.moe, dtype)
    return build_feed_forward(preset, preset.ffn, dtype)
