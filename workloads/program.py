"""`Program`: something ready to run."""

from collections.abc import Callable
from dataclasses import dataclass

from workloads.presets import ModelPreset


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Something ready to run.

    Attributes:
        name: the text that it was built from.
        description: what it does, one line.
        run: runs it once; may be called again and gives the same.
        device: where it runs, `cpu`, `cuda` or `meta`.
        dtype: type of weights and activations, None where the program decides.
        parameters_count: parameters of its network, None where unknown.
        vocab: width of its logits, None where unknown.
        preset: the model preset, where there is one.
        seed: seed of weights and prompt, and of sampling where the sampler's options give it no other.
        notes: what a reader should know of it, one sentence each.
    """

    name: str
    description: str
    run: Callable[[], object]
    device: str
    dtype: str | None = None
    parameters_count: int | None = None
    vocab: int | None = None
    preset: ModelPreset | None = None
    seed: int = 0
    notes: tuple[str, ...] = ()
