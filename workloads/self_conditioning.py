"""Self-conditioning: a network that is also shown what it predicted for the same tokens one step before.

DiffusionGemma's form (google-deepmind/gemma, gemma/diffusion): the predicted distribution times the embedding table is
the signal; `norm(embedding + network(norm(signal)))` enters the first layer, with a gated network of the backbone's
feed-forward width. The gate is SiLU, as in the backbone.

Shape suffixes: B batch, S positions, D model width, V vocabulary.
"""

import torch
from torch import nn
from torch.nn import functional

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.transformer import Transformer

_INIT_STD = 0.02


class SelfConditioned(nn.Module):
    """A transformer with random weights for the self-conditioning network; without a signal it is the plain one."""

    def __init__(self, backbone: Transformer, *, seed: int = 0) -> None:
        """Put the network beside its backbone, on the same device and in the same type."""
        super().__init__()
        preset, dtype = backbone.preset, backbone.embedding.weight.dtype
        if preset.ffn <= 0:
            raise WorkloadError(f"model preset {preset.name!r}: self-conditioning needs ffn > 0, got {preset.ffn}")
        self.backbone = backbone
        with torch.device("meta"):
            self.signal_norm = nn.RMSNorm(preset.d_model, eps=preset.norm_eps, dtype=dtype)
            self.gate = nn.Linear(preset.d_model, preset.ffn, bias=False, dtype=dtype)
            self.up = nn.Linear(preset.d_model, preset.ffn, bias=False, dtype=dtype)
            self.down = nn.Linear(preset.ffn, preset.d_model, bias=False, dtype=dtype)
            self.output_norm = nn.RMSNorm(preset.d_model, eps=preset.norm_eps, elementwise_affine=False)
        projections = (self.gate, self.up, self.down)
        for part in (self.signal_norm, *projections):
            part.to_empty(device=backbone.device)
        if backbone.device.type != "meta":
            generator = torch.Generator(backbone.device).manual_seed(seed)
            with torch.no_grad():
                self.signal_norm.weight.fill_(1.0)
                for part in projections:
                    part.weight.normal_(std=_INIT_STD, generator=generator)
        self.eval()

    @property
    def vocab(self) -> int:
        """Width of the logits."""
        return self.backbone.vocab

    @property
    def mask_id(self) -> int | None:
        """Token id of a masked position, None where the network knows none."""
        return self.backbone.mask_id

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty KV cache of the backbone."""
        return self.backbone.new_cache(batch, capacity)

    def signal(self, probability_BSV: torch.Tensor) -> torch.Tensor:
        """Mean embedding `[B, S, D]` of the predicted tokens: the whole distribution times the embedding table."""
        table_VD = self.backbone.embedding.weight
        return probability_BSV.to(table_VD.dtype) @ table_VD

    def denoise(
        self,
        tokens_BS: torch.Tensor,
        signal_BSD: torch.Tensor | None,
        *,
        cache: KVCache | None = None,
        position: int = 0,
    ) -> torch.Tensor:
        """Logits `[B, S, V]` of tokens that all see each other and the cache, given the last step's signal.

        None is the first step, for which the signal is zero.
        """
        embedded_BSD = self.backbone.embedding(tokens_BS)
        if signal_BSD is None:
            signal_BSD = torch.zeros_like(embedded_BSD)
        inner_BSD = self.signal_norm(signal_BSD)
        added_BSD = self.down(functional.silu(self.gate(inner_BSD)) * self.up(inner_BSD))
        mixed_BSD = self.output_norm(embedded_BSD + added_BSD)
        return self.backbone.forward(tokens_BS, cache=cache, position=position, causal=False, inputs_BSD=mixed_BSD)

    def forward(
        self,
        tokens_BS: torch.Tensor,
        *,
        cache: KVCache | None = None,
        position: int = 0,
        last_only: bool = False,
        causal: bool | None = None,
    ) -> torch.Tensor:
        """Logits `[B, S, V]` of the backbone, without self-conditioning."""
        return self.backbone.forward(tokens_BS, cache=cache, position=position, last_only=last_only, causal=causal)
