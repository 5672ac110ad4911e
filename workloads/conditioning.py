"""What diffusion networks are told beside their tokens: the noise level (adaLN) and the last step's prediction.

Shape suffixes: B batch, S positions, D model width, C width of the noise level's embedding.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from workloads.feed_forward import GeGlu
from workloads.presets import ModelPreset
from workloads.transformer import Attention, Shared, build_norm

_FREQUENCIES = 128
_LONGEST_PERIOD = 10_000.0


class NoiseLevel(nn.Module):
    """Embeds a noise level: 256 sines and cosines, then two layers (Peebles and Xie, arXiv:2212.09748, section 3.2)."""

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.enter = nn.Linear(2 * _FREQUENCIES, width, dtype=dtype)
        self.leave = nn.Linear(width, width, dtype=dtype)

    def forward(self, level_B: torch.Tensor) -> torch.Tensor:
        """The embedding `[B, C]`, after SiLU."""
        exponent_F = torch.arange(_FREQUENCIES, dtype=torch.float32, device=level_B.device) / _FREQUENCIES
        angle_BF = level_B.float()[:, None] * torch.exp(exponent_F * -math.log(_LONGEST_PERIOD))
        features_BF = torch.cat((angle_BF.cos(), angle_BF.sin()), dim=-1).to(self.enter.weight.dtype)
        return functional.silu(self.leave(functional.silu(self.enter(features_BF))))


class AdaptiveNorm(nn.Module):
    """A norm whose result the noise level shifts and scales, before the output projection."""

    def __init__(self, preset: ModelPreset, condition: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = build_norm(preset, dtype)
        self.modulation = nn.Linear(condition, 2 * preset.d_model, dtype=dtype)

    def forward(self, x_BSD: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
        """The norm's output `[B, S, D]`."""
        shift_B1D, scale_B1D = self.modulation(condition_BC)[:, None].chunk(2, dim=-1)
        return modulate(self.norm(x_BSD), shift_B1D, scale_B1D)


class AdaptiveBlock(nn.Module):
    """A layer whose norms and residual additions the noise level modulates (adaLN-zero, arXiv:2212.09748, figure 3)."""

    def __init__(
        self, preset: ModelPreset, condition: int, attention: Attention, mlp: nn.Module, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.attention_norm = build_norm(preset, dtype)
        self.attention = attention
        self.mlp_norm = build_norm(preset, dtype)
        self.mlp = mlp
        self.modulation = nn.Linear(condition, 6 * preset.d_model, dtype=dtype)

    def forward(self, x_BSD: torch.Tensor, shared: Shared) -> torch.Tensor:
        """The residual stream `[B, S, D]` after this layer."""
        parts = self.modulation(shared.condition_BD)[:, None].chunk(6, dim=-1)
        first_shift, first_scale, first_gate, second_shift, second_scale, second_gate = parts
        normed_BSD = modulate(self.attention_norm(x_BSD), first_shift, first_scale)
        x_BSD = torch.addcmul(x_BSD, self.attention(normed_BSD, shared), first_gate)
        normed_BSD = modulate(self.mlp_norm(x_BSD), second_shift, second_scale)
        return torch.addcmul(x_BSD, self.mlp(normed_BSD), second_gate)


def modulate(x_BSD: torch.Tensor, shift_B1D: torch.Tensor, scale_B1D: torch.Tensor) -> torch.Tensor:
    """`x * (1 + scale) + shift`, `[B, S, D]`, into `x` itself."""
    return x_BSD.mul_(1 + scale_B1D).add_(shift_B1D)


class SelfConditioning(nn.Module):
    """Adds what the last step predicted to the embeddings (DiffusionGemma; transformers, models/diffusion_gemma)."""

    def __init__(self, preset: ModelPreset, ffn: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = build_norm(preset, dtype)
        self.mlp = GeGlu(preset.d_model, ffn, dtype)
        self.eps = preset.norm_eps

    def forward(self, x_BSD: torch.Tensor, predicted_BSD: torch.Tensor) -> torch.Tensor:
        """The new embeddings.

        Args:
            x_BSD: scaled embeddings of the tokens.
            predicted_BSD: scaled embeddings, averaged by the probabilities of the last step.
        """
        combined_BSD = self.mlp(self.norm(predicted_BSD)).add_(x_BSD)
        return functional.rms_norm(combined_BSD, combined_BSD.shape[-1:], eps=self.eps)
