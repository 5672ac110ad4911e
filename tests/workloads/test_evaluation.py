import pytest
import torch

from workloads.errors import WorkloadError
from workloads.samplers.protocol import Generation, SamplerOptions
from workloads.samplers.registry import Sampler
from workloads.trained import sudoku
from workloads.trained.evaluation import evaluate, held_out_prompts


def complete(prompt: torch.Tensor) -> torch.Tensor:
    """The first full grid that keeps the clues, by search."""
    return next(grid for grid in sudoku.full_grids() if bool(((prompt == 0) | (prompt == grid)).all()))


def solve_some(model, prompt_BP, options):
    """Solves every second problem of a batch, whatever the network says."""
    answers = torch.stack([complete(row) if i % 2 == 0 else row * 0 + 1 for i, row in enumerate(prompt_BP)])
    return Generation(
        tokens=torch.cat((prompt_BP, answers), dim=1),
        prompt_length=16,
        committed_per_forward=(len(prompt_BP) * 16, 0),
        rows_per_forward=(1, 1),
    )


SAMPLER = Sampler(name="half", sample=solve_some, options_type=SamplerOptions, prepare=lambda model, options: model)


def test_right_answers_are_counted_exactly():
    seen = []
    found = evaluate(None, SAMPLER, {}, problems=12, batch=4, on_batch=lambda: seen.append(1))
    assert (found.solved, found.problems, found.batch) == (6, 12, 4)
    assert (found.forwards, found.committed) == ((2, 2, 2), (64, 64, 64))
    assert len(found.durations_s) == len(seen) == 3
    assert min(found.durations_s) > 0


def test_every_model_gets_the_same_held_out_problems():
    assert torch.equal(held_out_prompts(8), held_out_prompts(8))
    assert sudoku.is_held_out(held_out_prompts(8)).all()


@pytest.mark.parametrize(("problems", "batch"), [(10, 4), (0, 4), (4, 0)])
def test_batches_must_come_out_even(problems, batch):
    with pytest.raises(WorkloadError, match="positive multiple of batch"):
        evaluate(None, SAMPLER, {}, problems=problems, batch=batch)
