"""Image samplers by name, or in a file of one's own: a scheduler, and what stands between it and the network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from workloads.errors import WorkloadError
from workloads.images.denoising import Predict
from workloads.images.generation import ImageOptions
from workloads.images.presets import ImagePreset
from workloads.samplers.registry import load_python_file

MakePredictor = Callable[[Predict, torch.nn.Module, ImageOptions], Predict]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSampler:
    """How the latents of an image are walked to data.

    Attributes:
        name: as it was asked for, the stem of a file.
        scheduler: one of `workloads.images.schedules.SAMPLERS`.
        options_type: its options, `ImageOptions` or a dataclass that extends it.
        make_predictor: from (one network evaluation, the network, options) to what the scheduler asks instead; None
            where it asks the network itself.
    """

    name: str
    scheduler: str
    options_type: type[ImageOptions] = ImageOptions
    make_predictor: MakePredictor | None = None


def load_image_sampler(text: str, preset: ImagePreset) -> ImageSampler:
    """A scheduler by name; or a Python file with a function `predictor`, and maybe `SCHEDULER` and `Options`.

    Raises:
        WorkloadError: the file cannot be run, or offers no such function.
    """
    if not text.endswith(".py"):
        return ImageSampler(name=text, scheduler=text)
    path = Path(text)
    module = load_python_file(path)
    make = getattr(module, "predictor", None)
    if not callable(make):
        raise WorkloadError(
            f"image sampler {path}: has no function predictor(predict, denoiser, options) that gives what the "
            "scheduler asks in place of predict"
        )
    options_type = getattr(module, "Options", ImageOptions)
    if not (isinstance(options_type, type) and issubclass(options_type, ImageOptions)):
        raise WorkloadError(f"image sampler {path}: Options must be a dataclass that extends ImageOptions")
    return ImageSampler(
        name=path.stem,
        scheduler=str(getattr(module, "SCHEDULER", preset.sampler)),
        options_type=options_type,
        make_predictor=cast("MakePredictor", make),
    )
