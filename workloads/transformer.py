"""A lean transformer: RMSNorm, rotary positions, grouped-query attention, SwiGLU; causal or bidirectional.

Shape suffixes: B batch, S query positions, T key positions, D model width, H query heads, K key and value heads,
C head width, F hidden width of the feed-forward network, V vocabulary.
"""
# ruff: noqa: N815 - shape suffixes, on tables and records as well

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.presets import ModelPreset

_INIT_STD = 0.02


class Transformer(nn.Module):
    """The network that a preset describes, with random weights.

    The same code runs on `meta` at any size without allocating: no value decides what happens next.
    """

    cos_TC: torch.Tensor
    sin_TC: torch.Tensor

    def __init__(
        self,
        preset: ModelPreset,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        """Build the network and fill it with normal random weights.

        Args:
            preset: its dimensions.
            dtype: type of weights, activations and KV cache.
            device: where it lives; on `meta` nothing is allocated or filled.
            seed: seed of the weights.
        """
        super().__init__()
        self.preset = preset
        with torch.device("meta"):
            self.embedding = nn.Embedding(preset.vocab, preset.d_model, dtype=dtype)
            self.blocks = nn.ModuleList(self._build_block(layer, dtype) for layer in range(preset.layers))
            self.norm = build_norm(preset, dtype)
            self.head = nn.Linear(preset.d_model, preset.vocab, bias=preset.head_bias, dtype=dtype)
            self._build_rest(dtype)
        self.to_empty(device=device)
        if preset.tied:
            self.head.weight = self.embedding.weight
        self._fill(seed)
        cos_TC, sin_TC = rotary_tables(
            preset.max_length, _rotary_width(preset), theta=preset.rope_theta, dtype=dtype, device=device
        )
        self.register_buffer("cos_TC", cos_TC, persistent=False)
        self.register_buffer("sin_TC", sin_TC, persistent=False)
        self.eval()

    def _build_block(self, layer: int, dtype: torch.dtype) -> nn.Module:
        """One layer of the network, built on `meta`."""
        if not self.preset.is_common:
            raise WorkloadError(
                f"model preset {self.preset.name!r} has parts that the plain transformer lacks; use build_backbone"
            )
        return Block(self.preset, layer, dtype)

    def _build_rest(self, dtype: torch.dtype) -> None:
        """What a network has beside its layers, built on `meta`; here nothing."""

    @property
    def vocab(self) -> int:
        """Width of the logits."""
        return self.preset.vocab

    @property
    def mask_id(self) -> int | None:
        """Token id of a masked position, None where the network knows none."""
        return self.preset.mask_id

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.embedding.weight.device

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty KV cache for `batch` sequences of up to `capacity` positions."""
        self._check_length(capacity)
        return KVCache(
            layers=self.preset.layers,
            batch=batch,
            kv_heads=self.preset.kv_heads,
            capacity=capacity,
            head_dim=self.preset.head_dim,
            dtype=self.embedding.weight.dtype,
            device=self.device,
        )

    def forward(
        self,
        tokens_BS: torch.Tensor,
        *,
        cache: KVCache | None = None,
        position: int = 0,
        last_only: bool = False,
        rows_BS: torch.Tensor | None = None,
        causal: bool | None = None,
        block_length: int | None = None,
        inputs_BSD: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits `[B, S, V]` of the tokens at positions `position` to `position + S - 1`.

        With a cache their keys and values are written into it, and they attend to everything that it then holds;
        rows written before are overwritten in place where `position` lies below the cache's length.

        Args:
            tokens_BS: token ids.
            cache: from `new_cache`; None to attend to the given tokens alone.
            position: where the first of the tokens stands in its sequence.
            last_only: give the logits of the last position only, `[B, 1, V]`.
            rows_BS: where each token stands, if not side by side from `position` on; for bidirectional networks with a
                cache that is filled already, whose keys and values these rows overwrite.
            causal: whether a position sees only those up to itself; None for what the preset's kind says.
            block_length: a position sees all up to the end of its own block of so many positions, counted from the
                start of the sequence (block-causal); None for no blocks. Not together with `causal`.
            inputs_BSD: what enters the first layer in place of the tokens' embeddings.
        """
        shared = self._share(
            tokens_BS, cache=cache, position=position, rows_BS=rows_BS, causal=causal, block_length=block_length
        )
        x_BSD: torch.Tensor = self.embedding(tokens_BS) if inputs_BSD is None else inputs_BSD
        for block in self.blocks:
            x_BSD = block(x_BSD, shared)
        if last_only:
            x_BSD = x_BSD[:, -1:]
        logits_BSV: torch.Tensor = self.head(self.norm(x_BSD))
        return logits_BSV

    def _share(
        self,
        tokens_BS: torch.Tensor,
        *,
        cache: KVCache | None,
        position: int,
        rows_BS: torch.Tensor | None,
        causal: bool | None,
        block_length: int | None,
    ) -> "Shared":
        """Check what a forward is given, make room in the cache, and gather what all blocks share."""
        queries = tokens_BS.shape[1]
        end = position + queries
        self._check_length(end)
        keys = queries
        if cache is not None:
            if end > cache.capacity:
                raise WorkloadError(f"KV cache holds {cache.capacity} positions, got tokens up to position {end}")
            keys = cache.length = max(cache.length, end)
        if rows_BS is not None and (cache is None or self.preset.is_causal or position):
            raise WorkloadError("transformer: rows need a bidirectional network, a filled KV cache and no position")
        at = slice(position, end) if rows_BS is None else rows_BS
        return Shared(
            cos_S1C=self.cos_TC[at].unsqueeze(-2),
            sin_S1C=self.sin_TC[at].unsqueeze(-2),
            cache=cache,
            position=position,
            keys=keys,
            masking=build_masking(
                self._visible_block(causal, block_length),
                queries=queries,
                keys=keys,
                first_row=0 if cache is None else position,
                device=self.device,
            ),
            rows_BS=rows_BS,
        )

    def _visible_block(self, causal: bool | None, block_length: int | None) -> int | None:
        """Length of the blocks whose positions see each other: 1 is causal, None is bidirectional."""
        if block_length is None:
            return 1 if (self.preset.is_causal if causal is None else causal) else None
        if block_length <= 0 or causal is not None:
            raise WorkloadError(
                f"transformer: block_length must be > 0 and without causal, got {block_length}, {causal}"
            )
        return block_length

    def _check_length(self, length: int) -> None:
        if length > self.preset.max_length:
            raise WorkloadError(
                f"model preset {self.preset.name!r} has {self.preset.max_length} positions, got a length of {length}"
            )

    def _fill(self, seed: int) -> None:
        if self.device.type == "meta":
            return
        generator = torch.Generator(self.device).manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.ndim > 1:
                    weight.normal_(std=_INIT_STD, generator=generator)
                else:
                    weight.fill_(0.0 if name.endswith("bias") else 1.0)


class Masking(NamedTuple):
    """Which keys a query sees: all, those up to itself (`is_square`), or those that a mask names.

    Keys before `first_key` nobody sees; the mask leaves them out. Only windows set it.
    """

    mask_ST: torch.Tensor | None = None
    is_square: bool = False
    first_key: int = 0


class Shared(NamedTuple):
    """What all blocks of one forward share."""

    cos_S1C: torch.Tensor
    sin_S1C: torch.Tensor
    cache: KVCache | None
    position: int
    keys: int
    masking: Masking
    rows_BS: torch.Tensor | None = None
    condition_BD: torch.Tensor | None = None


class Block(nn.Module):
    """One layer: attention and SwiGLU network, each behind an RMSNorm and added to the residual stream."""

    def __init__(self, preset: ModelPreset, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.attention_norm = build_norm(preset, dtype)
        self.attention = Attention(preset, layer, dtype)
        self.mlp_norm = build_norm(preset, dtype)
        self.mlp = SwiGlu(preset.d_model, preset.ffn, dtype)

    def forward(self, x_BSD: torch.Tensor, shared: Shared) -> torch.Tensor:
        """The residual stream `[B, S, D]` after this layer."""
        # Each addition lands in the fresh output of a projection: no third tensor, and no input is overwritten.
        x_BSD = self.attention(self.attention_norm(x_BSD), shared).add_(x_BSD)
        output_BSD: torch.Tensor = self.mlp(self.mlp_norm(x_BSD)).add_(x_BSD)
        return output_BSD


class Attention(nn.Module):
    """Grouped-query attention with rotary positions; separate projections, as the published checkpoints have them."""

    def __init__(self, preset: ModelPreset, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = preset.head_dim
        self.is_grouped = preset.kv_heads < preset.heads
        width, kv_width = preset.heads * preset.head_dim, preset.kv_heads * preset.head_dim
        self.query = nn.Linear(preset.d_model, width, bias=preset.qkv_bias, dtype=dtype)
        self.key = nn.Linear(preset.d_model, kv_width, bias=preset.qkv_bias, dtype=dtype)
        self.value = nn.Linear(preset.d_model, kv_width, bias=preset.qkv_bias, dtype=dtype)
        self.output = nn.Linear(width, preset.d_model, bias=preset.output_bias, dtype=dtype)
        self.query_norm = self.key_norm = None
        if preset.qk_norm:
            self.query_norm = nn.RMSNorm(preset.head_dim, eps=preset.norm_eps, dtype=dtype)
            self.key_norm = nn.RMSNorm(preset.head_dim, eps=preset.norm_eps, dtype=dtype)

    def forward(self, x_BSD: torch.Tensor, shared: Shared) -> torch.Tensor:
        """Attention output `[B, S, D]`."""
        heads = (*x_BSD.shape[:2], -1, self.head_dim)
        q_BSHC, k_BSKC, v_BSKC = (part(x_BSD).view(heads) for part in (self.query, self.key, self.value))
        if self.query_norm is not None and self.key_norm is not None:
            q_BSHC, k_BSKC = self.query_norm(q_BSHC), self.key_norm(k_BSKC)
        q_BHSC = rotate(q_BSHC, shared).transpose(1, 2)
        k_BKTC, v_BKTC = rotate(k_BSKC, shared).transpose(1, 2), v_BSKC.transpose(1, 2)
        if shared.cache is not None:
            if shared.rows_BS is None:
                shared.cache.store(self.layer, shared.position, k_BKTC, v_BKTC)
            else:
                shared.cache.store_rows(self.layer, shared.rows_BS, k_BKTC, v_BKTC)
            k_BKTC, v_BKTC = shared.cache.read(self.layer, shared.keys)
        out_BHSC = functional.scaled_dot_product_attention(
            q_BHSC,
            k_BKTC,
            v_BKTC,
            attn_mask=shared.masking.mask_ST,
            is_causal=shared.masking.is_square,
            enable_gqa=self.is_grouped,
        )
        output_BSD: torch.Tensor = self.output(out_BHSC.transpose(1, 2).flatten(2))
        return output_BSD


class SwiGlu(nn.Module):
    """Feed-forward network `down(silu(gate(x)) * up(x))` (Shazeer, arXiv:2002.05202)."""

    def __init__(self, d_model: int, ffn: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, ffn, bias=False, dtype=dtype)
        self.up = nn.Linear(d_model, ffn, bias=False, dtype=dtype)
        self.down = nn.Linear(ffn, d_model, bias=False, dtype=dtype)

    def forward(self, x_BSD: torch.Tensor) -> torch.Tensor:
        """The network's output `[B, S, D]`."""
        hidden_BSF = functional.silu(self.gate(x_BSD)).mul_(self.up(x_BSD))
        output_BSD: torch.Tensor = self.down(hidden_BSF)
        return output_BSD


def build_norm(preset: ModelPreset, dtype: torch.dtype) -> nn.Module:
    """The norm that stands before each part of a layer and before the output projection."""
    if preset.norm == "rmsnorm":
        return nn.RMSNorm(preset.d_model, eps=preset.norm_eps, dtype=dtype)
    return nn.LayerNorm(preset.d_model, eps=preset.norm_eps, bias=preset.norm_bias, dtype=dtype)


def rotate(x_BSHC: torch.Tensor, shared: Shared) -> torch.Tensor:
    """Rotary position embedding `[B, S, H, C]`, first half paired with second half (Su et al., arXiv:2104.09864).

    `sin_S1C` carries the minus sign of its first half, so that swapping the halves is all that is left to do. Where
    the tables are narrower than a head, only so many of its leading elements turn.
    """
    turning = shared.cos_S1C.shape[-1]
    if turning < x_BSHC.shape[-1]:
        if turning == 0:
            return x_BSHC
        turned_BSHC = rotate(x_BSHC[..., :turning], shared)
        return torch.cat((turned_BSHC, x_BSHC[..., turning:]), dim=-1)
    half = turning // 2
    swapped_BSHC = torch.cat((x_BSHC[..., half:], x_BSHC[..., :half]), dim=-1)
    return swapped_BSHC.mul_(shared.sin_S1C).addcmul_(x_BSHC, shared.cos_S1C)


def _rotary_width(preset: ModelPreset) -> int:
    """Elements of a head that turn with its position."""
    if preset.positions != "rotary":
        return 0
    if preset.latent_attention is not None:
        return preset.latent_attention.rotary
    return int(preset.head_dim * preset.rotary_frac)


def rotary_tables(
    length: int, width: int, *, theta: float | None, dtype: torch.dtype, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and signed sines `[T, C]` of every position; of no width where nothing turns."""
    half = width // 2
    exponent_C = torch.arange(half, dtype=torch.float32, device=device) / max(1, half)
    frequency_C = torch.exp(exponent_C * -math.log(theta or 1.0))
    angle_TC = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequency_C)
    cos_TC, sin_TC = angle_TC.cos(), angle_TC.sin()
    return torch.cat((cos_TC, cos_TC), dim=-1).to(dtype), torch.cat((-sin_TC, sin_TC), dim=-1).to(dtype)


def build_masking(block: int | None, *, queries: int, keys: int, first_row: int, device: torch.device) -> Masking:
    """The cheapest form of a block-causal mask: none where all keys are seen, the square flag, else a mask [S, T]."""
    if block is None or first_row // block == (keys - 1) // block:
        return Masking()
    if block == 1:
        if queries == keys:
            return Masking(is_square=True)
        return Masking(mask_ST=torch.ones(queries, keys, dtype=torch.bool, device=device).tril_(first_row))
    row_S1 = torch.arange(first_row, first_row + queries, device=device)[:, None]
    key_1T = torch.arange(keys, device=device)
    return Masking(mask_ST=key_1T // block <= row_S1 // block)
