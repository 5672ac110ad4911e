"""Mamba mixers: version 2 as matrix products over chunks, version 1 as a selective scan; causal or bidirectional.

Shape suffixes: B batch, S positions, D model width, W channels, L window of the convolution less one, H heads, P head
width, G groups, R heads per group, N state, Z chunks, Q positions of a chunk.
"""

import torch
from torch import nn
from torch.nn import functional

from workloads.architecture import StateSpace
from workloads.chunked_scan import chunked_scan
from workloads.layered_cache import LayeredCache, LayerMemory, RecurrentState
from workloads.presets import ModelPreset
from workloads.selective_scan import selective_scan
from workloads.transformer import Shared


class Mamba(nn.Module):
    """What both versions share: projections around a causal convolution and a scan.

    A bidirectional mixer scans a second time from the end, with the same weights, and adds both results: twice the
    convolution and the scan, no parameters more. It keeps no state, since every token depends on all.
    """

    def __init__(self, preset: ModelPreset, space: StateSpace, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.space = space
        self.layer = layer
        self.is_causal = preset.is_causal
        channels = space.conv_channels
        self.conv = nn.Conv1d(channels, channels, space.conv, groups=channels, dtype=dtype)
        self.out = nn.Linear(space.inner, preset.d_model, bias=False, dtype=dtype)

    def _convolve(self, x_BSW: torch.Tensor, memory: RecurrentState | None) -> torch.Tensor:
        """SiLU of the causal convolution over each channel; the last inputs go into the memory."""
        x_BWS = x_BSW.transpose(1, 2)
        if memory is None:
            padded_BWS = functional.pad(x_BWS, (self.space.conv - 1, 0))
        else:
            padded_BWS = torch.cat((memory.conv_BWL, x_BWS), dim=-1)
            memory.conv_BWL.copy_(padded_BWS[..., -(self.space.conv - 1) :])
        return functional.silu(self.conv(padded_BWS)).transpose(1, 2)

    def _memory(self, shared: Shared) -> RecurrentState | None:
        return shared.cache.state_of(self.layer) if isinstance(shared.cache, LayeredCache) else None


class Mamba2(Mamba):
    """State-space duality (Dao and Gu, arXiv:2405.21060, section 7), with a norm per group before the output."""

    def __init__(self, preset: ModelPreset, space: StateSpace, layer: int, dtype: torch.dtype) -> None:
        super().__init__(preset, space, layer, dtype)
        self.enter = nn.Linear(preset.d_model, space.inner + space.conv_channels + space.heads, bias=False, dtype=dtype)
        self.step_bias = nn.Parameter(torch.empty(space.heads, dtype=dtype))
        self.decay_log = nn.Parameter(torch.empty(space.heads, dtype=dtype))
        self.skip = nn.Parameter(torch.empty(space.heads, dtype=dtype))
        self.norm_weight = nn.Parameter(torch.empty(space.inner, dtype=dtype))
        self.norm_eps = preset.norm_eps
        self.is_uncompiled = False

    def forward(self, x_BSD: torch.Tensor, shared: Shared) -> torch.Tensor:
        """The mixer's output `[B, S, D]`."""
        space = self.space
        widths = [space.inner, space.conv_channels, space.heads]
        gate_BSW, mixed_BSW, step_BSH = torch.split(self.enter(x_BSD), widths, dim=-1)
        y_BSW = self._scan(mixed_BSW, step_BSH, self._memory(shared))
        if not self.is_causal:
            y_BSW = y_BSW + self._scan(mixed_BSW.flip(1), step_BSH.flip(1), None).flip(1)
        if self.is_uncompiled:
            return torch.empty_like(x_BSD).copy_(self.out(self._norm_in_single_operations(y_BSW, gate_BSW)))
        y_BSW = functional.silu(gate_BSW).mul_(y_BSW)
        grouped = (*y_BSW.shape[:2], space.groups, -1)
        width = space.inner // space.groups
        y_BSW = functional.rms_norm(y_BSW.view(grouped), (width,), eps=self.norm_eps).flatten(2).mul_(self.norm_weight)
        output_BSD: torch.Tensor = self.out(y_BSW)
        return output_BSD

    def _norm_in_single_operations(self, y_BSW: torch.Tensor, gate_BSW: torch.Tensor) -> torch.Tensor:
        """The gated norm as vLLM 0.11 runs it inside its mixer, which no compiler sees: in float32, nothing fused."""
        gated_BSW = y_BSW * functional.silu(gate_BSW.to(torch.float32))
        gated_BSGW = gated_BSW.view(*gated_BSW.shape[:2], self.space.groups, -1)
        variance_BSG1 = gated_BSGW.pow(2).mean(-1, keepdim=True)
        normed_BSGW = gated_BSGW * torch.rsqrt(variance_BSG1 + self.norm_eps)
        return self.norm_weight * normed_BSGW.view(gated_BSW.shape).to(y_BSW.dtype)

    def _scan(self, mixed_BSW: torch.Tensor, step_BSH: torch.Tensor, memory: RecurrentState | None) -> torch.Tensor:
        space = self.space
        states = space.groups * space.state
        x_BSW, in_BSW, out_BSW = torch.split(self._convolve(mixed_BSW, memory), [space.inner, states, states], dim=-1)
        step_BSH = functional.softplus(step_BSH + self.step_bias)
        decay_BSH = step_BSH * -self.decay_log.exp()
        x_BSHP = x_BSW.reshape(*x_BSW.shape[:2], space.heads, -1)
        in_BSGN, out_BSGN = (part.reshape(*part.shape[:2], space.groups, -1) for part in (in_BSW, out_BSW))
        y_BSHP, last_BHPN = chunked_scan(
            x_BSHP * step_BSH[..., None],
            decay_BSH,
            in_BSGN,
            out_BSGN,
            chunk=space.chunk,
            state_BHPN=None if memory is None else memory.state,
        )
        if memory is not None and last_BHPN is not memory.state:
            memory.state.copy_(last_BHPN)
        return torch.addcmul(y_BSHP, x_BSHP, self.skip[:, None]).flatten(2)


class Mamba1(Mamba):
    """Selective state space (Gu and Dao, arXiv:2312.00752, algorithm 2)."""

    def __init__(self, preset: ModelPreset, space: StateSpace, layer: int, dtype: torch.dtype) -> None:
        super().__init__(preset, space, layer, dtype)
        self.enter = nn.Linear(preset.d_model, 2 * space.inner, bias=False, dtype=dtype)
        self.select = nn.Linear(space.inner, space.dt_rank + 2 * space.state, bias=False, dtype=dtype)
        self.step = nn.Linear(space.dt_rank, space.inner, dtype=dtype)
        self.decay_log = nn.Parameter(torch.empty(space.inner, space.state, dtype=dtype))
        self.skip = nn.Parameter(torch.empty(space.inner, dtype=dtype))
        widths = (space.dt_rank, space.state, space.state)
        self.norms = nn.ModuleList(
            nn.RMSNorm(width, eps=preset.norm_eps, dtype=dtype) if space.normed else nn.Identity() for width in widths
        )

    def forward(self, x_BSD: torch.Tensor, shared: Shared) -> torch.Tensor:
        """The mixer's output `[B, S, D]`."""
        mixed_BSW, gate_BSW = self.enter(x_BSD).chunk(2, dim=-1)
        y_BSW = self._scan(mixed_BSW, self._memory(shared))
        if not self.is_causal:
            y_BSW = y_BSW + self._scan(mixed_BSW.flip(1), None).flip(1)
        output_BSD: torch.Tensor = self.out(functional.silu(gate_BSW).mul_(y_BSW))
        return output_BSD

    def _scan(self, mixed_BSW: torch.Tensor, memory: RecurrentState | None) -> torch.Tensor:
        space = self.space
        x_BSW = self._convolve(mixed_BSW, memory)
        parts = torch.split(self.select(x_BSW), [space.dt_rank, space.state, space.state], dim=-1)
        rank_BSR, in_BSN, out_BSN = (norm(part) for norm, part in zip(self.norms, parts, strict=True))
        step_BSW = functional.softplus(self.step(rank_BSR))
        decay_WN = -self.decay_log.exp()
        state_BWN = x_BSW.new_zeros(x_BSW.shape[0], *decay_WN.shape) if memory is None else memory.state
        y_BSW, last_BWN = selective_scan(x_BSW, step_BSW, decay_WN, in_BSN, out_BSN, state_BWN)
        if memory is not None:
            memory.state.copy_(last_BWN)
        return torch.addcmul(y_BSW, x_BSW, self.skip)


def mamba_memory(space: StateSpace) -> LayerMemory:
    """What a Mamba layer keeps per sequence."""
    shape = (space.inner, space.state) if space.version == 1 else (space.heads, space.inner // space.heads, space.state)
    return LayerMemory(conv=(space.conv_channels, space.conv - 1), state=shape)
