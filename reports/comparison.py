"""Samplers side by side on the same model and task: what each asked of the network and what that costs on a chip."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from profiler.capture import capture
from profiler.traces import Trace
from reports.errors import ReportError
from reports.subject import Subject
from reports.summary_rows import summary_frame
from roofline.chip import Chip
from simulator.analytic import simulate
from workloads.programs import resolve_program
from workloads.samplers.protocol import Generation

COLUMNS = (
    "sampler", "forwards", "tokens_per_forward", "backbone_rows", "flops", "bytes", "weights_share", "intensity",
    "bound_by", "bound_s", "simulated_s", "simulated_tokens_per_s", "j_per_token", "measured_s",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way of generating in a comparison.

    Attributes:
        label: as the user wrote it.
        program: what `resolve_program` understands: `MODEL@SAMPLER`.
        options: (name, text) of the sampler's own options.
    """

    label: str
    program: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What every contender generates."""

    device: str
    dtype: str | None
    batch: int
    prompt_length: int
    gen_length: int
    seed: int = 0


def parse_contender(text: str, model: str) -> Contender:
    """Read `[MODEL@]SAMPLER[:key=value,...]`; a sampler is a name or a Python file.

    Raises:
        ReportError: what stands behind the colon is not KEY=VALUE.

    >>> parse_contender("fast_dllm:cache=dual,threshold=0.9", "llada-8b").options
    (('cache', 'dual'), ('threshold', '0.9'))
    >>> parse_contender("llama-3.1-8b@autoregressive", "llada-8b").program
    'llama-3.1-8b@autoregressive'
    """
    name, colon, rest = text.partition(":")
    if colon and rest and "=" not in rest:
        raise ReportError(f"sampler {text!r}: options must be KEY=VALUE behind the colon, got {rest!r}")
    options = []
    for option in rest.split(",") if rest else []:
        key, separator, value = option.partition("=")
        if not (key and separator):
            raise ReportError(f"sampler {text!r}: options must be KEY=VALUE, got {option!r}")
        options.append((key.strip(), value.strip()))
    program = name if "@" in name else f"{model}@{name}"
    return Contender(label=text, program=program, options=tuple(options))


def run_contender(contender: Contender, task: Task, chip: Chip) -> tuple[Subject, Generation]:
    """Generate once (after a warm-up where it really runs), record it, and simulate it on a chip.

    Raises:
        ReportError: the sampler gave no generation.
    """
    program = resolve_program(
        contender.program,
        device=task.device,
        dtype=task.dtype,
        batch=task.batch,
        prompt_length=task.prompt_length,
        gen_length=task.gen_length,
        seed=task.seed,
        sampler_options=dict(contender.options),
    )
    if task.device != "meta":
        program.run()
    with capture(name=contender.label, vocab_size=program.vocab, seed=task.seed) as recording:
        generation = program.run()
    if not isinstance(generation, Generation):
        raise ReportError(f"{contender.label}: gave {type(generation).__name__} instead of a generation")
    trace: Trace = recording.trace
    subject = Subject(
        label=contender.label,
        trace=trace,
        chip=chip,
        paradigm="autoregressive" if contender.program.endswith("@autoregressive") else "diffusion",
        simulation=simulate(trace, chip),
        tokens=task.batch * task.gen_length,
        nfe=generation.nfe,
    )
    return subject, generation


def comparison_table(subjects: Sequence[Subject], generations: Sequence[Generation]) -> pd.DataFrame:
    """One row per contender with `COLUMNS`; counted, predicted and measured figures each under their own name.

    `backbone_rows` are the token rows that entered the network over all forwards.
    """
    table = summary_frame(subjects)
    table["sampler"] = table["subject"]
    table["forwards"] = [generation.nfe for generation in generations]
    table["tokens_per_forward"] = [generation.tokens_per_forward for generation in generations]
    table["backbone_rows"] = [sum(generation.rows_per_forward) for generation in generations]
    return table[list(COLUMNS)]
