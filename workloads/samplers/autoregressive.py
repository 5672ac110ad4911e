"""Autoregressive decoding with prefill and KV cache: one token per forward, greedy or sampled (top-k, top-p).

Never stops early: every sequence gets `gen_length` tokens, as benchmarks want it.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions, V vocabulary.
"""

from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.markers import phase
from workloads.samplers.choosing import FilterOptions, draw_tokens
from workloads.samplers.protocol import Denoiser, Generation, make_generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(FilterOptions):
    """Options of autoregressive decoding: those that every sampler takes, top-k and top-p."""


@torch.inference_mode()
def sample(model: Denoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Continue each prompt by `options.gen_length` tokens.

    The prefill shows the whole prompt and computes logits for its last row only; each decode step then shows one row.
    A network without a cache is shown the whole sequence each time.

    Raises:
        WorkloadError: the prompt is empty.
    """
    batch, prompt_length = prompt_BP.shape
    if prompt_length == 0:
        raise WorkloadError("autoregressive: the prompt must have at least one token, got none")
    length = prompt_length + options.gen_length
    generator = make_generator(prompt_BP.device, options.seed)
    cache = model.new_cache(batch, length)
    tokens_BL = prompt_BP.new_empty((batch, length))
    tokens_BL[:, :prompt_length].copy_(prompt_BP)
    rows = []
    for step in range(options.gen_length):
        end = prompt_length + step
        start = 0 if step == 0 or cache is None else end - 1
        with phase("prefill") if step == 0 else phase("decode", step=step - 1):
            logits_B1V = model(tokens_BL[:, start:end], cache=cache, position=start, last_only=True)
            tokens_BL[:, end].copy_(choose_next(logits_B1V[:, -1], options, generator))
        rows.append(batch * (end - start))
    return Generation(
        tokens=tokens_BL,
        prompt_length=prompt_length,
        committed_per_forward=(batch,) * options.gen_length,
        rows_per_forward=tuple(rows),
    )


def choose_next(logits_BV: torch.Tensor, options: FilterOptions, generator: torch.Generator | None) -> torch.Tensor:
    """The most probable token `[B]`, or by temperature a sample from the filtered softmax."""
    if options.temperature == 0:
        return logits_BV.argmax(dim=-1)
    return draw_tokens(options.distribution(logits_BV), generator)
