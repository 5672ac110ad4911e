"""The same network for texts that are laid out in another order, so that a hole in a text can stand at its end.

Bidirectional attention does not ask in which order tokens come, only where each says that it stands; and that is its
row of the rotary tables. With those rows in the order of the layout, what a sampler takes for a prompt and the tokens
behind it may stand anywhere in the text, at no cost and without any change of the sampler.

Shape suffixes: L positions of the layout, C head width.
"""

import copy
from collections.abc import Sequence

import torch

from workloads.errors import WorkloadError
from workloads.transformer import Transformer


def rearrange(model: Transformer, places: Sequence[int]) -> Transformer:
    """A network that shares all weights of `model` and whose i-th token stands at place `places[i]` of the text.

    Args:
        model: a bidirectional transformer with rotary positions.
        places: every place of the text once.

    Raises:
        WorkloadError: the network's answer depends on the order of its tokens, or a place is missing.
    """
    preset = model.preset
    if preset.is_causal or preset.state_space is not None:
        raise WorkloadError(f"model preset {preset.name!r} reads from left to right, so it fills no hole in a text")
    if preset.positions != "rotary" or preset.window is not None:
        raise WorkloadError(f"model preset {preset.name!r}: tokens can be rearranged under rotary positions only")
    if sorted(places) != list(range(len(places))):
        raise WorkloadError(f"rearrange: places must be 0..{len(places) - 1}, each once")
    view = copy.copy(model)
    index_L = torch.tensor(places, device=model.device)
    view._buffers = {
        **model._buffers,
        "cos_TC": model.cos_TC.index_select(0, index_L),
        "sin_TC": model.sin_TC.index_select(0, index_L),
    }
    return view
