"""Accounting of samplers whose steps commit as many tokens as chance wants: forwards, rows and commits.

On `meta` nothing shows what a step commits; there the expectation under log-linear noise is written down.

Shape suffixes: B batch, G generated positions.
"""

import itertools
import math
from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.samplers.protocol import Generation, SamplerOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions(SamplerOptions):
    """Options of samplers that go from noise to text in a number of steps, and draw by the network's distribution.

    Attributes:
        temperature: 1 samples from the network's distribution, 0 takes the most probable clean tokens.
        steps: denoising steps, None for one per token.
    """

    temperature: float = 1.0
    steps: int | None = None

    def __post_init__(self) -> None:
        SamplerOptions.__post_init__(self)
        if self.steps is not None and self.steps <= 0:
            where = type(self).__module__.rpartition(".")[2]
            raise WorkloadError(f"{where}: steps must be > 0, got {self.steps}")

    @property
    def steps_count(self) -> int:
        """Number of steps, the default filled in."""
        return self.gen_length if self.steps is None else self.steps


def expected_changes(steps: int, tokens: int, span: float = 1.0) -> float:
    """Expected number of steps that reveal at least one of `tokens` masks, each in a step with chance `span / steps`.

    Log-linear noise on an even grid reveals a mask in each step with the same chance, whatever the others do.

    >>> expected_changes(2, 2)  # both in the same step with probability 1/2, else one in each
    1.5
    """
    return float(steps * (1 - (1 - span / steps) ** tokens))


def spread(total: float, steps: int) -> tuple[bool, ...]:
    """Which of the steps are taken, if about `total` of them are, evenly spread.

    >>> spread(2.0, 4)
    (True, False, True, False)
    """
    taken = [math.floor(total * step / max(steps, 1) + 0.5) for step in range(steps + 1)]
    return tuple(after > before for before, after in itertools.pairwise(taken))


def assumed_reuse(steps: int, tokens: int, span: float) -> tuple[bool, ...]:
    """Whether the step before is taken to have revealed something, for each step; the first has none before it."""
    return (True, *spread(expected_changes(steps, tokens, span) * (steps - 1) / steps, steps - 1))


class Ledger:
    """Keeps the books while masks are filled in place: what each forward showed and what was committed from it.

    The masks that are left are counted on the device, and read when somebody asks.
    """

    def __init__(self, watched_BG: torch.Tensor, mask_id: int, rows: int) -> None:
        """Watch the masks of `watched_BG`; each forward shows `rows` rows."""
        self._watched_BG = watched_BG
        self._mask_id = mask_id
        self._rows = rows
        self._is_known = watched_BG.device.type != "meta"
        self._left = [self._count()]
        self._expected_left = [watched_BG.numel()]
        self._forward_of_count = [-1]
        self._forwards = 0

    def _count(self) -> torch.Tensor:
        return (self._watched_BG == self._mask_id).sum()

    def count_forward(self) -> None:
        """One network evaluation has happened."""
        self._forwards += 1

    def count_commits(self, *, expected_left: float) -> None:
        """Credit the last forward with the masks filled since; on `meta` all but a share `expected_left` are."""
        self._left.append(self._count())
        self._expected_left.append(round(self._expected_left[0] * expected_left))
        self._forward_of_count.append(self._forwards - 1)

    def changed(self, assumed: bool) -> bool:
        """Whether the last step filled any mask; on `meta`, what is assumed."""
        return bool(self._left[-1] < self._left[-2]) if self._is_known else assumed

    def generation(self, tokens_BL: torch.Tensor, prompt_length: int) -> Generation:
        """The record of it all."""
        left = torch.stack(self._left)
        counts = left.tolist() if self._is_known else self._expected_left
        committed = [0] * self._forwards
        for forward, (before, after) in zip(self._forward_of_count[1:], itertools.pairwise(counts), strict=True):
            committed[forward] += before - after
        return Generation(
            tokens=tokens_BL,
            prompt_length=prompt_length,
            committed_per_forward=tuple(committed),
            rows_per_forward=(self._rows,) * self._forwards,
        )
