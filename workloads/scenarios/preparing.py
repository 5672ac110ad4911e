"""A contender's part of a scenario, ready to run: which tokens are given, which are asked for, and what is cached.

Shape suffixes: B sequences, P prompt positions, G generated positions, L positions of the text.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from workloads.errors import WorkloadError
from workloads.rearranged import rearrange
from workloads.samplers.protocol import Generation, SamplerOptions, make_generator
from workloads.samplers.registry import Sampler, load_sampler
from workloads.scenarios.scenario import (
    FIM_MARKS,
    Contender,
    EditJob,
    FillJob,
    GenerateJob,
    InfillJob,
    Job,
    RolloutsJob,
    Way,
)
from workloads.scenarios.scoring import Scoring, score
from workloads.scenarios.views import KeptPrefix, NetworkView, SharedPrompts
from workloads.transformer import Transformer

_MARK = -1  # place of a token that does not belong to the text


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one run.

    Attributes:
        generation: what the sampler made.
        places: where each of its tokens stands in the text, -1 for marks; None where they stand in order.
        rows_per_forward: token rows that entered each network evaluation, forwards that score answers included.
        log_prob_BG: log-probabilities of the answers, None where nobody asked.
    """

    generation: Generation
    places: tuple[int, ...] | None
    rows_per_forward: tuple[int, ...]
    log_prob_BG: torch.Tensor | None = None  # noqa: N815 - a shape suffix

    @property
    def text(self) -> torch.Tensor:
        """Given and written tokens in the order of the text, `[B, L]`."""
        if self.places is None:
            return self.generation.tokens
        order = sorted((place, index) for index, place in enumerate(self.places) if place != _MARK)
        return self.generation.tokens[:, [index for _, index in order]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """Something to run and to measure.

    Attributes:
        run: does the job once; may be called again and gives the same.
        asked: tokens that the job asks for, over all sequences.
        written: tokens that the contender has to write for that, over all sequences.
        way: how a hole is filled, None for other jobs.
    """

    run: Callable[[], Outcome]
    asked: int
    written: int
    way: Way | None = None


def prepare(network: Transformer, contender: Contender, job: Job, text_BL: torch.Tensor, seed: int) -> PreparedJob:
    """Make everything ready that is not to be measured.

    Args:
        network: the contender's model.
        contender: its sampler and options.
        job: the job in one size.
        text_BL: token ids of the prompts; of the whole texts where holes are filled.
        seed: of the sampler.

    Raises:
        WorkloadError: the contender cannot do such a job.
    """
    if isinstance(job, InfillJob | EditJob):
        return _prepare_fill(network, contender, job, text_BL, seed)
    if isinstance(job, RolloutsJob):
        return _prepare_rollouts(network, contender, job, text_BL, seed)
    return _prepare_generation(network, contender, job, text_BL, seed)


def _prepare_generation(
    network: Transformer, contender: Contender, job: GenerateJob, prompt_BP: torch.Tensor, seed: int
) -> PreparedJob:
    sampler, options = sampler_of(contender, job.gen_length, seed)
    model = sampler.prepare(network, options)
    tokens = len(prompt_BP) * job.gen_length
    return PreparedJob(run=lambda: _run(sampler, model, prompt_BP, options), asked=tokens, written=tokens)


def _prepare_rollouts(
    network: Transformer, contender: Contender, job: RolloutsJob, prompt_BP: torch.Tensor, seed: int
) -> PreparedJob:
    sampler, options = sampler_of(contender, job.gen_length, seed)
    model = sampler.prepare(network, options)
    if model is network:
        model = SharedPrompts(network, job.samples)
    repeated_BP = prompt_BP.repeat_interleave(job.samples, dim=0)
    scoring = None
    if job.log_prob != "none":
        scoring = Scoring(
            estimator=job.log_prob,
            passes=job.log_prob_passes,
            micro_batch=job.micro_batch,
            p_mask_prompt=job.p_mask_prompt,
        )

    def run() -> Outcome:
        outcome = _run(sampler, model, repeated_BP, options)
        if scoring is None:
            return outcome
        generator = make_generator(prompt_BP.device, seed)
        scores = score(network, outcome.generation.tokens, job.prompt_length, scoring, generator)
        return Outcome(
            generation=outcome.generation,
            places=None,
            rows_per_forward=(*outcome.rows_per_forward, *scores.rows_per_forward),
            log_prob_BG=scores.log_prob_BG,
        )

    tokens = len(repeated_BP) * job.gen_length
    return PreparedJob(run=run, asked=tokens, written=tokens)


def _prepare_fill(
    network: Transformer, contender: Contender, job: FillJob, text_BL: torch.Tensor, seed: int
) -> PreparedJob:
    way = contender.way or usual_way(network)
    hole = [place for start, end in job.holes for place in range(start, end)]
    batch, length = text_BL.shape
    if way == "regenerate":
        first = hole[0]
        sampler, options = sampler_of(contender, length - first, seed)
        model = sampler.prepare(network, options)
        if isinstance(job, EditJob) and model is network:
            block = None if network.preset.is_causal else getattr(options, "block_length", None)
            model = KeptPrefix(network, text_BL, first, block)
        prompt_BP, places = text_BL[:, :first], None
    else:
        sampler, options = sampler_of(contender, len(hole), seed)
        if way == "hole":
            kept = [place for place in range(length) if place not in set(hole)]
            places = (*kept, *hole)
            prompt_BP = text_BL[:, kept]
            model = sampler.prepare(rearrange(network, places), options)
        else:
            places = _middle_last(job, length, contender.label)
            prompt_BP = _given(text_BL, places[: len(places) - len(hole)])
            model = sampler.prepare(network, options)
    return PreparedJob(
        run=lambda: _run(sampler, model, prompt_BP, options, places),
        asked=batch * len(hole),
        written=batch * options.gen_length,
        way=way,
    )


def usual_way(network: Transformer) -> Way:
    """How a network fills a hole: what was trained from left to right, by token or by block, sees nothing behind it."""
    return "regenerate" if network.preset.kind in {"ar", "block_diffusion"} else "hole"


def longest_text(job: Job) -> int:
    """Positions that a network must have for this job."""
    if isinstance(job, InfillJob | EditJob):
        return job.text_length
    return job.prompt_length + job.gen_length


def sampler_of(contender: Contender, gen_length: int, seed: int) -> tuple[Sampler, SamplerOptions]:
    """The contender's sampler, and its options for so many tokens.

    Raises:
        WorkloadError: the options of the sampler name a length, which belongs to the job.
    """
    sampler = load_sampler(contender.sampler)
    given = dict(contender.options)
    if "gen_length" in given:
        raise WorkloadError(
            f"contender {contender.label!r}: gen_length belongs to the job, not to the sampler's options"
        )
    if contender.tokens_per_step is not None:
        given["steps"] = -(-gen_length // contender.tokens_per_step)
    return sampler, sampler.build_options({"seed": seed, **given, "gen_length": gen_length})


def _run(
    sampler: Sampler,
    model: object,
    prompt_BP: torch.Tensor,
    options: SamplerOptions,
    places: tuple[int, ...] | None = None,
) -> Outcome:
    generation = sampler.sample(model, prompt_BP, options)
    if not isinstance(generation, Generation):
        raise WorkloadError(f"sampler {sampler.name!r} gave {type(generation).__name__} instead of a Generation")
    first, *rest = generation.rows_per_forward
    spared = sum(model.spared_rows) if isinstance(model, NetworkView) else 0  # only a prefill is ever shortened
    return Outcome(generation=generation, places=places, rows_per_forward=(first - spared, *rest))


def _middle_last(job: FillJob, length: int, label: str) -> tuple[int, ...]:
    """Layout of a fill-in-the-middle prompt: mark, prefix, mark, suffix, mark, and the hole to write."""
    if len(job.holes) > 1:
        raise WorkloadError(f"contender {label!r}: fim fills one hole, got {len(job.holes)} edits")
    ((start, end),) = job.holes
    layout = (_MARK, *range(start), _MARK, *range(end, length), _MARK, *range(start, end))
    assert layout.count(_MARK) == FIM_MARKS
    return layout


def _given(text_BL: torch.Tensor, places: tuple[int, ...]) -> torch.Tensor:
    """The tokens at these places; a mark is token 0, since no preset names one and work does not depend on it."""
    given_BP = text_BL[:, [max(place, 0) for place in places]]
    for index, place in enumerate(places):
        if place == _MARK:
            given_BP[:, index].fill_(0)
    return given_BP
