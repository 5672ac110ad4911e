"""Steps of image models, diffusion language models and others in eager PyTorch, predicted as others measured them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from profiler.capture import capture
from profiler.traces import Trace
from reports.whole_model_figures import MeasuredModel
from roofline.chip import Chip
from roofline.chipfile import load_chip
from simulator import analytic
from workloads.huggingface import build_llama_step
from workloads.images.presets import load_image_preset
from workloads.programs import resolve_program

# Phases of drawing an image that happen once, whatever the number of steps.
_ONCE = ("text_encode", "vae_decode")
# What the host does with decoded pictures while the chip waits, as `diffusers` does it: to float32, times 255, rounded,
# to bytes, to PIL. CPU time of one thread a picture of 1,024 x 1,024, medians on an AMD EPYC (Zen 4) with NumPy 2.4
# (`python benchmarks/host_pictures.py`): 7.2 to 7.5 ms for one, 7.5 to 11.2 for two, 14 to 18 for four and more,
# whose arrays the allocator maps anew each time. On which host the benchmark ran is not published.
_PICTURE_S, _FEW_PICTURES_S, _PICTURE_PIXELS = 0.0145, {1: 0.0075, 2: 0.0109}, 1024 * 1024
_HOST_LINK_BYTES_PER_S = 64e9  # PCIe 5 x16, one way: half of the 128 GB/s that NVIDIA's H100 datasheet gives for both


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A part of a program: its time, and its energy, NaN where the chip has no constants."""

    time_s: float
    energy_j: float


def predict_denoising(one: MeasuredModel) -> tuple[float, float, float]:
    """Time of a step, joules of an image, mean power.

    What was measured is a whole batch, from texts to pictures: text encoders, VAE and the host's work on the pictures
    happen once and are spread over the steps. Each phase is held to the power limit by itself; while the host works,
    the chip draws its static power.
    """
    program = resolve_program(
        f"image:{one.model}", device="meta", batch=one.batch, steps=1, sampler_options=dict(one.options)
    )
    trace, chip = captured(one.model, program.run), load_chip(one.chip)
    parts = {name: _play(_phase(trace, name), chip) for name in ("denoise", *_ONCE)}
    counts = {"denoise": one.steps, **dict.fromkeys(_ONCE, 1)}
    time_s = sum(counts[name] * part.time_s for name, part in parts.items())
    energy_j = sum(counts[name] * part.energy_j for name, part in parts.items())
    host_s = host_pictures_s(one.batch, load_image_preset(one.model).image_px)
    time_s, energy_j = time_s + host_s, energy_j + host_s * (chip.energy.static_w if chip.energy else float("nan"))
    return time_s / one.steps, energy_j / one.batch, energy_j / time_s


def host_pictures_s(pictures: int, side_px: int) -> float:
    """Time from the VAE's bfloat16 output to PIL images: the copy to the host, then one picture after another.

    >>> round(host_pictures_s(1, 1024), 4), round(host_pictures_s(16, 1024), 3)
    (0.0076, 0.234)
    """
    values = pictures * 3 * side_px**2
    each_s = _FEW_PICTURES_S.get(pictures, _PICTURE_S)
    return 2 * values / _HOST_LINK_BYTES_PER_S + pictures * each_s * side_px**2 / _PICTURE_PIXELS


def predict_denoising_text(one: MeasuredModel) -> tuple[float, float, float]:
    """Mean time of a step over prompt and answer, choice of tokens included, joules of a step per sequence, power.

    With a cache, a block's first step shows all positions and the others show few: both are captured and weighted by
    how often each came in the measured run (`forwards` in all, one full one a block). The others come in blocks that
    hold text, alike: ends of text are committed in the first step, all at once.
    """
    options = dict(one.options)
    block = int(str(options.get("block_length", one.output)))
    blocks, is_cached = one.output // block, options.get("cache", "none") != "none"
    given: Mapping[str, object] = {**options, "steps": (2 if is_cached else 1) * blocks}
    program = resolve_program(
        f"{one.model}@{one.sampler}",
        device="meta",
        batch=one.batch,
        prompt_length=one.prompt,
        gen_length=one.output,
        sampler_options={name: str(value) for name, value in given.items()},
    )
    trace, chip = captured(one.model, program.run), load_chip(one.chip)
    result = analytic.simulate(trace, chip, mode="eager")
    end_s = result.start_s + result.duration_s
    steps = np.array([end_s[result.step == step].max() for step in range(int(result.step.max()) + 1)])
    lasts_s = np.diff(steps, prepend=0.0)
    if is_cached:
        written = -(-(one.text or one.output) // block)
        full_s, short_s = lasts_s[::2].mean(), lasts_s[1::2][:written].mean()
        time_s = float((blocks * full_s + (one.forwards - blocks) * short_s) / one.forwards)
    else:
        time_s = float(lasts_s.mean())
    power_w = float("nan") if result.energy_j is None else result.energy_j / result.makespan_s
    return time_s, power_w * time_s / one.batch, power_w


def predict_forward(one: MeasuredModel) -> tuple[float, float, float]:
    """Time, joules per sequence and power of one forward of `transformers`' Llama: a prompt, or what follows it."""
    trace = captured(one.model, build_llama_step(one.model, tokens=one.prompt, context=one.context, batch=one.batch))
    part = _play(trace, load_chip(one.chip))
    return part.time_s, part.energy_j / one.batch, part.energy_j / part.time_s


def _play(trace: Trace, chip: Chip) -> Stretch:
    if not len(trace.calls):
        return Stretch(time_s=0.0, energy_j=0.0)
    result = analytic.simulate(trace, chip, mode="eager")
    energy_j = float("nan") if result.energy_j is None else result.energy_j
    return Stretch(time_s=result.makespan_s, energy_j=energy_j)


def _phase(trace: Trace, name: str) -> Trace:
    return trace.select(np.array([phase == name for phase in trace.phases])[trace.calls.phase])


def captured(name: str, run: Callable[[], object]) -> Trace:
    """The trace of one run."""
    with capture(name=name) as recording:
        run()
    return recording.trace
