"""`prepare_image`: an image program from a text such as `sd15@ddim`, ready to run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from workloads.errors import WorkloadError
from workloads.images.conditioning import random_prompts
from workloads.images.generation import ImageGeneration, generate, latent_side, positions_per_image
from workloads.images.networks import build_networks, parameters_count
from workloads.images.presets import load_image_preset
from workloads.images.samplers import load_image_sampler
from workloads.images.schedules import build_scheduler
from workloads.samplers.registry import convert_options


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageProgram:
    """An image model with its sampler, built.

    Attributes:
        description: what it does, one line.
        run: draws the images; may be called again and gives the same.
        parameters_count: parameters of its denoiser.
    """

    description: str
    run: Callable[[], ImageGeneration]
    parameters_count: int


def prepare_image(
    target: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch: int,
    sampler: str | None,
    seed: int,
    options: Mapping[str, object],
) -> ImageProgram:
    """Build what `PRESET` or `PRESET@SAMPLER` names; a preset may be a TOML file, a sampler a Python file.

    Raises:
        WorkloadError: preset, sampler or option is unknown or cannot be, or the weights do not fit.
    """
    name, _, way = target.partition("@")
    if way and sampler and way != sampler:
        raise WorkloadError(f"program 'image:{target}' names {way!r}, but sampler says {sampler!r}; give one of them")
    preset = load_image_preset(Path(name) if name.endswith(".toml") else name)
    chosen = load_image_sampler(way or sampler or preset.sampler, preset)
    where = f"image sampler {chosen.name!r}"
    made = chosen.options_type(**convert_options(chosen.options_type, {"seed": seed, **options}, where))
    steps, size = made.steps or preset.steps, latent_side(preset, made.image_px)
    build_scheduler(  # refuses here what it would refuse at the first run
        chosen.scheduler, preset.prediction, preset.schedule, steps=steps, positions=positions_per_image(preset, size)
    )
    networks = build_networks(preset, device=device, dtype=dtype, seed=seed)
    prompts = random_prompts(preset, batch, device=device, seed=seed)
    pixels = size * preset.vae_factor
    return ImageProgram(
        description=f"{preset.name}: {batch} x {pixels} x {pixels} pixels in {steps} steps of {chosen.name}",
        run=lambda: generate(preset, networks, prompts, chosen.scheduler, made, chosen.make_predictor),
        parameters_count=parameters_count(networks.denoiser),
    )
