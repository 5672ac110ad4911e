"""`selective_scan`: the recurrence of Mamba (Gu and Dao, arXiv:2312.00752, section 3.3) as one operation.

A kernel keeps the state on chip and moves inputs and outputs once; so do tensor programs that call this operation, as
far as a recorder can see. On the CPU it is a plain loop over positions.

Shape suffixes: B batch, S positions, W channels, N state per channel.
"""

import torch


@torch.library.custom_op("roofscape::selective_scan", mutates_args=())
def selective_scan(
    x_BSW: torch.Tensor,
    step_BSW: torch.Tensor,
    decay_WN: torch.Tensor,
    input_BSN: torch.Tensor,
    output_BSN: torch.Tensor,
    state_BWN: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs `[B, S, W]` and last state of `state = exp(step * decay) * state + step * x * input`, read by `output`.

    Args:
        x_BSW: what enters each channel.
        step_BSW: step sizes, above 0.
        decay_WN: rates of decay, below 0.
        input_BSN: how an input enters the states of its channel.
        output_BSN: how the states make the output.
        state_BWN: the state before the first position.
    """
    state_BWN = state_BWN.clone()
    y_BSW = torch.empty_like(x_BSW)
    for position in range(x_BSW.shape[1]):
        step_BW1 = step_BSW[:, position, :, None]
        entering_BWN = step_BW1 * x_BSW[:, position, :, None] * input_BSN[:, position, None]
        state_BWN = torch.exp(step_BW1 * decay_WN) * state_BWN + entering_BWN
        y_BSW[:, position] = (state_BWN * output_BSN[:, position, None]).sum(dim=-1)
    return y_BSW, state_BWN


@selective_scan.register_fake
def _shapes(
    x_BSW: torch.Tensor,
    step_BSW: torch.Tensor,
    decay_WN: torch.Tensor,
    input_BSN: torch.Tensor,
    output_BSN: torch.Tensor,
    state_BWN: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x_BSW), torch.empty_like(state_BWN)
