"""What samplers of masked diffusion share: the canvas of masks, blocks from left to right, commits per step.

Shape suffixes: B batch, P prompt positions, L prompt and generated positions.
"""

from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.samplers.protocol import Denoiser, SamplerOptions


def transfer_counts(masked: int, steps: int) -> tuple[int, ...]:
    """Tokens that each of a block's steps commits; the first steps take the remainder.

    >>> transfer_counts(8, 3)
    (3, 3, 2)
    """
    base, remainder = divmod(masked, steps)
    return tuple(base + (step < remainder) for step in range(steps))


def require_mask_id(model: Denoiser, sampler: str) -> int:
    """The network's mask token.

    Raises:
        WorkloadError: it has none.
    """
    if model.mask_id is None:
        raise WorkloadError(f"{sampler}: the network has no mask token; give a masked-diffusion model such as llada-8b")
    return model.mask_id


def append_masks(prompt_BP: torch.Tensor, gen_length: int, mask_id: int) -> torch.Tensor:
    """The prompts with `gen_length` masks behind each, `[B, P + gen_length]`."""
    batch, prompt_length = prompt_BP.shape
    tokens_BL = prompt_BP.new_full((batch, prompt_length + gen_length), mask_id)
    tokens_BL[:, :prompt_length].copy_(prompt_BP)
    return tokens_BL


def commits_without_values(assumed: int | None, device: torch.device, published: int) -> int | None:
    """Tokens per sequence that a step is taken to commit where confidences do not decide it; None where they do.

    Args:
        assumed: what the options ask for, on any device (random weights give no meaningful confidences either).
        device: on `meta` no confidence is known.
        published: taken on `meta` if nothing is assumed.
    """
    return published if assumed is None and device.type == "meta" else assumed


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOptions(SamplerOptions):
    """Options of samplers that fill blocks from left to right, each in the same number of steps.

    Attributes:
        steps: denoising steps over all blocks, None for one per token.
        block_length: tokens per block, None for a single block.
    """

    steps: int | None = None
    block_length: int | None = None

    def __post_init__(self) -> None:
        SamplerOptions.__post_init__(self)
        where = type(self).__module__.rpartition(".")[2]
        block, steps = self.tokens_per_block, self.gen_length if self.steps is None else self.steps
        if block <= 0 or self.gen_length % block:
            allowed = [n for n in range(1, self.gen_length + 1) if self.gen_length % n == 0]
            raise WorkloadError(
                f"{where}: block_length must divide gen_length = {self.gen_length} "
                f"({', '.join(map(str, allowed))}), got {block}"
            )
        blocks = self.gen_length // block
        if steps <= 0 or steps % blocks or steps > self.gen_length:
            raise WorkloadError(
                f"{where}: steps must be a multiple of the {blocks} blocks (gen_length {self.gen_length} / "
                f"block_length {block}), from {blocks} to {self.gen_length}, got {steps}"
            )

    @property
    def tokens_per_block(self) -> int:
        """Length of a block, the default filled in."""
        return self.gen_length if self.block_length is None else self.block_length

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.gen_length // self.tokens_per_block

    @property
    def steps_per_block(self) -> int:
        """Denoising steps of each block."""
        return (self.gen_length if self.steps is None else self.steps) // self.blocks
