"""Writes published tensors into a network: every parameter filled once, nothing left over, shapes as they must be."""

import math
from collections.abc import Callable, Iterable, Mapping

import torch

from workloads.errors import WorkloadError
from workloads.presets import ModelPreset
from workloads.transformer import Transformer

_COMPARED = ("layers", "d_model", "heads", "kv_heads", "head_dim", "ffn", "vocab", "tied", "qkv_bias", "qk_norm")


def network_parameters(model: Transformer) -> tuple[dict[str, torch.Tensor], frozenset[str]]:
    """Our network's parameters by name, and those that a checkpoint may leave out (a tied output projection)."""
    parameters: dict[str, torch.Tensor] = dict(model.named_parameters())
    if not model.preset.tied:
        return parameters, frozenset()
    parameters["head.weight"] = parameters["embedding.weight"]
    return parameters, frozenset({"head.weight"})


@torch.no_grad()
def fill(
    parameters: Mapping[str, torch.Tensor],
    published: Iterable[tuple[str, torch.Tensor]],
    *,
    where: str,
    rename: Callable[[str], str | None],
    optional: frozenset[str],
) -> None:
    """Copy each published tensor onto the parameter that it belongs to.

    Args:
        parameters: what is to be filled, in place.
        published: names and values as the files have them.
        where: what the weights are called in messages.
        rename: our name of a published tensor; None to leave it out.
        optional: parameters that may stay as they are.

    Raises:
        WorkloadError: a tensor has no place, another shape, or is quantized; or a parameter stays empty.
    """
    filled = set()
    for theirs, tensor in published:
        try:
            name = rename(theirs)
        except WorkloadError as error:
            raise WorkloadError(f"weights {where}: {error}") from None
        if name is None:
            continue
        if name not in parameters:
            raise WorkloadError(f"weights {where}: tensor {theirs!r} has no counterpart in the network")
        target = parameters[name]
        if not tensor.is_floating_point():
            raise WorkloadError(f"weights {where}: {theirs} is quantized ({tensor.dtype}), which is not supported")
        if tensor.shape != target.shape:
            raise WorkloadError(
                f"weights {where}: {theirs} must have shape {tuple(target.shape)}, got {tuple(tensor.shape)}"
            )
        target.copy_(tensor)
        filled.add(name)
    missing = sorted(parameters.keys() - filled - optional)
    if missing:
        raise WorkloadError(f"weights {where}: lack {len(missing)} tensors of the network, the first is {missing[0]}")


def check_same(preset: ModelPreset, found: ModelPreset, *, where: str, said_by: str) -> None:
    """Refuse weights of other dimensions than the preset's.

    Raises:
        WorkloadError: a dimension differs.
    """
    for field in _COMPARED:
        ours, theirs = getattr(preset, field), getattr(found, field)
        if ours != theirs:
            raise WorkloadError(
                f"weights {where}: {said_by} says {field} = {theirs}, but {preset.name} has {field} = {ours}"
            )


def set_rotary_tables(model: Transformer, frequency_C: torch.Tensor) -> None:
    """Write a checkpoint's own rotary frequencies `[head_dim / 2]` over those that the preset's base gave.

    Raises:
        WorkloadError: a frequency is not finite.
    """
    angle_TC = torch.outer(torch.arange(model.cos_TC.shape[0], dtype=torch.float32), frequency_C)
    if not math.isfinite(float(angle_TC[-1, 0])):
        raise WorkloadError("rotary frequencies must be finite")
    cos_TC, sin_TC = angle_TC.cos(), angle_TC.sin()
    model.cos_TC.copy_(torch.cat((cos_TC, cos_TC), dim=-1))
    model.sin_TC.copy_(torch.cat((-sin_TC, sin_TC), dim=-1))
