"""Whole models predicted beside what others measured: which program stands for a measurement, and how far off it is.

A serving step: every running sequence decodes one token, and prompts that arrived are prefilled in the same step, so
that the matrix products work on the rows of both. It is put together of three captures: what mixes tokens (attention,
convolutions, scans) and the choice of tokens at the batch; everything else at the rows of batch and prompts together;
mixing of a prompt.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from profiler.capture import capture
from profiler.expert_layers import serving_view
from profiler.traces import Trace
from reports.arriving_prompts import median_prompt_tokens, prompt_steps
from reports.whole_generations import predict_denoising, predict_denoising_text, predict_forward
from reports.whole_model_figures import MeasuredModel
from roofline.chipfile import load_chip
from simulator import analytic
from simulator.energy import holds_its_limit
from simulator.result import SimulationResult
from workloads.decode_step import build_decode_step
from workloads.mixture_of_experts import AssumedRouting
from workloads.presets import load_preset
from workloads.programs import resolve_program
from workloads.samplers.choosing import FilterOptions
from workloads.samplers.registry import convert_options

BoolArray = npt.NDArray[np.bool_]

# What must be reached, in percent: time of a step, and joules.
TIME_TARGET_PERCENT = {"decode_step": 12.0, "denoise_step": 15.0, "text_step": 20.0, "forward": 12.0}
JOULES_TARGET_PERCENT = 15.0
# The same for both, of decoding with a recurrent state or with experts.
WIDER_TARGET_PERCENT = 20.0
_ROUTING = AssumedRouting(independent=True)
_MIXING_KINDS = ("attention", "conv", "scan")  # their cost goes with sequences, not with rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Time on the chip and dynamic energy of some kernels."""

    time_s: float = 0.0
    dynamic_j: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(time_s=self.time_s + other.time_s, dynamic_j=self.dynamic_j + other.dynamic_j)

    def times(self, count: float) -> "Cost":
        """The cost of so many of them."""
        return Cost(time_s=self.time_s * count, dynamic_j=self.dynamic_j * count)


def predict_models(
    measured: tuple[MeasuredModel, ...], *, announce: Callable[[str], None] = lambda _: None
) -> pd.DataFrame:
    """Every measured model with its prediction, one row each.

    Columns: `model, program, task, detail, chip, batch, measured_s, predicted_s, time_error_percent, residual_s`, the
    same of the mean step of decoding, joules and power, and `source`; the residual is measured minus predicted time of
    a step. The measured mean step is what joules and power say it is: a step's joules over the power.
    """
    rows = []
    for one in measured:
        announce(f"{one.model}, batch {one.batch}")
        predicted_s, joules, power_w = _PREDICTED[one.program](one)
        known = one.joules_per_output if one.joules_per_output is not None else np.nan
        known_w = one.power_w if one.power_w is not None else np.nan
        per_joule = one.batch if one.program == "decode_step" else np.nan
        mean_s, predicted_mean_s = known * per_joule / known_w, joules * per_joule / power_w
        rows.append(
            {
                "model": one.model,
                "program": one.program,
                "task": one.task,
                "detail": _detail(one),
                "chip": one.chip,
                "batch": one.batch,
                "measured_s": one.latency_s,
                "predicted_s": predicted_s,
                "time_error_percent": 100.0 * (predicted_s / one.latency_s - 1.0),
                "residual_s": one.latency_s - predicted_s,
                "measured_mean_s": mean_s,
                "predicted_mean_s": predicted_mean_s,
                "mean_error_percent": 100.0 * (predicted_mean_s / mean_s - 1.0),
                "measured_j": known,
                "predicted_j": joules,
                "joules_error_percent": 100.0 * (joules / known - 1.0),
                "measured_w": known_w,
                "predicted_w": power_w,
                "power_error_percent": 100.0 * (power_w / known_w - 1.0),
                "source": one.source,
            }
        )
    return pd.DataFrame(rows)


def _detail(one: MeasuredModel) -> str:
    """What tells rows of one model and program apart, besides the batch: lengths of text, and what is cached."""
    if one.program == "forward":
        return f"{one.prompt:,} token{'s' * (one.prompt > 1)}" + (f" after {one.context:,}" if one.context else "")
    if one.program != "text_step":
        return one.task
    cache = dict(one.options).get("cache", "none")
    return f"{one.prompt:,} + {one.output:,} tokens" + ("" if cache == "none" else f", {cache} cache")


