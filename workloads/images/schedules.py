"""The schedulers of `diffusers` by the names of the samplers, and how often each asks the network."""

import math
from typing import Any

import diffusers
import numpy as np

from workloads.errors import WorkloadError
from workloads.images.presets import Config, Prediction

SAMPLERS: dict[Prediction, tuple[str, ...]] = {
    "noise": ("ddpm", "ddim", "euler", "dpmpp_2m", "heun"),
    "flow": ("flow_match", "dpmpp_2m", "heun"),
}
_LIBRARY: Any = diffusers  # its constructors carry no types
_NOISE_CLASSES = {
    "ddpm": _LIBRARY.DDPMScheduler,
    "ddim": _LIBRARY.DDIMScheduler,
    "euler": _LIBRARY.EulerDiscreteScheduler,
    "dpmpp_2m": _LIBRARY.DPMSolverMultistepScheduler,
    "heun": _LIBRARY.HeunDiscreteScheduler,
}
_SAMPLER_ARGUMENTS: dict[str, dict[str, Any]] = {
    "ddpm": {"clip_sample": False, "variance_type": "fixed_small"},
    "ddim": {"clip_sample": False, "set_alpha_to_one": False},
    "dpmpp_2m": {"algorithm_type": "dpmsolver++", "solver_order": 2},
}
_SHIFT_KEYS = ("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len")


def build_scheduler(sampler: str, prediction: Prediction, schedule: Config, *, steps: int, positions: int) -> Any:
    """A scheduler of `diffusers` with its timesteps set, all its tables on the CPU.

    `ddpm`: Ho et al., arXiv 2006.11239, with the small fixed variance. `ddim`: Song et al., arXiv 2010.02502, eta = 0.
    `euler` and `heun`: Karras et al., arXiv 2206.00364, without churn. `dpmpp_2m`: Lu et al., arXiv 2211.01095,
    multistep of order 2. `flow_match`: Euler steps along the velocity, Esser et al., arXiv 2403.03206. Karras spacing
    of the noise levels is left out.

    Args:
        sampler: one of `SAMPLERS[prediction]`.
        prediction: what the network predicts.
        schedule: see `ImagePreset.schedule`.
        steps: number of steps.
        positions: latent positions of one image, for a shift that depends on the resolution.

    Raises:
        WorkloadError: the sampler is unknown or does not suit the prediction, or steps cannot be.
    """
    if sampler not in SAMPLERS[prediction]:
        allowed = ", ".join(SAMPLERS[prediction])
        raise WorkloadError(
            f"image sampler must be one of {allowed} for a network that predicts {prediction}, got {sampler!r}"
        )
    arguments = {key: value for key, value in schedule.items() if key not in _SHIFT_KEYS}
    train_steps = arguments.get("num_train_timesteps", 1000)
    if not 0 < steps <= train_steps:
        raise WorkloadError(f"image sampler {sampler!r}: steps must lie in 1..{train_steps}, got {steps}")
    try:
        if prediction == "noise":
            return _noise_scheduler(sampler, arguments, steps)
        return _flow_scheduler(sampler, arguments, schedule, steps, positions)
    except TypeError as error:
        raise WorkloadError(f"image sampler {sampler!r}: its scheduler does not take this schedule ({error})") from None


def _noise_scheduler(sampler: str, arguments: dict[str, Any], steps: int) -> Any:
    scheduler = _NOISE_CLASSES[sampler](**arguments, **_SAMPLER_ARGUMENTS.get(sampler, {}))
    scheduler.set_timesteps(steps)
    return scheduler


def _flow_scheduler(sampler: str, arguments: dict[str, Any], schedule: Config, steps: int, positions: int) -> Any:
    """Resolution-dependent shift: exp(mu) in the shift formula, which is what the exponential form of mu amounts to."""
    dynamic = "base_shift" in schedule
    shift = math.exp(_shift_mu(schedule, positions)) if dynamic else float(arguments.get("shift", 1.0))
    arguments = {key: value for key, value in arguments.items() if key != "shift"}
    if sampler == "dpmpp_2m":
        scheduler = _LIBRARY.DPMSolverMultistepScheduler(
            **arguments,
            **_SAMPLER_ARGUMENTS[sampler],
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=shift,
        )
    elif sampler == "heun":
        scheduler = _LIBRARY.FlowMatchHeunDiscreteScheduler(**arguments, shift=shift)
    else:
        scheduler = _LIBRARY.FlowMatchEulerDiscreteScheduler(**arguments, shift=shift)
        if dynamic:  # as the pipeline that has such a shift does
            scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
            return scheduler
    scheduler.set_timesteps(steps)
    return scheduler


def _shift_mu(schedule: Config, positions: int) -> float:
    """A line through (`base_image_seq_len`, `base_shift`) and (`max_image_seq_len`, `max_shift`)."""
    base, top = schedule["base_image_seq_len"], schedule["max_image_seq_len"]
    slope = (schedule["max_shift"] - schedule["base_shift"]) / (top - base)
    return float(schedule["base_shift"] + slope * (positions - base))
