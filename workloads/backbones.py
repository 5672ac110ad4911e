"""`build_backbone`: the right network for a preset; and `Backbone`, which builds those that are not the common one.

Shape suffixes: B batch, S query positions, T positions of a table, D model width, C head width, V vocabulary.
"""

import torch
from torch import nn

from workloads.architecture import MIXES_ATTENTION, MIXES_STATE, SlidingWindow
from workloads.attention_variants import latent_memory, window_memory
from workloads.conditioning import AdaptiveNorm, NoiseLevel, SelfConditioning
from workloads.errors import WorkloadError
from workloads.hybrid import build_block
from workloads.kv_cache import KVCache
from workloads.layered_cache import LayeredCache, LayerMemory
from workloads.llada_network import LladaNetwork
from workloads.mamba import Mamba2, mamba_memory
from workloads.mixture_of_experts import AssumedRouting, MixtureOfExperts
from workloads.presets import ModelPreset
from workloads.transformer import Masking, Shared, Transformer, build_masking, rotary_tables


def build_backbone(
    preset: ModelPreset,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
    routing: AssumedRouting | None = None,
) -> Transformer:
    """The network that a preset describes, with random weights.

    Args:
        preset: its dimensions.
        dtype: type of weights, activations and caches.
        device: where it lives; on `meta` nothing is allocated or filled.
        seed: seed of the weights.
        routing: how tokens spread over experts on `meta`; None for evenly.
    """
    if preset.unfused:
        return LladaNetwork(preset, dtype=dtype, device=device, seed=seed)
    if preset.is_common:
        return Transformer(preset, dtype=dtype, device=device, seed=seed)
    return Backbone(preset, dtype=dtype, device=device, seed=seed, routing=routing)


