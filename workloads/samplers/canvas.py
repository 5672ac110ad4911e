"""Canvas: uniform-noise diffusion of a whole block of random tokens, accepted by entropy, as DiffusionGemma does it.

After google-deepmind/gemma, gemma/diffusion/_sampler.py. A causal prefill; then per canvas up to `steps_per_canvas`
bidirectional forwards of its rows against the cache, self-conditioned on the last prediction. Each step draws all rows
at a temperature that falls linearly with the noise level, accepts rows by rising entropy while the entropies of those
before sum to at most `entropy_bound`, and replaces all others by random tokens; rows accepted before may change again.
A sequence stops when the most probable tokens equal the canvas shown and the mean entropy is at most `stop_entropy`;
rows that its last step did not accept stay random, as in that code. A last causal forward stores the keys and values.
Leaves out stop tokens and sliding windows. Not an exact sampler of any distribution for canvases of several tokens.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions, S positions of the canvas, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache
from workloads.markers import phase
from workloads.samplers.choosing import select_low_entropy
from workloads.samplers.masked import append_masks, commits_without_values
from workloads.samplers.noise import race, random_tokens
from workloads.samplers.protocol import Generation, SamplerOptions, make_generator
from workloads.samplers.uniform import UniformDenoiser
from workloads.self_conditioning import SelfConditioned
from workloads.transformer import Transformer

PUBLISHED_COMMITS = 17  # 15 to 20 tokens per forward (vLLM blog on DiffusionGemma), canvases of 256


class CanvasDenoiser(UniformDenoiser, Protocol):
    """A denoiser that can be shown its own last prediction; `workloads.self_conditioning.SelfConditioned` is one."""

    def signal(self, probability_BSV: torch.Tensor) -> torch.Tensor:
        """What the next step is to know of this prediction, `[B, S, D]`."""

    def denoise(
        self,
        tokens_BS: torch.Tensor,
        signal_BSD: torch.Tensor | None,
        *,
        cache: KVCache | None = None,
        position: int = 0,
    ) -> torch.Tensor:
        """Logits `[B, S, V]` of tokens that see each other and the cache; signal None is the first step."""

    def __call__(
        self,
        tokens_BS: torch.Tensor,
        *,
        cache: KVCache | None = None,
        position: int = 0,
        last_only: bool = False,
        causal: bool | None = None,
    ) -> torch.Tensor:
        """Logits, as of a `Denoiser`, for storing keys and values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(SamplerOptions):
    """Options of the canvas sampler.

    Attributes:
        temperature: at full noise; 0 takes the most probable tokens throughout.
        last_temperature: at no noise, None for half of `temperature`.
        canvas_length: positions of a canvas; the last one ends where the sequence does.
        steps_per_canvas: most denoising steps of a canvas.
        entropy_bound: nats that the entropies of accepted rows, the last left out, may sum to.
        stop_entropy: mean entropy in nats, of all rows, at which a settled canvas is finished.
        assumed_commits: tokens per sequence and step that a canvas is taken to need its steps for, in place of the stop
            rule; None lets values decide, and takes 17 on `meta`.
    """

    temperature: float = 0.8
    last_temperature: float | None = None
    canvas_length: int = 256
    steps_per_canvas: int = 48
    entropy_bound: float = 0.1
    stop_entropy: float = 0.005
    assumed_commits: int | None = None

    def __post_init__(self) -> None:
        SamplerOptions.__post_init__(self)
        for name in ("canvas_length", "steps_per_canvas", "assumed_commits"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise WorkloadError(f"canvas: {name} must be > 0, got {value}")
        for name in ("entropy_bound", "stop_entropy"):
            if not getattr(self, name) >= 0:
                raise WorkloadError(f"canvas: {name} must be >= 0, got {getattr(self, name)}")
        if self.last_temperature is not None and not 0 <= self.last_temperature <= self.temperature:
            raise WorkloadError(
                f"canvas: last_temperature must lie in 0..temperature = {self.temperature}, got {self.last_temperature}"
            )

    def temperature_at(self, noise: float) -> float:
        """Linear from `last_temperature` at noise 0 to `temperature` at noise 1."""
        last = self.temperature / 2 if self.last_temperature is None else self.last_temperature
        return last + noise * (self.temperature - last)


def prepare(model: UniformDenoiser, options: Options) -> UniformDenoiser:
    """Give a transformer its self-conditioning network, before anything is measured."""
    if isinstance(model, Transformer) and model.preset.self_conditioning_ffn is None:
        return SelfConditioned(model, seed=options.seed)
    return model


@torch.inference_mode()
def sample(model: CanvasDenoiser, prompt_BP: torch.Tensor, options: Options) -> Generation:
    """Generate `options.gen_length` tokens behind each prompt, canvas by canvas."""
    batch, prompt_length = prompt_BP.shape
    length = prompt_length + options.gen_length
    generator = make_generator(prompt_BP.device, options.seed)
    cache = model.new_cache(batch, length)
    tokens_BL = append_masks(prompt_BP, options.gen_length, 0)
    committed: list[int] = []
    rows: list[int] = []
    if cache is not None and prompt_length > 0:
        with phase("prefill"):
            model(prompt_BP, cache=cache, last_only=True, causal=True)
        committed.append(0)
        rows.append(batch * prompt_length)
    step = 0
    for number, start in enumerate(range(prompt_length, length, options.canvas_length)):
        end = min(start + options.canvas_length, length)
        canvas = _Canvas(model, tokens_BL[:, start:end], options, generator)
        while not canvas.is_finished:
            with phase("denoise", step=step):
                canvas.step(cache, start)
            committed.append(0)
            rows.append(batch * (end - start))
            step += 1
        committed[-1] = batch * (end - start)
        if cache is not None:
            with phase("store_kv", step=number):
                model(tokens_BL[:, start:end], cache=cache, position=start, last_only=True, causal=True)
            committed.append(0)
            rows.append(batch * (end - start))
    return Generation(
        tokens=tokens_BL,
        prompt_length=prompt_length,
        committed_per_forward=tuple(committed),
        rows_per_forward=tuple(rows),
    )


class _Canvas:
    """One canvas from random tokens to its stop; sequences that have stopped wait for the others."""

    def __init__(
        self, model: CanvasDenoiser, tokens_BS: torch.Tensor, options: Options, generator: torch.Generator | None
    ) -> None:
        self.model = model
        self.tokens_BS = tokens_BS
        self.options = options
        self.generator = generator
        self.signal_BSD: torch.Tensor | None = None
        self.done_B = torch.zeros(tokens_BS.shape[0], dtype=torch.bool, device=tokens_BS.device)
        self.steps = 0
        self.is_finished = False
        assumed = commits_without_values(options.assumed_commits, tokens_BS.device, PUBLISHED_COMMITS)
        steps = options.steps_per_canvas if assumed is None else math.ceil(tokens_BS.shape[1] / assumed)
        self.last_step = min(steps, options.steps_per_canvas)
        self.can_stop = assumed is None
        tokens_BS.copy_(random_tokens(tokens_BS, model.vocab, generator))

    def step(self, cache: KVCache | None, position: int) -> None:
        """One forward, and the canvas that follows from it."""
        temperature = self.options.temperature_at(1 - self.steps / self.options.steps_per_canvas)
        tokens_BS = self.tokens_BS
        logits_BSV = self.model.denoise(tokens_BS, self.signal_BSD, cache=cache, position=position).float()
        if temperature > 0:
            logits_BSV = logits_BSV / temperature
        log_BSV = torch.log_softmax(logits_BSV, dim=-1)
        probability_BSV = log_BSV.exp()
        entropy_BS = -(probability_BSV * log_BSV.masked_fill(probability_BSV == 0, 0.0)).sum(dim=-1)
        likely_BS = logits_BSV.argmax(dim=-1)
        drawn_BS = likely_BS if temperature == 0 else race(probability_BSV, self.generator, torch.float32)
        selected_BS = select_low_entropy(entropy_BS, self.options.entropy_bound, counts_itself=False)
        noise_BS = random_tokens(tokens_BS, self.model.vocab, self.generator)
        next_BS = torch.where(selected_BS, drawn_BS, noise_BS)
        is_settled_B = (likely_BS == tokens_BS).all(dim=-1) & (entropy_BS.mean(dim=-1) <= self.options.stop_entropy)
        tokens_BS.copy_(torch.where(self.done_B[:, None], tokens_BS, next_BS))
        self.done_B = self.done_B | is_settled_B
        self.signal_BSD = self.model.signal(probability_BSV)
        self.steps += 1
        self.is_finished = self.steps == self.last_step or (self.can_stop and bool(self.done_B.all()))
