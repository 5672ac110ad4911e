"""Draws images: texts are encoded once, latents denoised step by step, and the result decoded.

Shape suffixes: B batch, C channels, H and W latent positions.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from workloads.errors import WorkloadError
from workloads.images.conditioning import Inputs, Prompts, ask, encode
from workloads.images.denoising import denoise, unrecorded
from workloads.images.earlier_attention import earlier_attention
from workloads.images.networks import ImageNetworks, transposed_patches
from workloads.images.presets import ImagePreset
from workloads.images.schedules import build_scheduler
from workloads.markers import phase
from workloads.samplers.protocol import make_generator

if TYPE_CHECKING:
    from workloads.images.samplers import MakePredictor


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions:
    """Options of image samplers.

    Attributes:
        steps: denoising steps; None for the usual number of the preset.
        cfg_scale: strength of guidance, None for the preset's own. Where guidance doubles the batch, 1 or less turns
            it off; where it is distilled, it is an input of the network.
        image_px: height and width of the image; None for the preset's own.
        decode: whether the VAE makes an image of the latents.
        transposed_patches: whether Stable Diffusion 3 leaves its patches as a convolution made them, channel by channel
            in memory, as `diffusers` did until July 2026 (pull request 14186).
        earlier_attention: whether text encoders attend as `transformers` had it before version 5.
        seed: seed of the noise.
    """

    steps: int | None = None
    cfg_scale: float | None = None
    image_px: int | None = None
    decode: bool = True
    transposed_patches: bool = False
    earlier_attention: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "image_px"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise WorkloadError(f"image option {name} must be > 0, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGeneration:
    """Images, and what was asked of the network for them.

    Attributes:
        latents: `[B, C, H, W]` after the last step.
        image: `[B, 3, height, width]` as the VAE gives it, about -1 to 1; None where it was not asked.
        steps: denoising steps.
        positions_per_image: positions of one image that the denoiser works on: patches of a transformer, latent
            positions of a U-Net's first level.
        rows_per_forward: positions that entered each network evaluation, over the whole batch (guidance that doubles
            the batch doubles them).
    """

    latents: torch.Tensor
    image: torch.Tensor | None
    steps: int
    positions_per_image: int
    rows_per_forward: tuple[int, ...]

    @property
    def nfe(self) -> int:
        """Network evaluations; one that runs a doubled batch counts once."""
        return len(self.rows_per_forward)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Batch, channels, height and width of the latents."""
        return tuple(self.latents.shape)


