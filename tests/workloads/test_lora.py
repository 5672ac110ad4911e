from collections.abc import Callable

import pytest
import torch
from torch import nn

from profiler.capture import capture
from workloads.errors import WorkloadError
from workloads.lora import LoraLinear, LoraOptions, add_lora, merge_lora
from workloads.presets import load_preset
from workloads.transformer import Transformer

Build = Callable[..., Transformer]


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_adapter_adds_its_product_to_the_layer() -> None:
    layer = nn.Linear(2, 1)
    layer.weight.copy_(torch.tensor([[1.0, 2.0]]))
    layer.bias.fill_(0.5)
    adapted = LoraLinear(layer, LoraOptions(rank=1, alpha=3.0))
    adapted.down_RI.copy_(torch.tensor([[1.0, -1.0]]))
    adapted.up_OR.fill_(2.0)

    # x = (4, 1): 4 + 2 + 0.5, and 3 * 2 * (4 - 1) from the adapter.
    assert adapted(torch.tensor([[[4.0, 1.0]]])).item() == 6.5 + 18
    assert adapted.merged()(torch.tensor([[[4.0, 1.0]]])).item() == 6.5 + 18


@torch.no_grad()
@pytest.mark.parametrize(
    "targets", [("query", "value"), ("query", "key", "value", "output", "gate", "up", "down", "head")]
)
def test_merged_and_unmerged_networks_agree_and_differ_from_the_base(
    build_model: Build, targets: tuple[str, ...]
) -> None:
    model = build_model(qkv_bias=True)
    base = model(tokens(2, 7))

    count = add_lora(model, LoraOptions(rank=3, alpha=60.0, targets=targets))
    unmerged = model(tokens(2, 7))
    assert count == 2 * (len(targets) - ("head" in targets)) + ("head" in targets)
    assert merge_lora(model) == count
    assert not [module for module in model.modules() if isinstance(module, LoraLinear)]

    torch.testing.assert_close(model(tokens(2, 7)), unmerged, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(unmerged, base, atol=1e-3)


@torch.inference_mode()
def test_unmerged_adapters_add_two_thin_products_and_merged_ones_nothing() -> None:
    preset, rank, rows = load_preset("llada-8b"), 16, 64
    model = Transformer(preset, dtype=torch.bfloat16, device="meta")
    ids = torch.zeros(1, rows, dtype=torch.long, device="meta")

    def measure() -> tuple[float, float]:
        with capture() as recording:
            model(ids)
        frame = recording.trace.to_frame()
        return float(frame["matrix_flops"].sum()), float(frame["read_weights_bytes"].sum())

    flops, weights_bytes = measure()
    add_lora(model, LoraOptions(rank=rank, targets=("query", "value", "down")))
    adapted_flops, adapted_bytes = measure()
    widths = preset.layers * (2 * (4096 + 4096) + 12288 + 4096)

    assert adapted_flops - flops == rows * 2 * rank * widths
    assert adapted_bytes - weights_bytes == 2 * rank * widths
    merge_lora(model)
    assert measure() == (flops, weights_bytes)


def test_adapters_follow_their_seed(build_model: Build) -> None:
    def adapter(seed: int) -> torch.Tensor:
        model = build_model()
        add_lora(model, LoraOptions(rank=2, seed=seed))
        weight: torch.Tensor = model.blocks[0].attention.query.up_OR
        return weight

    assert torch.equal(adapter(1), adapter(1))
    assert not torch.equal(adapter(1), adapter(2))


def test_impossible_adapters_are_refused(build_model: Build) -> None:
    with pytest.raises(WorkloadError, match="rank must be > 0, got 0"):
        LoraOptions(rank=0)
    with pytest.raises(WorkloadError, match="targets must name at least one layer"):
        LoraOptions(targets=())
    with pytest.raises(
        WorkloadError, match="no linear layer is called 'q_proj'; the network has: down, gate, head, key"
    ):
        add_lora(build_model(), LoraOptions(targets=("q_proj",)))
