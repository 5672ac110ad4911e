"""What every sampler agrees on: the network that it asks, the options that it takes, the record that it returns.

A sampler is one file that defines

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Options(SamplerOptions): ...                                    # its own knobs; leave out if it has none

    @torch.inference_mode()
    def sample(model: Denoiser, prompt_BP: torch.Tensor, options: Options) -> Generation: ...

and whose docstring's first line says what it is. It runs on `meta` too, where tensors have shapes but no values:
how often it asks the network, and how many tokens it commits, must follow from the options there. Write parts of a
tensor by `part.fill_(x)` and `part.copy_(y)`: an assignment `t[i] = x` runs other operations on `meta`. A sampler that
needs more than logits (a drafter, a cache that recomputes chosen rows) says so by a protocol of its own that extends
`Denoiser`, and may define `prepare(model, options)`, which makes such a model of a plain one and is not measured. One
whose commits follow from confidences has an option `assumed_commits`, which takes their place where none are known.

Shape suffixes: B batch, P prompt positions, S positions of one forward, L prompt and generated positions, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from workloads.errors import WorkloadError
from workloads.kv_cache import KVCache


class Denoiser(Protocol):
    """A network that gives logits for every token that it is shown; `workloads.transformer.Transformer` is one."""

    @property
    def mask_id(self) -> int | None:
        """Token id of a masked position, None where the network knows none."""

    def new_cache(self, batch: int, capacity: int) -> KVCache | None:
        """An empty KV cache, or None where the network keeps none and is shown all tokens each time."""

    def __call__(
        self, tokens_BS: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
    ) -> torch.Tensor:
        """Logits `[B, S, V]`, or `[B, 1, V]` with `last_only`; they belong to the caller, who may write on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerOptions:
    """Options that every sampler takes; a sampler adds its own in a subclass named `Options`.

    Attributes:
        gen_length: tokens to generate per sequence.
        temperature: 0 takes the most probable token, 1 samples from the network's distribution.
        seed: seed of the sampler's randomness.
    """

    gen_length: int
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.gen_length <= 0:
            raise WorkloadError(f"gen_length must be > 0, got {self.gen_length}")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise WorkloadError(f"temperature must be finite and >= 0, got {self.temperature}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a sampler made, and what it asked of the network for it.

    Attributes:
        tokens: prompt and generated tokens `[B, L]`.
        prompt_length: how many of the columns are prompt.
        committed_per_forward: tokens made final by each network evaluation, over the whole batch.
        rows_per_forward: token rows that entered each network evaluation, over the whole batch (guidance that
            doubles the batch doubles the rows).
    """

    tokens: torch.Tensor
    prompt_length: int
    committed_per_forward: tuple[int, ...]
    rows_per_forward: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.committed_per_forward) != len(self.rows_per_forward):
            raise WorkloadError(
                f"generation: {len(self.committed_per_forward)} commits and {len(self.rows_per_forward)} row counts; "
                "each network evaluation needs one of both"
            )

    @property
    def nfe(self) -> int:
        """Network evaluations; one that runs a doubled batch counts once."""
        return len(self.rows_per_forward)

    @property
    def generated(self) -> torch.Tensor:
        """The generated tokens alone, `[B, L - prompt_length]`."""
        return self.tokens[:, self.prompt_length :]

    @property
    def tokens_per_forward(self) -> float:
        """Committed tokens per sequence and network evaluation."""
        return sum(self.committed_per_forward) / (self.tokens.shape[0] * self.nfe)


def make_generator(device: torch.device, seed: int) -> torch.Generator | None:
    """A seeded source of randomness on `device`; None on `meta`, where no number is drawn."""
    return None if device.type == "meta" else torch.Generator(device).manual_seed(seed)