@torch.inference_mode()
def generate(
    preset: ImagePreset,
    networks: ImageNetworks,
    prompts: Prompts,
    sampler: str,
    options: ImageOptions,
    make_predictor: "MakePredictor | None" = None,
) -> ImageGeneration:
    """Draw one image per prompt.

    Classifier-free guidance (Ho and Salimans, arXiv 2207.12598) is `un + s (c - un)`, with text and without it in one
    doubled batch, as the pipelines of `diffusers` run it. Left out of those pipelines: safety checkers, and VAEs that
    compute in a wider type than the rest.

    Args:
        preset: the model.
        networks: its networks.
        prompts: texts or classes, one an image.
        sampler: name of the scheduler.
        options: of the sampler.
        make_predictor: what stands between scheduler and network, see `workloads.images.samplers.ImageSampler`.

    Raises:
        WorkloadError: the sampler does not suit the model, or the size of the image cannot be.
    """
    size = latent_side(preset, options.image_px)
    steps = options.steps or preset.steps
    strength = preset.cfg_scale if options.cfg_scale is None else options.cfg_scale
    doubled = preset.guidance == "doubled" and strength > 1
    positions = positions_per_image(preset, size)
    with unrecorded():
        scheduler = build_scheduler(sampler, preset.prediction, preset.schedule, steps=steps, positions=positions)
    with earlier_attention(networks.text_encoders) if options.earlier_attention else nullcontext():
        inputs = encode(preset, networks, prompts, unconditional=False)
        if doubled:
            inputs = _joined(encode(preset, networks, prompts, unconditional=True), inputs)
    batch = prompts.classes.shape[0]
    state = _draw_noise(preset, networks, batch, size, options.seed)
    if preset.denoiser.class_name == "FluxTransformer2DModel":
        state = pack_latents(state)
        inputs |= _flux_positions(state, inputs["encoder_hidden_states"].shape[1], size // 2)

    rows: list[int] = []

    def predict(shown: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        rows.append(batch * positions * (2 if doubled else 1))
        if not doubled:
            return ask(preset, networks, shown, timestep, inputs, strength)
        without, given = ask(preset, networks, torch.cat([shown, shown]), timestep, inputs, strength).chunk(2)
        return without + strength * (given - without)

    with transposed_patches(networks.denoiser) if options.transposed_patches else nullcontext():
        asked = predict if make_predictor is None else make_predictor(predict, networks.denoiser, options)
        state = denoise(asked, state, scheduler, generator=make_generator(state.device, options.seed + 1))
    latents_BCHW = unpack_latents(state, size) if state.dim() == 3 else state
    return ImageGeneration(
        latents=latents_BCHW,
        image=_decode(networks, latents_BCHW) if options.decode else None,
        steps=steps,
        positions_per_image=positions,
        rows_per_forward=tuple(rows),
    )


def latent_side(preset: ImagePreset, image_px: int | None) -> int:
    """Height and width of the latents of an image.

    Raises:
        WorkloadError: latents or patches do not divide the image.
    """
    pixels = image_px or preset.image_px
    unit = preset.vae_factor * _patch(preset)
    if preset.denoiser.class_name == "UNet2DConditionModel":
        unit *= 2 ** (len(preset.denoiser.config["block_out_channels"]) - 1)
    if pixels % unit:
        raise WorkloadError(f"image preset {preset.name!r}: image_px must be a multiple of {unit}, got {pixels}")
    if preset.denoiser.class_name == "DiTTransformer2DModel" and pixels != preset.image_px:
        raise WorkloadError(
            f"image preset {preset.name!r}: its position table is made for image_px = {preset.image_px}, got {pixels}"
        )
    return pixels // preset.vae_factor


def positions_per_image(preset: ImagePreset, size: int) -> int:
    """Positions that the denoiser works on for latents of `size` x `size`."""
    return (size // _patch(preset)) ** 2


def _patch(preset: ImagePreset) -> int:
    """Latent positions along the side of a patch; FLUX packs 2 x 2 of them before the network."""
    if preset.denoiser.class_name == "FluxTransformer2DModel":
        return 2
    return int(preset.denoiser.config.get("patch_size", 1))  # a U-Net has none


def _draw_noise(preset: ImagePreset, networks: ImageNetworks, batch: int, size: int, seed: int) -> torch.Tensor:
    weight = next(networks.denoiser.parameters())
    shape = (batch, preset.vae.config["latent_channels"], size, size)
    generator = make_generator(weight.device, seed)
    return torch.randn(shape, generator=generator, device=weight.device, dtype=weight.dtype)


def _joined(first: Inputs, second: Inputs) -> Inputs:
    return {key: torch.cat([first[key], second[key]]) for key in first}


def pack_latents(latents_BCHW: torch.Tensor) -> torch.Tensor:
    """`[B, C, H, W]` as `[B, H/2 * W/2, 4 C]`: 2 x 2 neighbors become one position."""
    batch, channels, height, width = latents_BCHW.shape
    blocks = latents_BCHW.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(batch, (height // 2) * (width // 2), 4 * channels)


def unpack_latents(packed: torch.Tensor, size: int) -> torch.Tensor:
    """The inverse of `pack_latents` for a square of `size` x `size`."""
    batch, _, width = packed.shape
    blocks = packed.view(batch, size // 2, size // 2, width // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return blocks.reshape(batch, width // 4, size, size)


def _flux_positions(packed: torch.Tensor, text_tokens: int, side: int) -> Inputs:
    """Rotary positions: rows and columns for the image, zeros for the text."""
    side_range = torch.arange(side, device=packed.device, dtype=packed.dtype)
    rows, columns = torch.meshgrid(side_range, side_range, indexing="ij")
    image_ids = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(side * side, 3)
    return {"img_ids": image_ids, "txt_ids": torch.zeros(text_tokens, 3, device=packed.device, dtype=packed.dtype)}


def _decode(networks: ImageNetworks, latents_BCHW: torch.Tensor) -> torch.Tensor:
    config = networks.vae.config
    with phase("vae_decode"):
        scaled = latents_BCHW / config.scaling_factor
        if getattr(config, "shift_factor", None) is not None:
            scaled = scaled + config.shift_factor
        image: torch.Tensor = networks.vae.decode(scaled, return_dict=False)[0]
    return image
