"""Networks and texts of a scenario: presets at full size with random tokens, trained models with their task.

Shape suffixes: B sequences, P prompt positions, L positions of the text.
"""

from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.preset_programs import build_transformer
from workloads.presets import load_preset
from workloads.program_request import ProgramRequest, check_device, check_dtype
from workloads.scenarios.preparing import Outcome, longest_text, prepare
from workloads.scenarios.scenario import (
    FIM_MARKS,
    Contender,
    EditJob,
    InfillJob,
    Job,
    RolloutsJob,
    Scenario,
)
from workloads.trained import sudoku
from workloads.trained.catalog import load_trained, trained_models
from workloads.trained.evaluation import PROBLEM_SEED
from workloads.transformer import Transformer


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuality:
    """Checked answers of a trained model.

    Attributes:
        answers: how many were checked.
        solved: how many were right, exactly.
        kept: in how many everything stands that was not asked for, as it did before; None where nothing could change.
        solved_once: problems that at least one of their samples solved; None without samples.
    """

    answers: int
    solved: int
    kept: int | None = None
    solved_once: int | None = None


def sequences_of(job: Job) -> int:
    """Prompts or texts of a job."""
    return job.prompts if isinstance(job, RolloutsJob) else job.batch


def build_network(scenario: Scenario, contender: Contender, job: Job) -> Transformer:
    """The contender's model, for this scenario's device.

    Raises:
        WorkloadError: it is unknown, has too few positions, or does not fit this machine.
    """
    if scenario.task == "sudoku":
        return load_trained(contender.model)
    if contender.model in trained_models():
        raise WorkloadError(f"contender {contender.label!r}: trained models belong to task sudoku")
    extra = FIM_MARKS if contender.way == "fim" else 0
    return build_transformer(
        _request(scenario, contender, job), load_preset(contender.model), longest_text(job) + extra
    )


def given_tokens(scenario: Scenario, contender: Contender, job: Job, network: Transformer) -> torch.Tensor:
    """The first batch of prompts `[B, P]`, or of whole texts `[B, L]` where holes are filled."""
    if scenario.task == "sudoku":
        return _sudoku_texts(scenario, job)[: sequences_of(job), : _given_length(job)]
    length = _given_length(job)
    return _request(scenario, contender, job).random_tokens(
        network.preset.vocab, length, excluded=network.preset.mask_id
    )


def check_answers(scenario: Scenario, contender: Contender, job: Job, network: Transformer) -> TaskQuality:
    """Pose all problems of the task in batches, and check what is written.

    Raises:
        WorkloadError: the problems are no multiple of the batch, or the job is not of the task's size.
    """
    texts_BL, batch = _sudoku_texts(scenario, job), sequences_of(job)
    answers, solved, kept, once = 0, 0, 0, 0
    samples = job.samples if isinstance(job, RolloutsJob) else 1
    for number, part_BL in enumerate(torch.split(texts_BL, batch)):
        given_BL = part_BL[:, : _given_length(job)]
        outcome = prepare(network, contender, job, given_BL, scenario.seed + number).run()
        is_solved_B = sudoku.is_solved(part_BL[:, : sudoku.CELLS].repeat_interleave(samples, 0), _answers(outcome))
        answers += len(is_solved_B)
        solved += int(is_solved_B.sum())
        once += int(is_solved_B.view(-1, samples).any(dim=-1).sum())
        if isinstance(job, InfillJob | EditJob):
            kept += int(_is_kept(part_BL, outcome.text, job).sum())
    return TaskQuality(
        answers=answers,
        solved=solved,
        kept=kept if isinstance(job, InfillJob | EditJob) else None,
        solved_once=once if isinstance(job, RolloutsJob) else None,
    )


def _request(scenario: Scenario, contender: Contender, job: Job) -> ProgramRequest:
    return ProgramRequest(
        spec=contender.label,
        device=check_device(scenario.device),
        dtype=check_dtype(scenario.dtype, scenario.device),
        batch=sequences_of(job),
        seq_len=None,
        prompt_length=None,
        sampler=contender.sampler,
        seed=scenario.seed,
        sampler_options={},
    )


def _given_length(job: Job) -> int:
    return job.text_length if isinstance(job, InfillJob | EditJob) else job.prompt_length


def _answers(outcome: Outcome) -> torch.Tensor:
    return outcome.text[:, sudoku.CELLS :]


def _is_kept(text_BL: torch.Tensor, written_BL: torch.Tensor, job: InfillJob | EditJob) -> torch.Tensor:
    """Which texts are what they were outside of the holes; bool `[B]`."""
    is_outside_L = torch.ones(text_BL.shape[1], dtype=torch.bool)
    for start, end in job.holes:
        is_outside_L[start:end] = False
    is_kept_B: torch.Tensor = ((text_BL == written_BL) | ~is_outside_L).all(dim=-1)
    return is_kept_B


def _sudoku_texts(scenario: Scenario, job: Job) -> torch.Tensor:
    """All problems with one right answer each, `[N, L]`, none of them met in training."""
    cells, length = sudoku.CELLS, 2 * sudoku.CELLS
    if isinstance(job, InfillJob | EditJob):
        if job.text_length != length or job.holes[0][0] < cells:
            raise WorkloadError(
                f"job: task sudoku has texts of {length} tokens, whose answer begins at {cells}; got a text of "
                f"{job.text_length} with a hole at {job.holes[0][0]}"
            )
    elif (job.prompt_length, job.gen_length) != (cells, cells):
        raise WorkloadError(
            f"job: task sudoku has prompts and answers of {cells} tokens, got {job.prompt_length} and {job.gen_length}"
        )
    if scenario.problems % sequences_of(job):
        raise WorkloadError(
            f"problems must be a multiple of the {sequences_of(job)} of a batch, got {scenario.problems}"
        )
    generator = torch.Generator().manual_seed(PROBLEM_SEED)
    return sudoku.draw_problems(scenario.problems, generator, held_out=True)
