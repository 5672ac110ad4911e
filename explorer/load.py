"""Chips under load: one step of each program over batches and contexts, what it costs and what binds it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from explorer.errors import ExplorationError
from explorer.evaluate import what_binds
from explorer.step_traces import StepTrace, capture_step, step_kind
from profiler.serving_view import serving_view
from roofline.chip import Chip
from simulator import analytic
from simulator.plans import plan_ops

_NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """One program at one batch and context on one chip; figures are NaN where `why` says why there are none.

    Attributes:
        program: model preset.
        kind: of its step, a key of `STEPS`.
        chip: name.
        batch: sequences at a time.
        context: tokens of each, those of the step among them.
        step_s: time of a step.
        tokens_per_s: over the whole batch.
        joules_per_token: static power included; NaN on a chip without energy constants.
        memory_part: part of the kernels' time in which memory binds.
        compute_part: part in which the units do.
        needed_bytes: memory that the step needs.
        why: `out of memory`, or that the model has fewer positions; empty where there are figures.
    """

    program: str
    kind: str
    chip: str
    batch: int
    context: int
    step_s: float
    tokens_per_s: float
    joules_per_token: float
    memory_part: float
    compute_part: float
    needed_bytes: float
    why: str


def sweep(
    programs: Sequence[str],
    chips: Sequence[Chip],
    *,
    batches: Sequence[int],
    contexts: Sequence[int],
    block_length: int = 32,
    tokens_per_step: float = 1.0,
) -> Iterator[list[LoadPoint]]:
    """All chips at each program, context and batch, one capture a list; so a caller can show how far it is.

    Args:
        programs: model presets.
        chips: what they run on.
        batches: sequences at a time.
        contexts: tokens of each.
        block_length: tokens of the block that is denoised.
        tokens_per_step: tokens of each sequence that a step of denoising commits; one of decoding commits one.

    Raises:
        ExplorationError: nothing to sweep, or a number that cannot be.
    """
    for what, given in (("program", programs), ("chip", chips), ("batch", batches), ("context", contexts)):
        if not given:
            raise ExplorationError(f"load: no {what} given")
    for what, counts in (("batch", batches), ("context", contexts), ("block length", [block_length])):
        if min(counts) < 1:
            raise ExplorationError(f"load: {what} must be at least 1, got {min(counts)}")
    if not 0 < tokens_per_step <= block_length:
        raise ExplorationError(
            f"load: tokens per step must lie above 0 and at most at {block_length}, got {tokens_per_step}"
        )
    kinds = {program: step_kind(program) for program in programs}
    for program, (kind, positions) in kinds.items():
        tokens = 1.0 if kind == "ar" else tokens_per_step
        for context in contexts:
            for batch in batches:
                point = _Point(program=program, kind=kind, batch=batch, context=context, tokens=batch * tokens)
                if context > positions:
                    yield [point.missing(chip, f"the model has {positions:,} positions") for chip in chips]
                else:
                    step = capture_step(program, batch=batch, context=context, block_length=block_length)
                    yield point.on(chips, step)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """One program at one batch and context."""

    program: str
    kind: str
    batch: int
    context: int
    tokens: float

    def on(self, chips: Sequence[Chip], step: StepTrace) -> list[LoadPoint]:
        """The step on every chip."""
        view = serving_view(step.trace)
        plans = plan_ops(view.ops, chips)
        seconds = view.call_counts[:, None] * plans.duration_s
        memory_part, compute_part = ((seconds * bound).sum(axis=0) / seconds.sum(axis=0) for bound in what_binds(plans))
        points = []
        for c, chip in enumerate(chips):
            if step.needed_bytes > chip.main_memory.capacity_bytes:
                points.append(self.missing(chip, "out of memory", step.needed_bytes))
                continue
            result = analytic.simulate(view, chip)
            joules = _NAN if result.energy_j is None else result.energy_j / self.tokens
            points.append(
                self._filled(
                    chip,
                    step_s=result.makespan_s,
                    tokens_per_s=self.tokens / result.makespan_s,
                    joules_per_token=joules,
                    memory_part=float(memory_part[c]),
                    compute_part=float(compute_part[c]),
                    needed_bytes=float(step.needed_bytes),
                )
            )
        return points

    def missing(self, chip: Chip, why: str, needed_bytes: float = _NAN) -> LoadPoint:
        """No figures, and why."""
        return self._filled(chip, needed_bytes=needed_bytes, why=why)

    def _filled(
        self,
        chip: Chip,
        *,
        step_s: float = _NAN,
        tokens_per_s: float = _NAN,
        joules_per_token: float = _NAN,
        memory_part: float = _NAN,
        compute_part: float = _NAN,
        needed_bytes: float = _NAN,
        why: str = "",
    ) -> LoadPoint:
        return LoadPoint(
            program=self.program,
            kind=self.kind,
            chip=chip.name,
            batch=self.batch,
            context=self.context,
            step_s=step_s,
            tokens_per_s=tokens_per_s,
            joules_per_token=joules_per_token,
            memory_part=memory_part,
            compute_part=compute_part,
            needed_bytes=needed_bytes,
            why=why,
        )
