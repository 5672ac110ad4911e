"""LLaDA operation by operation as its authors' PyTorch code runs it, for programs that run it without a compiler.

The same function as `workloads.transformer`, written as in modeling_llada.py (GSAI-ML/LLaDA-8B; with caches, NVlabs/
Fast-dLLM): RMS norms and rotary embeddings in float32 and in single operations, nothing in place, and a cache of keys
that have not been turned yet, so that every forward turns all of them. A forward on a cache narrows a causal bias in
every layer, which its attention then does without (hills-code/Fast-dLLM@c26b88f, `_cast_attn_bias`). Leaves out that
Fast-dLLM finds the rows of a block by `nonzero`, and waits for it and for their end, in every layer.

Shape suffixes: B batch, S query positions, T key positions, D model width, H heads, C head width, V vocabulary.
"""
# ruff: noqa: N815 - shape suffixes, on tables and records as well

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.markers import mark_role
from workloads.presets import ModelPreset
from workloads.transformer import Attention, SwiGlu, Transformer, rotary_tables


class LladaNetwork(Transformer):
    """The network of a preset that is `unfused`, with random weights; parameters are named as the transformer's."""

    wide_cos_TC: torch.Tensor
    wide_sin_TC: torch.Tensor

    def __init__(
        self,
        preset: ModelPreset,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        """Build the network; see `Transformer`."""
        super().__init__(preset, dtype=dtype, device=device, seed=seed)
        # Signed sines, as the transformer swaps halves by; the authors negate a half instead.
        cos_TC, signed_TC = rotary_tables(
            preset.max_length, preset.head_dim, theta=preset.rope_theta, dtype=torch.float32, device=device
        )
        sin_TC = torch.cat((signed_TC[:, preset.head_dim // 2 :],) * 2, dim=-1)
        self.register_buffer("wide_cos_TC", cos_TC, persistent=False)
        self.register_buffer("wide_sin_TC", sin_TC, persistent=False)

    def _build_block(self, layer: int, dtype: torch.dtype) -> nn.Module:
        return _Block(self.preset, layer, dtype)

    def _build_rest(self, dtype: torch.dtype) -> None:
        self.norm = _RmsNorm(self.preset.d_model, eps=self.preset.norm_eps, dtype=dtype)

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache, which takes the tensors that it is given as they are."""
        self._check_length(capacity)
        return _HeldCache(self.preset, batch, capacity, self.embedding.weight)

    def forward(
        self,
        tokens_BS: torch.Tensor,
        *,
        cache: KVCache | None = None,
        position: int = 0,
        last_only: bool = False,
        **others: object,
    ) -> torch.Tensor:
        """Logits `[B, S, V]`, or `[B, 1, V]` of the last position; see `Transformer.forward`.

        Raises:
            WorkloadError: it is asked for what the authors' network does not do: chosen rows, masks, inputs.
        """
        if given := [name for name, value in others.items() if value is not None]:
            raise WorkloadError(f"model preset {self.preset.name!r} is unfused and takes no {', '.join(given)}")
        if cache is not None and not isinstance(cache, _HeldCache):
            raise WorkloadError(f"model preset {self.preset.name!r} takes a cache of its own new_cache only")
        end = position + tokens_BS.shape[1]
        self._check_length(end)
        keys = end if cache is None else max(cache.length, end)
        bias_11TT = None if cache is None or position == 0 else cache.bias_11TT
        tables = _Tables(self.wide_cos_TC[:keys], self.wide_sin_TC[:keys], position, end, bias_11TT)
        x_BSD: torch.Tensor = self.embedding(tokens_BS)
        for block in self.blocks:
            x_BSD = block(x_BSD, tables, cache)
        if cache is not None:
            cache.length = keys
        if last_only:
            x_BSD = x_BSD[:, -1:]
        logits_BSV: torch.Tensor = self.head(self.norm(x_BSD))
        return logits_BSV


@dataclass(frozen=True, slots=True)
class _Tables:
    """Cosines and sines of all keys in float32, where the queries stand among them, a bias where there is a past."""

    cos_TC: torch.Tensor
    sin_TC: torch.Tensor
    start: int
    end: int
    bias_11TT: torch.Tensor | None

    def narrow_bias(self, dtype: torch.dtype) -> None:
        """Narrow the rows of the causal bias that the queries stand in, as every layer of the authors' does; unused."""
        if self.bias_11TT is None or self.bias_11TT.dtype == dtype:
            return
        keys, queries = self.cos_TC.shape[0], self.end - self.start
        narrow_11ST = self.bias_11TT[:, :, keys - queries : keys, :keys].to(dtype)
        narrow_11ST.masked_fill_(narrow_11ST == -torch.inf, torch.finfo(dtype).min)

    def turn_queries(self, q_BHSC: torch.Tensor) -> torch.Tensor:
        """Queries, turned."""
        return _turn(q_BHSC, self.cos_TC[self.start : self.end], self.sin_TC[self.start : self.end])

    def turn_keys(self, k_BHTC: torch.Tensor) -> torch.Tensor:
        """All keys, turned."""
        return _turn(k_BHTC, self.cos_TC, self.sin_TC)


def _turn(x_BHSC: torch.Tensor, cos_SC: torch.Tensor, sin_SC: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding in float32, back in the type of what it is given."""
    wide_BHSC = x_BHSC.float()
    first_BHSC, second_BHSC = wide_BHSC.chunk(2, dim=-1)
    swapped_BHSC = torch.cat((-second_BHSC, first_BHSC), dim=-1)
    return (wide_BHSC * cos_SC + swapped_BHSC * sin_SC).type_as(x_BHSC)


class _HeldCache(KVCache):
    """Keys, not yet turned, and values: held as they come, joined to what stood before, or written over it."""

    def __init__(self, preset: ModelPreset, batch: int, capacity: int, like: torch.Tensor) -> None:
        super().__init__(
            layers=preset.layers, batch=batch, kv_heads=preset.kv_heads, capacity=0, head_dim=preset.head_dim,
            dtype=like.dtype, device=like.device,
        )  # fmt: skip
        self.capacity = capacity
        self.bias_11TT = torch.full((1, 1, capacity, capacity), torch.finfo(torch.float32).min, device=like.device)
        self.bias_11TT.triu_(diagonal=1)
        self._held: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * preset.layers

    def update(
        self, layer: int, position: int, k_BHSC: torch.Tensor, v_BHSC: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values of a layer, once those of positions from `position` on are in."""
        held = self._held[layer]
        if held is not None and position + k_BHSC.shape[2] < held[0].shape[2]:
            for whole, part in zip(held, (k_BHSC, v_BHSC), strict=True):
                whole[:, :, position : position + part.shape[2]].copy_(part)
            return held
        if held is not None and position > 0:
            k_BHSC = torch.cat((held[0][:, :, :position], k_BHSC), dim=2)
            v_BHSC = torch.cat((held[1][:, :, :position], v_BHSC), dim=2)
        self._held[layer] = mark_role(k_BHSC, "kv_cache"), mark_role(v_BHSC, "kv_cache")
        return k_BHSC, v_BHSC

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on."""
        super().truncate(length)
        self._held = [None if pair is None else (pair[0][:, :, :length], pair[1][:, :, :length]) for pair in self._held]


class _RmsNorm(nn.RMSNorm):
    """RMS norm in float32, one operation after another."""

    def forward(self, x_BSD: torch.Tensor) -> torch.Tensor:
        wide_BSD = x_BSD.to(torch.float32)
        mean_BS1 = wide_BSD.pow(2).mean(-1, keepdim=True)
        assert self.eps is not None
        assert self.weight is not None
        return self.weight * (wide_BSD * torch.rsqrt(mean_BS1 + self.eps)).to(x_BSD.dtype)


class _Block(nn.Module):
    """One layer: attention and SwiGLU network, each behind a norm and added to the residual stream."""

    def __init__(self, preset: ModelPreset, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.attention_norm = _RmsNorm(preset.d_model, eps=preset.norm_eps, dtype=dtype)
        self.attention = _Attention(preset, layer, dtype)
        self.mlp_norm = _RmsNorm(preset.d_model, eps=preset.norm_eps, dtype=dtype)
        self.mlp = SwiGlu(preset.d_model, preset.ffn, dtype)

    def forward(self, x_BSD: torch.Tensor, tables: _Tables, cache: _HeldCache | None) -> torch.Tensor:
        """The residual stream `[B, S, D]` after this layer."""
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), tables, cache)
        normed_BSD = self.mlp_norm(x_BSD)
        gate_BSF, up_BSF = self.mlp.gate(normed_BSD), self.mlp.up(normed_BSD)
        output_BSD: torch.Tensor = x_BSD + self.mlp.down(functional.silu(gate_BSF) * up_BSF)
        return output_BSD


class _Attention(Attention):
    """Bidirectional attention over all keys, which are turned at every forward."""

    def forward(  # type: ignore[override]  # its own tables and cache, no mask
        self, x_BSD: torch.Tensor, tables: _Tables, cache: _HeldCache | None
    ) -> torch.Tensor:
        """Attention output `[B, S, D]`."""
        heads = (*x_BSD.shape[:2], -1, self.head_dim)
        parts = (self.query, self.key, self.value)
        q_BHSC, k_BHTC, v_BHTC = (part(x_BSD).view(heads).transpose(1, 2) for part in parts)
        if cache is not None:
            k_BHTC, v_BHTC = cache.update(self.layer, tables.start, k_BHTC, v_BHTC)
        q_BHSC, k_BHTC = tables.turn_queries(q_BHSC), tables.turn_keys(k_BHTC)
        tables.narrow_bias(x_BSD.dtype)
        out_BHSC = functional.scaled_dot_product_attention(q_BHSC, k_BHTC, v_BHTC)
        output_BSD: torch.Tensor = self.output(out_BHSC.transpose(1, 2).flatten(2))
        return output_BSD
