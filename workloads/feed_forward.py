"""Feed-forward networks other than SwiGLU, and `build_feed_forward`, which gives the one that a preset names.

Shape suffixes: B batch, S positions, D model width, F hidden width.
"""

import torch
from torch import nn
from torch.nn import functional

from workloads.presets import ModelPreset
from workloads.transformer import SwiGlu


class GeGlu(SwiGlu):
    """Feed-forward network `down(gelu(gate(x)) * up(x))`, GELU by its tanh form (Shazeer, arXiv:2002.05202)."""

    def forward(self, x_BSD: torch.Tensor) -> torch.Tensor:
        """The network's output `[B, S, D]`."""
        hidden_BSF = functional.gelu(self.gate(x_BSD), approximate="tanh").mul_(self.up(x_BSD))
        output_BSD: torch.Tensor = self.down(hidden_BSF)
        return output_BSD


class PlainFeedForward(nn.Module):
    """Feed-forward network `down(activation(up(x)))` with GELU (tanh form) or squared ReLU (arXiv:2109.08668)."""

    def __init__(self, d_model: int, ffn: int, *, squared_relu: bool, bias: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.squared_relu = squared_relu
        self.up = nn.Linear(d_model, ffn, bias=bias, dtype=dtype)
        self.down = nn.Linear(ffn, d_model, bias=bias, dtype=dtype)

    def forward(self, x_BSD: torch.Tensor) -> torch.Tensor:
        """The network's output `[B, S, D]`."""
        hidden_BSF = self.up(x_BSD)
        if self.squared_relu:
            hidden_BSF = hidden_BSF.relu_().square_()
        else:
            hidden_BSF = functional.gelu(hidden_BSF, approximate="tanh")
        output_BSD: torch.Tensor = self.down(hidden_BSF)
        return output_BSD


def build_feed_forward(preset: ModelPreset, ffn: int, dtype: torch.dtype) -> nn.Module:
    """The feed-forward network of this preset's type with a hidden width of `ffn`."""
    if preset.ffn_type == "swiglu":
        return SwiGlu(preset.d_model, ffn, dtype)
    if preset.ffn_type == "geglu":
        return GeGlu(preset.d_model, ffn, dtype)
    return PlainFeedForward(
        preset.d_model, ffn, squared_relu=preset.ffn_type == "relu2_mlp", bias=preset.ffn_bias, dtype=dtype
    )
