"""One step of decoding at a given context, as a serving engine repeats it: the network, and the choice of a token.

Shape suffixes: B sequences, V vocabulary.
"""

from collections.abc import Callable

import torch

from workloads.backbones import Backbone
from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.layered_cache import LayeredCache
from workloads.markers import phase
from workloads.mixture_of_experts import AssumedRouting
from workloads.preset_programs import build_transformer
from workloads.presets import load_preset
from workloads.program_request import DTYPES, ProgramRequest, check_dtype, check_positive
from workloads.samplers.autoregressive import choose_next
from workloads.samplers.choosing import FilterOptions
from workloads.samplers.protocol import make_generator
from workloads.transformer import Transformer


def build_decode_step(
    preset_name: str,
    *,
    batch: int,
    context: int,
    options: FilterOptions | None = None,
    dtype: str = "bfloat16",
    state_dtype: str | None = None,
    routing: AssumedRouting | None = None,
    uncompiled_mixers: bool = False,
) -> Callable[[], torch.Tensor]:
    """A step that adds one token to each of `batch` sequences that hold `context` tokens already.

    On `meta`, shapes only: there is no prefill, so the cache holds no values. The phases are `decode` for the
    network and `sample` for the choice.

    Args:
        preset_name: an autoregressive model preset.
        batch: sequences.
        context: tokens whose keys and values are cached before the step.
        options: how a token is chosen; None leaves the choice out.
        dtype: of weights, activations and cache.
        state_dtype: of recurrent states, which engines may keep in float32; None for `dtype`.
        routing: how tokens spread over experts; None for evenly.
        uncompiled_mixers: whether mixers of Mamba-2 are hidden from the compiler, as in vLLM up to 0.11.

    Returns:
        What runs the step: the tokens `[B]`, or the logits `[B, V]` without a choice.

    Raises:
        WorkloadError: the preset is not autoregressive, or a size cannot be.
    """
    preset = load_preset(preset_name)
    if preset.kind != "ar":
        raise WorkloadError(f"decode step: {preset.name} is of kind {preset.kind}; allowed: ar")
    request = ProgramRequest(
        spec=preset_name,
        device=torch.device("meta"),
        dtype=check_dtype(dtype, "meta"),
        batch=check_positive("batch", batch),
        seq_len=None,
        prompt_length=None,
        sampler=None,
        seed=0,
        sampler_options={},
    )
    model = build_transformer(request, preset, check_positive("context", context) + 1)
    if routing is not None and isinstance(model, Backbone):
        model.assume_routing(routing)
    if uncompiled_mixers and isinstance(model, Backbone):
        model.leave_mixers_uncompiled()
    kept_as = None if state_dtype is None else DTYPES[check_dtype(state_dtype, "meta")]
    tokens_B1 = request.random_tokens(preset.vocab, 1)
    generator = make_generator(request.device, 0)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        cache = _filled_cache(model, batch, context, kept_as)
        with phase("decode"):
            logits_BV: torch.Tensor = model(tokens_B1, cache=cache, position=context, last_only=True)[:, -1]
        if options is None:
            return logits_BV
        with phase("sample"):
            return choose_next(logits_BV, options, generator)

    return run


def _filled_cache(model: Transformer, batch: int, context: int, state_dtype: torch.dtype | None) -> KVCache:
    """A cache with room for one token more than the context that it is taken to hold."""
    if not isinstance(model, Backbone):
        return model.new_cache(batch, context + 1)
    cache = model.new_cache(batch, context + 1, state_dtype=state_dtype)
    if isinstance(cache, LayeredCache):
        cache.state_length = context
    return cache
