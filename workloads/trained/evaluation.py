"""How often a sampler's answers are right, and what it asked of the network for them.

Shape suffixes: B problems, P cells of the prompt, G cells of the answer.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from workloads.errors import WorkloadError
from workloads.samplers.protocol import Denoiser, Generation
from workloads.samplers.registry import Sampler
from workloads.trained import sudoku

PROBLEM_SEED = 2024


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One sampler setting over many problems, in batches of the same number.

    Attributes:
        problems: how many were posed.
        solved: how many were answered right, exactly.
        batch: problems per batch.
        forwards: network evaluations of each batch.
        committed: tokens that each batch made final.
        durations_s: wall-clock time of each batch; the first, a warm-up, is run again.
    """

    problems: int
    solved: int
    batch: int
    forwards: tuple[int, ...]
    committed: tuple[int, ...]
    durations_s: tuple[float, ...]


def held_out_prompts(problems: int) -> torch.Tensor:
    """The same problems for every model, `[B, P]`, none of them met in training."""
    generator = torch.Generator().manual_seed(PROBLEM_SEED)
    return sudoku.draw_problems(problems, generator, held_out=True)[:, : sudoku.CELLS]


def evaluate(
    model: Denoiser,
    sampler: Sampler,
    options: Mapping[str, object],
    *,
    problems: int,
    batch: int,
    seed: int = 0,
    on_batch: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Pose held-out problems to a sampler and check every answer.

    Args:
        model: the network.
        sampler: turns its logits into tokens.
        options: the sampler's own options; `gen_length` and `seed` are added.
        problems: how many, a multiple of `batch`.
        batch: problems at a time.
        seed: of the sampler; batch number i runs under `seed + i`.
        on_batch: called after each batch.

    Raises:
        WorkloadError: the numbers do not fit, or the sampler takes no such options.
    """
    if batch <= 0 or problems <= 0 or problems % batch:
        raise WorkloadError(f"problems must be a positive multiple of batch = {batch}, got {problems}")
    prompt_BP = held_out_prompts(problems)
    solved, forwards, committed, durations_s = 0, [], [], []
    for number in range(problems // batch):
        part_BP = prompt_BP[number * batch : (number + 1) * batch]
        run = batch_run(model, sampler, options, part_BP, seed=seed + number)
        if number == 0:
            run()
        start_s = time.perf_counter()
        generation = run()
        durations_s.append(time.perf_counter() - start_s)
        solved += int(sudoku.is_solved(part_BP, generation.generated).sum())
        forwards.append(generation.nfe)
        committed.append(sum(generation.committed_per_forward))
        on_batch()
    return Evaluation(
        problems=problems,
        solved=solved,
        batch=batch,
        forwards=tuple(forwards),
        committed=tuple(committed),
        durations_s=tuple(durations_s),
    )


def batch_run(
    model: Denoiser, sampler: Sampler, options: Mapping[str, object], prompt_BP: torch.Tensor, *, seed: int
) -> Callable[[], Generation]:
    """One batch of answers, ready to run; what a sampler prepares is done before."""
    built = sampler.build_options({"seed": seed, **options, "gen_length": sudoku.CELLS})
    return partial(sampler.sample, sampler.prepare(model, built), prompt_BP, built)
