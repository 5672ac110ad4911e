"""Quality beside cost: sampler settings of the shipped models, each with its exact accuracy and what it cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from profiler.capture import capture
from profiler.summary import summarize
from profiler.traces import Trace
from reports.errors import ReportError
from reports.subject import Paradigm
from roofline.chip import Chip
from simulator.analytic import simulate
from workloads.samplers.registry import Sampler, load_sampler
from workloads.trained.catalog import load_trained
from workloads.trained.evaluation import Evaluation, batch_run, evaluate, held_out_prompts
from workloads.transformer import Transformer

_NORMAL_95 = 1.959964  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One point of a sweep: a model, a sampler, and values of its knobs.

    Attributes:
        model: a shipped trained model.
        sampler: name or Python file.
        options: (name, value) of the sampler's options.
        is_own: whether the user brought the sampler.
    """

    model: str
    sampler: str
    options: tuple[tuple[str, object], ...] = ()
    is_own: bool = False

    @property
    def knobs(self) -> str:
        """The options as text."""
        return ", ".join(f"{name}={value}" for name, value in self.options) or "defaults"

    @property
    def paradigm(self) -> Paradigm:
        """How it generates."""
        return "autoregressive" if self.sampler == "autoregressive" else "diffusion"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipCost:
    """What a problem costs on a chip, simulated; unknown energy is None."""

    chip: str
    simulated_s: float
    energy_j: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """A setting with its quality and its costs; all costs are per problem, a batch's divided by its problems.

    Attributes:
        setting: what ran.
        problems: problems posed.
        solved: problems answered right, exactly.
        batch: problems per batch.
        forwards: network evaluations of a batch, mean over the batches.
        tokens_per_forward: tokens made final per problem and evaluation.
        flops: counted, of the batch that was captured.
        bytes: counted, read and written, of the same batch.
        unknown_ops: names of operations whose FLOPs or bytes nobody knows; the counts leave them out.
        measured_s: median over the batches, on this machine.
        spread_s: half the distance between the quartiles of that time.
        chips: simulated costs.
    """

    setting: Setting
    problems: int
    solved: int
    batch: int
    forwards: float
    tokens_per_forward: float
    flops: float
    bytes: float
    unknown_ops: tuple[str, ...]
    measured_s: float
    spread_s: float
    chips: tuple[ChipCost, ...]

    @property
    def accuracy(self) -> float:
        """Share of problems answered right."""
        return self.solved / self.problems

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy."""
        return wilson_interval(self.solved, self.problems)


def wilson_interval(solved: int, problems: int) -> tuple[float, float]:
    """95 % interval of a binomial share (Wilson, J. Am. Stat. Assoc. 22, 1927); holds at shares of 0 and 1 too.

    >>> [round(edge, 3) for edge in wilson_interval(0, 100)]
    [0.0, 0.037]
    """
    share, z2 = solved / problems, _NORMAL_95**2
    middle = (share + z2 / (2 * problems)) / (1 + z2 / problems)
    half = _NORMAL_95 / (1 + z2 / problems) * math.sqrt(share * (1 - share) / problems + z2 / (4 * problems**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def measure_points(
    settings: Sequence[Setting],
    chips: Sequence[Chip],
    *,
    problems: int,
    batch: int,
    seed: int = 0,
    on_batch: Callable[[Setting], object] = lambda setting: None,
) -> tuple[OperatingPoint, ...]:
    """Run every distinct setting once over the same problems, and cost one captured batch of each.

    Args:
        settings: what to run.
        chips: what to simulate on.
        problems: problems per setting, a multiple of `batch`.
        batch: problems at a time.
        seed: of the samplers.
        on_batch: called with the setting after each batch.
    """
    models: dict[str, Transformer] = {}
    points: dict[Setting, OperatingPoint] = {}
    for setting in settings:
        if setting in points:
            continue
        model = models.setdefault(setting.model, load_trained(setting.model))
        sampler = load_sampler(setting.sampler)
        evaluation = evaluate(
            model,
            sampler,
            dict(setting.options),
            problems=problems,
            batch=batch,
            seed=seed,
            on_batch=lambda setting=setting: on_batch(setting),  # type: ignore[misc]  # a default binds the loop's value
        )
        trace = _captured_batch(model, sampler, setting, evaluation, seed)
        points[setting] = _point(setting, evaluation, trace, chips)
    return tuple(points[setting] for setting in dict.fromkeys(settings))


def _captured_batch(model: Transformer, sampler: Sampler, setting: Setting, evaluation: Evaluation, seed: int) -> Trace:
    """The trace of a batch whose number of forwards is the median: batches of a threshold sampler differ."""
    ordered = sorted(range(len(evaluation.forwards)), key=evaluation.forwards.__getitem__)
    number = ordered[len(ordered) // 2]
    first = number * evaluation.batch
    prompts = held_out_prompts(evaluation.problems)[first : first + evaluation.batch]
    run = batch_run(model, sampler, dict(setting.options), prompts, seed=seed + number)
    with capture(name=f"{setting.model}@{setting.sampler}", vocab_size=model.vocab, seed=seed) as recording:
        run()
    trace: Trace = recording.trace
    return trace


def _point(setting: Setting, evaluation: Evaluation, trace: Trace, chips: Sequence[Chip]) -> OperatingPoint:
    summary, batch = summarize(trace), evaluation.batch
    costs = []
    for chip in chips:
        result = simulate(trace, chip)
        energy_j = None if result.energy_j is None else result.energy_j / batch
        costs.append(ChipCost(chip=chip.name, simulated_s=result.makespan_s / batch, energy_j=energy_j))
    quarter, durations_s = len(evaluation.durations_s) // 4, sorted(evaluation.durations_s)
    return OperatingPoint(
        setting=setting,
        problems=evaluation.problems,
        solved=evaluation.solved,
        batch=batch,
        forwards=fmean(evaluation.forwards),
        tokens_per_forward=sum(evaluation.committed) / (batch * sum(evaluation.forwards)),
        flops=summary.flops / batch,
        bytes=summary.moved_bytes / batch,
        unknown_ops=tuple(name for name, _ in summary.unknown_ops),
        measured_s=median(durations_s) / batch,
        spread_s=(durations_s[-1 - quarter] - durations_s[quarter]) / 2 / batch,
        chips=tuple(costs),
    )


def check_distinct(settings: Sequence[Setting]) -> None:
    """Refuse an empty sweep.

    Raises:
        ReportError: there is nothing to run.
    """
    if not settings:
        raise ReportError("pareto: there is nothing to run; give a model that is shipped, or a sampler")


def knob_grid(knobs: Mapping[str, Sequence[object]]) -> list[tuple[tuple[str, object], ...]]:
    """Every combination of values, the last knob running fastest.

    >>> knob_grid({"steps": [2, 4], "temperature": [0.0]})
    [(('steps', 2), ('temperature', 0.0)), (('steps', 4), ('temperature', 0.0))]
    """
    grid: list[tuple[tuple[str, object], ...]] = [()]
    for name, values in knobs.items():
        grid = [(*chosen, (name, value)) for chosen in grid for value in values]
    return grid
