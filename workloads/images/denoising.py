"""The denoising loop: any scheduler of `diffusers` around any network that predicts noise or velocity."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
from torch.overrides import TorchFunctionMode

from workloads.markers import phase

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@contextmanager
def unrecorded() -> Iterator[None]:
    """What runs in here is unseen by recorders: work on the host that keeps no device waiting."""
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
        yield


class HostScalars(TorchFunctionMode):
    """Keeps the arithmetic on a schedule's tables, which hosts do while devices run, out of recorded traces.

    An operation whose tensors have at most one dimension runs unseen: latents have more, tables of noise levels do not.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, unseen where it only works on tables or their entries."""
        tensors = [value for value in (*args, *(kwargs or {}).values()) if isinstance(value, torch.Tensor)]
        if tensors and all(tensor.dim() <= 1 and tensor.device.type == "cpu" for tensor in tensors):
            with unrecorded():
                return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def denoise(
    predict: Predict, latents: torch.Tensor, scheduler: Any, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Walk `latents` along the scheduler's timesteps; each step is marked `denoise`.

    Heun's two evaluations of a step share its number.

    Args:
        predict: `(scaled latents, timestep [1]) -> noise or velocity`, one network evaluation.
        latents: noise to start from, with at least two dimensions, not yet scaled to the first noise level.
        scheduler: from `workloads.images.schedules.build_scheduler`; its state is used up.
        generator: randomness of samplers that add noise; None on `meta`.
    """
    with unrecorded():
        noise_scale = getattr(scheduler, "init_noise_sigma", None)  # flows have none: they start at 1
        noise_scale = None if noise_scale is None else float(noise_scale)
    if noise_scale is not None:
        latents = latents * noise_scale
    timesteps_T = scheduler.timesteps.to(latents.device)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # else it would search the table for the first timestep
    order = 2 if _is_heun(scheduler) else 1
    randomness = {"generator": generator} if isinstance(scheduler, diffusers.DDPMScheduler) else {}
    for evaluation, timestep in enumerate(scheduler.timesteps.tolist()):
        with phase("denoise", step=evaluation // order):
            shown = latents
            if hasattr(scheduler, "scale_model_input"):
                with HostScalars():
                    shown = scheduler.scale_model_input(latents, timestep)
            predicted = predict(shown, timesteps_T[evaluation : evaluation + 1])
            with HostScalars():
                latents = scheduler.step(predicted, timestep, latents, **randomness).prev_sample
    return latents


def _is_heun(scheduler: Any) -> bool:
    return isinstance(scheduler, diffusers.HeunDiscreteScheduler | diffusers.FlowMatchHeunDiscreteScheduler)
