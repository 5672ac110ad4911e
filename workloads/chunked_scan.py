"""`chunked_scan`: the recurrence of Mamba-2 (Dao and Gu, arXiv:2405.21060) over chunks, or for a single position.

Kernels for it keep what lies between its products to themselves, so both forms are one operation each for a recorder.
While gradients are wanted they are plain products, which a recorder sees one by one.

Shape suffixes: B batch, S positions, H heads, P head width, G groups, R heads per group, N state, Z chunks, Q positions
of a chunk, W channels of a group, X states of a head.
"""

from typing import Any

import torch
from torch.nn import functional


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
    tensors = (x_BSHP, decay_BSH, in_BSGN, out_BSGN)
    if x_BSHP.shape[1] == 1 and state_BHPN is not None:
        update = _update if _wants_gradients(*tensors, state_BHPN) else torch.ops.roofscape.state_update_
        y_BSHP, last_BHPN = update(*tensors, state_BHPN)
    elif _wants_gradients(*tensors, state_BHPN):
        y_BSHP, last_BHPN = _by_products(*tensors, state_BHPN, chunk)
    else:
        y_BSHP, last_BHPN = _scan_in_chunks(*tensors, state_BHPN, chunk)
    return y_BSHP, last_BHPN


def _wants_gradients(*tensors: torch.Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


@torch.library.custom_op("roofscape::chunked_scan", mutates_args=())
def _scan_in_chunks(
    x_BSHP: torch.Tensor,
    decay_BSH: torch.Tensor,
    in_BSGN: torch.Tensor,
    out_BSGN: torch.Tensor,
    state_BHPN: torch.Tensor | None,
    chunk: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    y_BSHP, last_BHPN = _by_products(x_BSHP, decay_BSH, in_BSGN, out_BSGN, state_BHPN, chunk)
    return y_BSHP.contiguous(), last_BHPN.clone()  # a recorded operation gives tensors of its own


@_scan_in_chunks.register_fake
def _shapes(
    x_BSHP: torch.Tensor,
    decay_BSH: torch.Tensor,
    in_BSGN: torch.Tensor,
    out_BSGN: torch.Tensor,
    state_BHPN: torch.Tensor | None,
    chunk: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, _, heads, width = x_BSHP.shape
    return x_BSHP.new_empty(x_BSHP.shape), x_BSHP.new_empty(batch, heads, width, in_BSGN.shape[-1])


def _by_products(
    x_BSHP: torch.Tensor,
    decay_BSH: torch.Tensor,
    in_BSGN: torch.Tensor,
    out_BSGN: torch.Tensor,
    state_BHPN: torch.Tensor | None,
    chunk: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The scan as products of tensors."""
    batch, length, heads, width = x_BSHP.shape
    groups, state = in_BSGN.shape[2:]
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


def _update(
    x_B1HP: torch.Tensor,
    decay_B1H: torch.Tensor,
    in_B1GN: torch.Tensor,
    out_B1GN: torch.Tensor,
    state_BHPN: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The recurrence at a single position; the state is changed in place, in a precision of its own if it has one."""
    batch, _, heads, width = x_B1HP.shape
    groups, state = in_B1GN.shape[2:]
    by_group = (batch, groups, heads // groups, width)
    state_BGRPN = state_BHPN.view(*by_group, state)
    state_BGRPN.mul_(decay_B1H.exp().view(*by_group[:3], 1, 1))
    state_BGRPN.addcmul_(x_B1HP.reshape(*by_group, 1), in_B1GN.reshape(batch, groups, 1, 1, state))
    out_BGN1 = out_B1GN.reshape(batch, groups, state, 1).to(state_BHPN.dtype)
    y_BGRP = (state_BGRPN.view(batch, groups, -1, state) @ out_BGN1).to(x_B1HP.dtype)
    return y_BGRP.view(batch, 1, heads, width), state_BHPN


_SCHEMA = "(Tensor x, Tensor decay, Tensor entering, Tensor leaving, Tensor(a!) state) -> (Tensor, Tensor(a!))"
_LIBRARY: Any = torch.library.Library("roofscape", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch leaves it so
_LIBRARY.define(f"state_update_{_SCHEMA}")
_LIBRARY.impl("state_update_", _update, "CompositeExplicitAutograd")
