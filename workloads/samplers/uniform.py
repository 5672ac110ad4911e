"""What samplers of uniform-noise diffusion need besides a denoiser: the number of tokens that noise chooses from."""

from typing import Protocol

from workloads.samplers.protocol import Denoiser


class UniformDenoiser(Denoiser, Protocol):
    """A denoiser that says how many tokens it knows; where one of them is a mask, noise treats it like any other."""

    @property
    def vocab(self) -> int:
        """Width of the logits."""
