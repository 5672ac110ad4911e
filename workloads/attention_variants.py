"""Attention that differs from the common kind: sliding windows with global layers between, and latent attention.

Shape suffixes: B batch, S query positions, T key positions, D model width, H query heads, K key and value heads,
C head width, L latent width, R width with rotary positions, P width without.
"""

import torch
from torch import nn
from torch.nn import functional

from workloads.architecture import LatentAttention, SlidingWindow
from workloads.layered_cache import LayerMemory
from workloads.presets import ModelPreset
from workloads.transformer import Shared, rotate


class WindowAttention(nn.Module):
    """Attention of Gemma 4 and DiffusionGemma: local layers and wider global ones; queries are not scaled.

    As in google-deepmind/gemma and transformers (models/diffusion_gemma): queries, keys and values pass a norm per
    head, values one without weights; a global layer may take its values from the projection of its keys.
    """

    def __init__(self, preset: ModelPreset, window: SlidingWindow, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = layer
        memory = window_memory(preset, window, layer)
        self.head_dim, self.norm_eps = memory.key_width, preset.norm_eps
        self.is_grouped = memory.kv_heads < preset.heads
        width, kv_width = preset.heads * self.head_dim, memory.kv_heads * self.head_dim
        self.query = nn.Linear(preset.d_model, width, bias=False, dtype=dtype)
        self.key = nn.Linear(preset.d_model, kv_width, bias=False, dtype=dtype)
        self.value = None
        if not (window.is_global(layer) and window.shared_key_value):
            self.value = nn.Linear(preset.d_model, kv_width, bias=False, dtype=dtype)
        self.output = nn.Linear(width, preset.d_model, bias=False, dtype=dtype)
        self.query_norm = nn.RMSNorm(self.head_dim, eps=preset.norm_eps, dtype=dtype)
        self.key_norm = nn.RMSNorm(self.head_dim, eps=preset.norm_eps, dtype=dtype)

    def forward(self, x_BSD: torch.Tensor, shared: Shared) -> torch.Tensor:
        """Attention output `[B, S, D]`."""
        heads = (*x_BSD.shape[:2], -1, self.head_dim)
        q_BSHC, k_BSKC = self.query(x_BSD).view(heads), self.key(x_BSD).view(heads)
        v_BSKC = k_BSKC if self.value is None else self.value(x_BSD).view(heads)
        q_BHSC = rotate(self.query_norm(q_BSHC), shared).transpose(1, 2)
        k_BKTC = rotate(self.key_norm(k_BSKC), shared).transpose(1, 2)
        v_BKTC = functional.rms_norm(v_BSKC, (self.head_dim,), eps=self.norm_eps).transpose(1, 2)
        if shared.cache is not None:
            shared.cache.store(self.layer, shared.position, k_BKTC, v_BKTC)
            k_BKTC, v_BKTC = shared.cache.read(self.layer, shared.keys)
        first = shared.masking.first_key
        out_BHSC = functional.scaled_dot_product_attention(
            q_BHSC,
            k_BKTC[:, :, first:],
            v_BKTC[:, :, first:],
            attn_mask=shared.masking.mask_ST,
            is_causal=shared.masking.is_square,
            scale=1.0,
            enable_gqa=self.is_grouped,
        )
        output_BSD: torch.Tensor = self.output(out_BHSC.transpose(1, 2).flatten(2))
        return output_BSD


def window_memory(preset: ModelPreset, window: SlidingWindow, layer: int) -> LayerMemory:
    """What an attention layer with windows keeps per sequence; a local layer, too, keeps every position."""
    heads, width = preset.kv_heads, preset.head_dim
    if window.is_global(layer):
        heads, width = window.global_kv_heads, window.global_head_dim
    return LayerMemory(kv_heads=heads, key_width=width, value_width=width)


class MultiHeadLatentAttention(nn.Module):
    """Attention whose cache holds one latent and one rotary key per token (DeepSeek-V2, arXiv:2405.04434, section 2.1).

    The first tokens make keys and values from their latents. Later ones attend to the latents themselves, with the
    matrices that would make keys and values moved to the queries and the output (same section, "absorbed").
    """

    def __init__(self, preset: ModelPreset, latent: LatentAttention, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer, self.heads, self.latent = layer, preset.heads, latent
        key_width = latent.plain + latent.rotary
        self.scale = key_width**-0.5

        def linear(rows: int, columns: int) -> nn.Linear:
            return nn.Linear(rows, columns, bias=False, dtype=dtype)

        self.query_down = linear(preset.d_model, latent.query_rank)
        self.query_norm = nn.RMSNorm(latent.query_rank, eps=preset.norm_eps, dtype=dtype)
        self.query_up = linear(latent.query_rank, preset.heads * key_width)
        self.latent_down = linear(preset.d_model, latent.latent + latent.rotary)
        self.latent_norm = nn.RMSNorm(latent.latent, eps=preset.norm_eps, dtype=dtype)
        self.latent_up = linear(latent.latent, preset.heads * (latent.plain + latent.value))
        self.output = linear(preset.heads * latent.value, preset.d_model)

    def forward(self, x_BSD: torch.Tensor, shared: Shared) -> torch.Tensor:
        """Attention output `[B, S, D]`."""
        sizes = self.latent
        q_BSD = self.query_up(self.query_norm(self.query_down(x_BSD)))
        q_BSHC = q_BSD.view(*x_BSD.shape[:2], self.heads, -1)
        plain_BSHP, turned_BSHR = q_BSHC.split((sizes.plain, sizes.rotary), dim=-1)
        turned_BSHR = rotate(turned_BSHR, shared)
        latent_BSL, key_BSR = self.latent_down(x_BSD).split((sizes.latent, sizes.rotary), dim=-1)
        latent_BSL, key_BS1R = self.latent_norm(latent_BSL), rotate(key_BSR[:, :, None], shared)
        if shared.cache is not None:
            row_B1SC = torch.cat((latent_BSL, key_BS1R[:, :, 0]), dim=-1)[:, None]
            shared.cache.store(self.layer, shared.position, row_B1SC, row_B1SC[..., :0])
            if shared.position > 0 or shared.keys > x_BSD.shape[1]:
                out_BSHV = self._absorbed(plain_BSHP, turned_BSHR, shared)
                return self._leave(out_BSHV)
        made_BSHX = self.latent_up(latent_BSL).view(*x_BSD.shape[:2], self.heads, -1)
        k_BSHP, v_BSHV = made_BSHX.split((sizes.plain, sizes.value), dim=-1)
        k_BSHC = torch.cat((k_BSHP, key_BS1R.expand(-1, -1, self.heads, -1)), dim=-1)
        q_BSHC = torch.cat((plain_BSHP, turned_BSHR), dim=-1)
        out_BHSV = functional.scaled_dot_product_attention(
            q_BSHC.transpose(1, 2),
            k_BSHC.transpose(1, 2),
            v_BSHV.transpose(1, 2),
            attn_mask=shared.masking.mask_ST,
            is_causal=shared.masking.is_square,
            scale=self.scale,
        )
        return self._leave(out_BHSV.transpose(1, 2))

    def _absorbed(self, plain_BSHP: torch.Tensor, turned_BSHR: torch.Tensor, shared: Shared) -> torch.Tensor:
        """Attention over the cached latents as one key and value head; each is read as key and again as value."""
        assert shared.cache is not None
        sizes = self.latent
        up_HXL = self.latent_up.weight.view(self.heads, -1, sizes.latent)
        batch, queries = plain_BSHP.shape[:2]
        plain_HBP = plain_BSHP.permute(2, 0, 1, 3).reshape(self.heads, batch * queries, sizes.plain)
        latent_HBL = torch.bmm(plain_HBP, up_HXL[:, : sizes.plain])
        latent_BHSL = latent_HBL.view(self.heads, batch, queries, -1).transpose(0, 1)
        rows_B1TC, _ = shared.cache.read(self.layer, shared.keys)
        out_BHSL = functional.scaled_dot_product_attention(
            torch.cat((latent_BHSL, turned_BSHR.transpose(1, 2)), dim=-1),
            rows_B1TC,
            rows_B1TC[..., : sizes.latent],
            attn_mask=shared.masking.mask_ST,
            is_causal=shared.masking.is_square,
            scale=self.scale,
            enable_gqa=True,
        )
        out_HBL = out_BHSL.transpose(0, 1).reshape(self.heads, batch * queries, sizes.latent)
        out_HBV = torch.bmm(out_HBL, up_HXL[:, sizes.plain :].transpose(1, 2))
        return out_HBV.view(self.heads, batch, queries, -1).permute(1, 2, 0, 3)

    def _leave(self, out_BSHV: torch.Tensor) -> torch.Tensor:
        output_BSD: torch.Tensor = self.output(out_BSHV.flatten(2))
        return output_BSD


def latent_memory(latent: LatentAttention) -> LayerMemory:
    """What a latent attention layer keeps per sequence: one row per token, which holds its key and value."""
    return LayerMemory(kv_heads=1, key_width=latent.latent + latent.rotary)
