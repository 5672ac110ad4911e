"""Whole models predicted beside what others measured: which program stands for a measurement, and how far off it is."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from reports.serving_steps import predict_serving
from reports.whole_generations import predict_denoising, predict_denoising_text, predict_forward
from reports.whole_model_figures import MeasuredModel
from workloads.presets import load_preset

# What must be reached, in percent: time of a step, and joules.
TIME_TARGET_PERCENT = {"decode_step": 12.0, "denoise_step": 15.0, "text_step": 20.0, "forward": 12.0}
JOULES_TARGET_PERCENT = 15.0
# The same for both, of decoding with a recurrent state or with experts.
WIDER_TARGET_PERCENT = 20.0
_WAITS = ", device waits"


def predict_models(
    measured: tuple[MeasuredModel, ...], *, announce: Callable[[str], None] = lambda _: None
) -> pd.DataFrame:
    """Every measured model with its prediction, one row each.

    Columns: `model, program, task, waits, detail, chip, batch, measured_s, predicted_s, time_error_percent,
    residual_s`, the same of the mean step of decoding, joules and power, and `source`; the residual is measured minus
    predicted time of a step. The measured mean step is what joules and power say it is: a step's joules over the power.
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
                "waits": one.waits,
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
        return one.task + (_WAITS if one.waits else "")
    cache = dict(one.options).get("cache", "none")
    return f"{one.prompt:,} + {one.output:,} tokens" + ("" if cache == "none" else f", {cache} cache")


def summarize_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean absolute error of each model, program, task and chip, in percent, beside what must be reached.

    Also the mean signed error of its times (+: too slow) and the mean absolute error of its power. Steps in which the
    device waits for its host are apart and have no target: how fast that host is, is not known.
    """
    errors = frame.assign(
        time=frame["time_error_percent"].abs(),
        joules=frame["joules_error_percent"].abs(),
        power=frame["power_error_percent"].abs(),
    )
    table = errors.groupby(["model", "program", "task", "chip", "waits"], sort=False).agg(
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
    table["task"] = table["task"].where(~table["waits"], table["task"] + _WAITS)
    table["joules_target_percent"] = np.where(wider, WIDER_TARGET_PERCENT, joules)
    table.loc[table["joules_mape_percent"].isna(), "joules_target_percent"] = np.nan
    table.loc[table["waits"], ["time_target_percent", "joules_target_percent"]] = np.nan
    return table


def _is_wider(model: str, program: str) -> bool:
    """Whether a decoding model has experts or a recurrent state."""
    if program != "decode_step":
        return False
    preset = load_preset(model)
    return preset.moe is not None or preset.state_space is not None


_PREDICTED: dict[str, Callable[[MeasuredModel], tuple[float, float, float]]] = {
    "decode_step": predict_serving,
    "denoise_step": predict_denoising,
    "text_step": predict_denoising_text,
    "forward": predict_forward,
}