class Backbone(Transformer):
    """A network with experts, state spaces, latent or windowed attention, adaLN or learned positions."""

    def __init__(
        self,
        preset: ModelPreset,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        seed: int = 0,
        routing: AssumedRouting | None = None,
    ) -> None:
        """Build the network; see `build_backbone`."""
        super().__init__(preset, dtype=dtype, device=device, seed=seed)
        self.mixtures = tuple(module for module in self.modules() if isinstance(module, MixtureOfExperts))
        self.assume_routing(routing or AssumedRouting())
        self.global_tables: tuple[torch.Tensor, torch.Tensor] | None = None
        if preset.window is not None:
            self.global_tables = _global_tables(preset, preset.window, dtype=dtype, device=device)

    def assume_routing(self, routing: AssumedRouting) -> None:
        """On `meta`, spread tokens over experts in this way from now on."""
        for mixture in self.mixtures:
            mixture.routing = routing

    def leave_mixers_uncompiled(self) -> None:
        """Run mixers of Mamba-2 from now on as engines do that hide them from the compiler (vLLM up to 0.11)."""
        for module in self.modules():
            if isinstance(module, Mamba2):
                module.is_uncompiled = True

    def _build_block(self, layer: int, dtype: torch.dtype) -> nn.Module:
        return build_block(self.preset, layer, dtype)

    def _build_rest(self, dtype: torch.dtype) -> None:
        preset = self.preset
        self.places: nn.Embedding | None = None
        self.noise_level: NoiseLevel | None = None
        self.self_conditioning: SelfConditioning | None = None
        if preset.positions == "learned":
            self.places = nn.Embedding(preset.max_length, preset.d_model, dtype=dtype)
        if preset.condition is not None:
            self.noise_level = NoiseLevel(preset.condition, dtype)
            self.norm = AdaptiveNorm(preset, preset.condition, dtype)
        if preset.self_conditioning_ffn is not None:
            self.self_conditioning = SelfConditioning(preset, preset.self_conditioning_ffn, dtype)

    @property
    def tokens_per_expert(self) -> tuple[tuple[int, ...], ...]:
        """Tokens of each expert in the last forward, for each layer with experts; assumed ones on `meta`."""
        return tuple(mixture.tokens_per_expert for mixture in self.mixtures)

    def new_cache(self, batch: int, capacity: int, *, state_dtype: torch.dtype | None = None) -> KVCache:
        """An empty cache of keys, values, latents and recurrent states.

        Args:
            batch: sequences.
            capacity: positions that fit.
            state_dtype: of recurrent states; None for the weights' own.

        Raises:
            WorkloadError: the network scans in both directions, so that no token's state is ever final.
        """
        preset = self.preset
        plain = all(preset.letter(layer) in MIXES_ATTENTION for layer in range(preset.layers))
        if plain and preset.latent_attention is None and preset.window is None:
            return super().new_cache(batch, capacity)
        self._check_length(capacity)
        if preset.state_space is not None and not preset.is_causal:
            raise WorkloadError(f"model preset {preset.name!r} scans in both directions, so no state can be kept")
        memories = tuple(_memory(preset, layer) for layer in range(preset.layers))
        dtype = self.embedding.weight.dtype
        return LayeredCache(
            memories, batch=batch, capacity=capacity, dtype=dtype, device=self.device, state_dtype=state_dtype
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
        noise_level_B: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits `[B, S, V]`, as `Transformer` gives them.

        Args:
            tokens_BS: token ids.
            cache: from `new_cache`; None to attend to the given tokens alone.
            position: where the first of the tokens stands in its sequence.
            last_only: give the logits of the last position only, `[B, 1, V]`.
            rows_BS: see `Transformer`.
            causal: see `Transformer`.
            block_length: see `Transformer`.
            inputs_BSD: see `Transformer`.
            noise_level_B: noise level of each sequence, for networks that are told it; None for 0.
        """
        self._check_request(cache, position, rows_BS, causal, block_length)
        shared = self._share(
            tokens_BS, cache=cache, position=position, rows_BS=rows_BS, causal=causal, block_length=block_length
        )
        x_BSD = self._embed(tokens_BS, position, rows_BS) if inputs_BSD is None else inputs_BSD
        if self.noise_level is not None:
            if noise_level_B is None:
                noise_level_B = torch.zeros(tokens_BS.shape[0], device=self.device)
            shared = shared._replace(condition_BD=self.noise_level(noise_level_B))
        local, wide = shared, shared
        window = self.preset.window
        if window is not None and self.global_tables is not None:
            local, wide = self._split(shared, tokens_BS.shape[1], window, self._visible_block(causal, block_length))
        for layer, block in enumerate(self.blocks):
            x_BSD = block(x_BSD, wide if window is not None and window.is_global(layer) else local)
        if isinstance(cache, LayeredCache):
            cache.state_length = position + tokens_BS.shape[1]
        if last_only:
            x_BSD = x_BSD[:, -1:]
        x_BSD = self.norm(x_BSD) if shared.condition_BD is None else self.norm(x_BSD, shared.condition_BD)
        logits_BSV: torch.Tensor = self.head(x_BSD)
        cap = self.preset.logit_softcap
        return logits_BSV if cap is None else logits_BSV.div_(cap).tanh_().mul_(cap)

    def _check_request(
        self,
        cache: KVCache | None,
        position: int,
        rows_BS: torch.Tensor | None,
        causal: bool | None,
        block_length: int | None,
    ) -> None:
        preset = self.preset
        if rows_BS is not None and isinstance(cache, LayeredCache):
            raise WorkloadError(f"model preset {preset.name!r} takes its tokens side by side, not at rows")
        if preset.state_space is None:
            return
        if block_length is not None or causal not in (None, preset.is_causal):
            raise WorkloadError(f"model preset {preset.name!r} scans in the direction it was built for, no other")
        if isinstance(cache, LayeredCache) and position != cache.state_length:
            raise WorkloadError(
                f"model preset {preset.name!r}: a recurrent state takes each token once and in order; the next "
                f"position is {cache.state_length}, got {position}"
            )

    def _embed(self, tokens_BS: torch.Tensor, position: int, rows_BS: torch.Tensor | None = None) -> torch.Tensor:
        x_BSD: torch.Tensor = self.embedding(tokens_BS)
        if self.places is not None:
            if rows_BS is None:
                x_BSD.add_(self.places.weight[position : position + tokens_BS.shape[1]])
            else:
                x_BSD.add_(self.places(rows_BS))
        if self.preset.sandwich_norms:
            x_BSD.mul_(self.preset.d_model**0.5)
        return x_BSD

    def signal(self, probability_BSV: torch.Tensor) -> torch.Tensor:
        """Mean embedding `[B, S, D]` of the predicted tokens, for `denoise`."""
        table_VD = self.embedding.weight
        return (probability_BSV.to(table_VD.dtype) @ table_VD).mul_(self.preset.d_model**0.5)

    def denoise(
        self,
        tokens_BS: torch.Tensor,
        signal_BSD: torch.Tensor | None,
        *,
        cache: KVCache | None = None,
        position: int = 0,
    ) -> torch.Tensor:
        """Logits `[B, S, V]` of tokens that see each other and the cache, given the last step's signal; None is zero.

        Raises:
            WorkloadError: the network has no self-conditioning.
        """
        if self.self_conditioning is None:
            raise WorkloadError(f"model preset {self.preset.name!r} has no self-conditioning")
        x_BSD = self._embed(tokens_BS, position)
        signal_BSD = torch.zeros_like(x_BSD) if signal_BSD is None else signal_BSD
        inputs_BSD = self.self_conditioning(x_BSD, signal_BSD)
        return self.forward(tokens_BS, cache=cache, position=position, causal=False, inputs_BSD=inputs_BSD)

    def _split(self, shared: Shared, queries: int, window: SlidingWindow, block: int | None) -> tuple[Shared, Shared]:
        """What local and global layers share."""
        assert self.global_tables is not None
        at = slice(shared.position, shared.position + queries)
        cos_TC, sin_TC = self.global_tables
        wide = shared._replace(cos_S1C=cos_TC[at].unsqueeze(-2), sin_S1C=sin_TC[at].unsqueeze(-2))
        first_row = 0 if shared.cache is None else shared.position
        masking = window_masking(
            block, window.length, queries=queries, keys=shared.keys, first_row=first_row, device=self.device
        )
        return shared._replace(masking=masking), wide


def window_masking(
    block: int | None, length: int, *, queries: int, keys: int, first_row: int, device: torch.device
) -> Masking:
    """As `build_masking`, but no query sees keys `length` positions away or farther.

    A canvas no longer than the window sees all of itself, and all its rows the same keys before it (transformers,
    models/diffusion_gemma), which needs no mask.
    """
    first_key = max(0, first_row - length + 1)
    if block is None and keys - first_row <= length:
        return Masking(first_key=first_key)
    if first_row + queries <= length and (block is not None or keys <= length):
        return build_masking(block, queries=queries, keys=keys, first_row=first_row, device=device)
    if queries == 1 and first_row == keys - 1:
        return Masking(first_key=first_key)
    row_S1 = torch.arange(first_row, first_row + queries, device=device)[:, None]
    key_1T = torch.arange(first_key, keys, device=device)
    mask_ST = key_1T > row_S1 - length
    mask_ST &= key_1T < row_S1 + length if block is None else key_1T // block <= row_S1 // block
    return Masking(mask_ST=mask_ST, first_key=first_key)


def _memory(preset: ModelPreset, layer: int) -> LayerMemory:
    letter = preset.letter(layer)
    if preset.state_space is not None and letter in MIXES_STATE:
        return mamba_memory(preset.state_space)
    if letter not in MIXES_ATTENTION:
        return LayerMemory()
    if preset.latent_attention is not None:
        return latent_memory(preset.latent_attention)
    if preset.window is not None:
        return window_memory(preset, preset.window, layer)
    return LayerMemory(kv_heads=preset.kv_heads, key_width=preset.head_dim, value_width=preset.head_dim)


def _global_tables(
    preset: ModelPreset, window: SlidingWindow, *, dtype: torch.dtype, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary tables of global layers: the slower pairs of each head stand still (`proportional` in transformers)."""
    width = window.global_head_dim
    cos_TC, sin_TC = rotary_tables(preset.max_length, width, theta=window.global_rope_theta, dtype=dtype, device=device)
    turning = int(window.global_rotary_frac * width) // 2
    for half in (slice(turning, width // 2), slice(width // 2 + turning, width)):
        cos_TC[:, half].fill_(1)
        sin_TC[:, half].fill_(0)
    return cos_TC, sin_TC
