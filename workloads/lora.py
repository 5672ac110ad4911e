"""Low-rank adapters (Hu et al., arXiv:2106.09685): `W x + (alpha / rank) U D x` beside a frozen linear layer.

Unmerged, each adapted layer runs two thin products more, `2 * rank * (m + n)` FLOPs a row, and many adapters can share
one base. Merged, the adapter is added into the weight once and costs nothing. Dropout, which only training uses, and
adapters inside routed experts are left out.

Shape suffixes: N rows, I inputs, O outputs, R rank.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from workloads.errors import WorkloadError

_INIT_STD = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraOptions:
    """Which layers get adapters, and of what size.

    Attributes:
        rank: width between the two matrices.
        alpha: scale, divided by the rank.
        targets: last names of the linear layers to adapt, for example `query` and `value`.
        seed: seed of the adapters' random weights; both matrices are random, as after training.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ("query", "key", "value", "output")
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank <= 0:
            raise WorkloadError(f"lora: rank must be > 0, got {self.rank}")
        if not math.isfinite(self.alpha):
            raise WorkloadError(f"lora: alpha must be finite, got {self.alpha}")
        if not self.targets:
            raise WorkloadError("lora: targets must name at least one layer")


class LoraLinear(nn.Module):
    """A linear layer with an adapter beside it."""

    def __init__(self, base: nn.Linear, options: LoraOptions) -> None:
        super().__init__()
        weight = base.weight
        self.base = base
        self.scale = options.alpha / options.rank
        self.down_RI = nn.Parameter(weight.new_empty(options.rank, base.in_features))
        self.up_OR = nn.Parameter(weight.new_empty(base.out_features, options.rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output `[..., O]` of inputs `[..., I]`; the addition rides on the second product."""
        y: torch.Tensor = self.base(x)
        y_NO = y.view(-1, y.shape[-1])
        thin_NR = x.reshape(-1, x.shape[-1]) @ self.down_RI.T
        return y_NO.addmm_(thin_NR, self.up_OR.T, alpha=self.scale).view(y.shape)

    def merged(self) -> nn.Linear:
        """The base layer with the adapter added into a weight of its own."""
        layer = nn.Linear(
            self.base.in_features,
            self.base.out_features,
            bias=self.base.bias is not None,
            dtype=self.base.weight.dtype,
            device="meta",
        )
        with torch.no_grad():
            layer.weight = nn.Parameter(torch.addmm(self.base.weight, self.up_OR, self.down_RI, alpha=self.scale))
        layer.bias = self.base.bias
        return layer


def add_lora(model: nn.Module, options: LoraOptions) -> int:
    """Put adapters beside the target layers of a network, in place.

    Returns:
        How many layers were adapted.

    Raises:
        WorkloadError: a target names no linear layer of the network.
    """
    found = [
        (parent, name, layer)
        for parent, name, layer in _children(model)
        if isinstance(layer, nn.Linear) and name in options.targets
    ]
    missing = [target for target in options.targets if target not in {name for _, name, _ in found}]
    if missing:
        known = sorted({name for _, name, layer in _children(model) if isinstance(layer, nn.Linear)})
        raise WorkloadError(f"lora: no linear layer is called {missing[0]!r}; the network has: {', '.join(known)}")
    seed = options.seed
    for parent, name, layer in found:
        adapted = LoraLinear(layer, options)
        if adapted.up_OR.device.type != "meta":
            generator = torch.Generator(adapted.up_OR.device).manual_seed(seed)
            with torch.no_grad():
                for matrix in (adapted.down_RI, adapted.up_OR):
                    matrix.normal_(std=_INIT_STD, generator=generator)
        seed += 1
        setattr(parent, name, adapted)
    return len(found)


def merge_lora(model: nn.Module) -> int:
    """Replace every adapted layer of a network by a plain one with the adapter inside, in place.

    Returns:
        How many layers were merged.
    """
    found = [(parent, name, layer) for parent, name, layer in _children(model) if isinstance(layer, LoraLinear)]
    for parent, name, layer in found:
        setattr(parent, name, layer.merged())
    return len(found)


def adapter_parameters(model: nn.Module) -> int:
    """Number of parameters in a network's unmerged adapters."""
    return sum(
        layer.down_RI.numel() + layer.up_OR.numel() for layer in model.modules() if isinstance(layer, LoraLinear)
    )


def _children(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Every module with its parent and its last name, listed before anything is replaced."""
    yield from [(parent, name, child) for parent in model.modules() for name, child in parent.named_children()]
