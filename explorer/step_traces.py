"""One step of generation at a batch and a context, captured on meta: what serving repeats, without what led there."""

from dataclasses import dataclass, replace

import numpy as np

from explorer.errors import ExplorationError
from profiler.memory import memory_use
from profiler.traces import Trace

STEPS = {
    "ar": "decoding of one token, those before it cached",
    "masked_diffusion": "denoising step over the whole context",
    "block_diffusion": "denoising step of one block, the blocks before it cached",
}
_STEP_PHASES = ("decode", "sample", "denoise")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepTrace:
    """A step, and the memory that it needs.

    Attributes:
        trace: the calls of the step alone.
        needed_bytes: most bytes held while it runs, weights and cache included.
    """

    trace: Trace
    needed_bytes: int


def step_kind(program: str) -> tuple[str, int]:
    """(kind of step, most positions) of a model preset.

    >>> step_kind("ar-100m")
    ('ar', 4096)

    Raises:
        ExplorationError: a preset whose step is none of those that are known.
        WorkloadError: no preset.
    """
    from workloads.presets import load_preset  # noqa: PLC0415 - needs torch

    preset = load_preset(program)
    if preset.kind not in STEPS:
        raise ExplorationError(f"{program} is of kind {preset.kind}; steps are known of {', '.join(STEPS)}")
    return preset.kind, preset.max_length


def capture_step(program: str, *, batch: int, context: int, block_length: int) -> StepTrace:
    """Capture one step on meta.

    Args:
        program: a model preset; its kind says what a step is, see `STEPS`.
        batch: sequences.
        context: tokens of a sequence; the one that is decoded, or the block that is denoised, are among them.
        block_length: tokens of the block.

    Raises:
        ExplorationError: the context is no longer than what a step makes.
    """
    from profiler.capture import capture  # noqa: PLC0415 - needs torch, seconds to import
    from workloads.decode_step import build_decode_step  # noqa: PLC0415
    from workloads.programs import resolve_program  # noqa: PLC0415
    from workloads.samplers.choosing import FilterOptions  # noqa: PLC0415

    kind, _ = step_kind(program)
    least = 1 if kind == "ar" else block_length
    if context <= least:
        raise ExplorationError(f"{program}: a context of {context} tokens leaves none before the {least} of a step")
    if kind == "ar":
        run = build_decode_step(program, batch=batch, context=context - 1, options=FilterOptions(gen_length=1))
        with capture(name=program) as recording:
            run()
        return _step_of(recording.trace)
    ready = resolve_program(
        program,
        device="meta",
        batch=batch,
        prompt_length=context - block_length,
        gen_length=block_length,
        block_length=block_length,
        sampler_options={"assumed_commits": block_length} if kind == "block_diffusion" else {"steps": 1},
    )
    with capture(name=program, vocab_size=ready.vocab, seed=ready.seed) as recording:
        ready.run()
    return _step_of(recording.trace)


def _step_of(trace: Trace) -> StepTrace:
    """The first step of a trace; what was allocated for it, the cache above all, is held all the while."""
    phases = [number for number, name in enumerate(trace.phases) if name in _STEP_PHASES]
    chosen = np.isin(trace.calls.phase, phases)
    if not chosen.any():
        raise ExplorationError(f"{trace.name}: no step found among its phases {', '.join(filter(None, trace.phases))}")
    chosen &= trace.calls.step == trace.calls.step[chosen].min()
    given = trace.allocations
    held = replace(trace, allocations=replace(given, is_outside=np.ones_like(given.is_outside)))
    return StepTrace(trace=trace.select(chosen), needed_bytes=int(memory_use(held).total_bytes[chosen].max()))
