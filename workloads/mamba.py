"""Mamba mixers: version 2 as matrix products over chunks, version 1 as a selective scan; causal or bidirectional.

Shape suffixes: B batch, S positions, D model width, W channels, L window of the convolution less one, H heads, P head
width, G groups, R heads per group, N state, Z chunks, Q positions of a chunk.
"""

import torch
from torch import nn
from torch.nn import functional

from workloads.architecture import StateSpace
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

    def forward(self, x_BSD: torch.Tensor, shared: Shared) -> torch.Tensor:
        """The mixer's output `[B, S, D]`."""
        space = self.space
        widths = [space.inner, space.conv_channels, space.heads]
        gate_BSW, mixed_BSW, step_BSH = torch.split(self.enter(x_BSD), widths, dim=-1)
        y_BSW = self._scan(mixed_BSW, step_BSH, self._memory(shared))
        if not self.is_causal:
            y_BSW = y_BSW + self._scan(mixed_BSW.flip(1), step_BSH.flip(1), None).flip(1)
        y_BSW = functional.silu(gate_BSW).mul_(y_BSW)
        grouped = (*y_BSW.shape[:2], space.groups, -1)
        width = space.inner // space.groups
        y_BSW = functional.rms_norm(y_BSW.view(grouped), (width,), eps=self.norm_eps).flatten(2).mul_(self.norm_weight)
        output_BSD: torch.Tensor = self.out(y_BSW)
        return output_BSD

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


def chunked_scan(
    x_BSHP: torch.Tensor,
    decay_BSH: torch.Tensor,
    in_BSGN: torch.Tensor,
    out_BSGN: torch.Tensor,
    *,
    chunk: int,
    state_BHPN: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs `[B, S, H, P]` and last state of `state = exp(decay) * state + x * in`, read by `out`.

    The block decomposition of Dao and Gu, arXiv:2405.21060, section 6 and listing 1: products within chunks, and one
    over the states between them. A single position runs as the recurrence itself, and writes on the given state.

    Args:
        x_BSHP: inputs, times their step sizes.
        decay_BSH: logarithms of the decay of each position, at most 0.
        in_BSGN: how an input enters the state, per group of heads.
        out_BSGN: how the state makes the output.
        chunk: positions of a chunk.
        state_BHPN: the state before the first position; None for zero.
    """
    batch, length, heads, width = x_BSHP.shape
    groups, state = in_BSGN.shape[2:]
    if length == 1 and state_BHPN is not None:
        return _one_position(x_BSHP, decay_BSH, in_BSGN, out_BSGN, state_BHPN)
    chunk = min(chunk, length)
    chunks = -(-length // chunk)
    padding = chunks * chunk - length
    if padding:  # no input and no decay: the state passes unchanged
        x_BSHP, in_BSGN, out_BSGN = (
            functional.pad(part, (0, 0, 0, 0, 0, padding)) for part in (x_BSHP, in_BSGN, out_BSGN)
        )
        decay_BSH = functional.pad(decay_BSH, (0, 0, 0, padding))
    per_group = heads // groups
    x_BZGRPQ = x_BSHP.view(batch, chunks, chunk, groups, per_group, width).permute(0, 1, 3, 4, 5, 2)
    in_BZGQN, out_BZGQN = (
        part.view(batch, chunks, chunk, groups, state).transpose(2, 3) for part in (in_BSGN, out_BSGN)
    )
    total_BZGRQ = decay_BSH.float().view(batch, chunks, chunk, groups, per_group).permute(0, 1, 3, 4, 2).cumsum(dim=-1)

    # Within each chunk: what later positions still see of earlier ones.
    scores_BZGQQ = out_BZGQN @ in_BZGQN.transpose(-1, -2)
    kept_BZGRQQ = _decay_between(total_BZGRQ).to(x_BSHP.dtype).mul_(scores_BZGQQ[:, :, :, None])
    y_BZGRQP = kept_BZGRQQ @ x_BZGRPQ.transpose(-1, -2)

    # What each chunk adds to the state, and the state that each chunk finds.
    left_BZGRQ = torch.exp(total_BZGRQ[..., -1:] - total_BZGRQ).to(x_BSHP.dtype)
    leaving_BZGRPQ = x_BZGRPQ * left_BZGRQ[..., None, :]
    added_BZGWN = leaving_BZGRPQ.flatten(3, 4) @ in_BZGQN
    added_BZHX = added_BZGWN.reshape(batch, chunks, heads, width * state)
    if state_BHPN is None:
        first_B1HX = torch.zeros_like(added_BZHX[:, :1])
    else:
        first_B1HX = state_BHPN.reshape(batch, 1, heads, width * state)
    whole_BZH = functional.pad(total_BZGRQ[..., -1].flatten(2), (0, 0, 1, 0)).cumsum(dim=1)
    carried_BHZZ = _decay_between(whole_BZH.transpose(1, 2)).to(x_BSHP.dtype)
    states_BHZX = carried_BHZZ @ torch.cat((first_B1HX, added_BZHX), dim=1).transpose(1, 2)

    # What each position sees of the state that its chunk found.
    found_BZGWN = states_BHZX[:, :, :-1].transpose(1, 2).reshape(batch, chunks, groups, per_group * width, state)
    seen_BZGQRP = (out_BZGQN @ found_BZGWN.transpose(-1, -2)).view(batch, chunks, groups, chunk, per_group, width)
    y_BZGRQP.addcmul_(seen_BZGQRP.transpose(3, 4), torch.exp(total_BZGRQ).to(x_BSHP.dtype)[..., None])
    y_BSHP = y_BZGRQP.permute(0, 1, 4, 2, 3, 5).reshape(batch, chunks * chunk, heads, width)
    return y_BSHP[:, :length], states_BHZX[:, :, -1].view(batch, heads, width, state)


def _decay_between(total_Q: torch.Tensor) -> torch.Tensor:
    """`exp(total[i] - total[j])` for each `j <= i` of the last dimension, else 0: `[..., Q, Q]` of `[..., Q]`."""
    length = total_Q.shape[-1]
    later_QQ = torch.ones(length, length, dtype=torch.bool, device=total_Q.device).triu_(1)
    return (total_Q[..., :, None] - total_Q[..., None, :]).masked_fill_(later_QQ, -torch.inf).exp_()


def _one_position(
    x_B1HP: torch.Tensor,
    decay_B1H: torch.Tensor,
    in_B1GN: torch.Tensor,
    out_B1GN: torch.Tensor,
    state_BHPN: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The recurrence at a single position; the state is changed in place."""
    batch, _, heads, width = x_B1HP.shape
    groups, state = in_B1GN.shape[2:]
    by_group = (batch, groups, heads // groups, width)
    state_BGRPN = state_BHPN.view(*by_group, state)
    state_BGRPN.mul_(decay_B1H.exp().view(*by_group[:3], 1, 1))
    state_BGRPN.addcmul_(x_B1HP.reshape(*by_group, 1), in_B1GN.reshape(batch, groups, 1, 1, state))
    y_BGRP = state_BGRPN.view(batch, groups, -1, state) @ out_B1GN.reshape(batch, groups, state, 1)
    return y_BGRP.view(batch, 1, heads, width), state_BHPN


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