def summarize_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute error of each model, program, task and chip, in percent, beside what must be reached.

    Also the mean signed error of its times (+: too slow) and the mean absolute error of its power.
    """
    errors = frame.assign(
        time=frame["time_error_percent"].abs(),
        joules=frame["joules_error_percent"].abs(),
        power=frame["power_error_percent"].abs(),
    )
    table = errors.groupby(["model", "program", "task", "chip"], sort=False).agg(
        rows=("batch", "size"),
        time_mape_percent=("time", "mean"),
        time_bias_percent=("time_error_percent", "mean"),
        joules_mape_percent=("joules", "mean"),
        power_mape_percent=("power", "mean"),
    )
    table = table.reset_index()
    wider = np.array([_is_wider(model, program) for model, program in zip(table.model, table.program, strict=True)])
    time, joules = table["program"].map(TIME_TARGET_PERCENT), np.full(len(table), JOULES_TARGET_PERCENT)
    table["time_target_percent"] = np.where(wider, WIDER_TARGET_PERCENT, time)
    table["joules_target_percent"] = np.where(wider, WIDER_TARGET_PERCENT, joules)
    table.loc[table["joules_mape_percent"].isna(), "joules_target_percent"] = np.nan
    return table


def _is_wider(model: str, program: str) -> bool:
    """Whether a decoding model has experts or a recurrent state."""
    if program != "decode_step":
        return False
    preset = load_preset(model)
    return preset.moe is not None or preset.state_space is not None


def _serving(one: MeasuredModel) -> tuple[float, float, float]:
    """Time of the median step, joules per token and power of the mean step."""
    arriving = one.batch / one.output  # in a steady state, each step's end frees as many places as prompts arrive
    decoding = _decode_costs(one.model, one.chip, one.batch, one.context, one.sampling, one.state_dtype)
    prompt = _prompt_costs(one.model, one.chip, one.prompt)["mixing"]

    def step(tokens: float) -> Cost:
        rows = decoding["rows"]
        if tokens >= 1:
            rows = _decode_costs(one.model, one.chip, round(one.batch + tokens), 1, None, None)["rows"]
        return decoding["mixing"] + decoding["vocabulary"] + rows + prompt.times(tokens / one.prompt)

    median = step(median_prompt_tokens(arriving, one.prompt))
    mean_s, joules = 0.0, 0.0
    for share, tokens in prompt_steps(arriving, one.prompt):
        kind = step(tokens)
        mean_s += share * kind.time_s
        joules += share * _drawn_j(kind, one.chip)
    return median.time_s, joules / one.batch, joules / mean_s


_PREDICTED: dict[str, Callable[[MeasuredModel], tuple[float, float, float]]] = {
    "decode_step": _serving,
    "denoise_step": predict_denoising,
    "text_step": predict_denoising_text,
    "forward": predict_forward,
}


@cache
def _decode_costs(
    model: str,
    chip: str,
    batch: int,
    context: int,
    sampling: tuple[tuple[str, float], ...] | None,
    state_dtype: str | None,
) -> dict[str, Cost]:
    """Costs of a step of decoding: the network as a compiler fuses it, the choice of tokens kernel by kernel."""
    options = None
    if sampling is not None:
        given = {"gen_length": 1, **dict(sampling)}
        options = FilterOptions(**convert_options(FilterOptions, given, f"sampling of {model}"))
    run = build_decode_step(
        model, batch=batch, context=context, options=options, state_dtype=state_dtype, routing=_ROUTING
    )
    trace = _capture(model, run)
    parts = _split(serving_view(trace), model, chip, "decode")
    if options is not None:
        parts["vocabulary"] += _split(trace, model, chip, "sample")["vocabulary"]
    return parts


@cache
def _prompt_costs(model: str, chip: str, length: int) -> dict[str, Cost]:

    program = resolve_program(f"{model}@forward", device="meta", seq_len=length)
    return _split(serving_view(_capture(model, program.run)), model, chip)


def _split(trace: Trace, model: str, chip: str, phase: str | None = None) -> dict[str, Cost]:
    """Costs of what mixes tokens, of what works on the vocabulary, and of the rest, which works on rows."""
    vocab = load_preset(model).vocab
    parts = []
    for op in trace.ops:
        wide = op.kind != "gather" and any(vocab in operand.shape for operand in (*op.inputs, *op.outputs))
        parts.append("mixing" if op.kind in _MIXING_KINDS else "vocabulary" if wide else "rows")
    result = analytic.simulate(trace, replace(load_chip(chip), tdp_w=None))  # the limit holds for the step as a whole
    part_of_call = np.array(parts)[result.op]
    counted = np.ones(len(result.op), dtype=bool) if phase is None else result.phase == result.phases.index(phase)
    return {part: _cost(result, counted & (part_of_call == part)) for part in ("mixing", "vocabulary", "rows")}


def _cost(result: SimulationResult, chosen: BoolArray) -> Cost:
    """Cost of the chosen calls, [calls], back to back; NaN joules on a chip without energy constants."""
    joules = np.full(len(result.op_names), np.nan) if result.op_energy_j is None else result.op_energy_j
    return Cost(time_s=float(result.duration_s[chosen].sum()), dynamic_j=float(joules[result.op[chosen]].sum()))


def _drawn_j(cost: Cost, chip: str) -> float:
    """Joules of the cost, static power counted; clocks and voltage keep the mean power at the limit."""
    described = load_chip(chip)
    wanted_j = cost.dynamic_j + _static_w(chip) * cost.time_s
    if described.tdp_w is None or not holds_its_limit(described):
        return wanted_j
    return min(wanted_j, described.tdp_w * cost.time_s)


def _static_w(chip: str) -> float:

    energy = load_chip(chip).energy
    return float("nan") if energy is None else energy.static_w


def _capture(name: str, run: Callable[[], object]) -> Trace:

    with capture(name=name) as recording:
        run()
    return recording.trace
