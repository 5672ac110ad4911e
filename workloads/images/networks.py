"""Builds the networks of an image preset from `diffusers` and `transformers`, with random weights."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
import transformers

from workloads.errors import WorkloadError
from workloads.images.presets import ImagePreset, NetworkConfig
from workloads.memory import check_fits


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNetworks:
    """The networks of one preset, in evaluation mode.

    Attributes:
        denoiser: runs at every step.
        vae: the autoencoder; an image is decoded once.
        text_encoders: run once, before the first step.
    """

    denoiser: Any
    vae: Any
    text_encoders: tuple[Any, ...]


def build_networks(
    preset: ImagePreset, *, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> ImageNetworks:
    """All networks of a preset on a device; nothing is downloaded.

    Raises:
        WorkloadError: a configuration does not make such a network, or the weights do not fit the device.
    """
    target = torch.device(device)
    if target.type != "meta":
        networks = build_networks(preset, device="meta", dtype=dtype)
        modules = (networks.denoiser, networks.vae, *networks.text_encoders)
        check_fits(preset.name, sum(parameters_count(m) for m in modules) * dtype.itemsize, target)
    torch.manual_seed(seed)  # both libraries draw their weights from the default generator
    denoiser = build_denoiser(preset, device=target, dtype=dtype)
    return ImageNetworks(
        denoiser=denoiser,
        vae=_build(diffusers, preset.vae, preset, target, dtype),
        text_encoders=tuple(_build(transformers, encoder, preset, target, dtype) for encoder in preset.text_encoders),
    )


def build_denoiser(preset: ImagePreset, *, device: torch.device | str, dtype: torch.dtype) -> Any:
    """The denoiser alone.

    `diffusers` gives each block of a DiT its own copy of the embedders of timestep and class, and the published
    checkpoint fills all of them alike; the original has one, so here the blocks share it. Each block still runs it.
    """
    denoiser = _build(diffusers, preset.denoiser, preset, torch.device(device), dtype)
    if preset.denoiser.class_name == "DiTTransformer2DModel":
        first, *others = denoiser.transformer_blocks
        for block in others:
            block.norm1.emb = first.norm1.emb
    return denoiser


@contextmanager
def transposed_patches(denoiser: Any) -> Iterator[None]:
    """Runs Stable Diffusion 3 without the copy that lays its patches row by row before the blocks.

    A convolution makes the patches, channel by channel in memory, and sums keep the order of their first operand.
    Without that copy the whole residual stream stays transposed, and every norm copies it.

    Raises:
        WorkloadError: another denoiser, whose patches are not copied.
    """
    if type(denoiser).__name__ != "SD3Transformer2DModel":
        raise WorkloadError(f"transposed_patches is for SD3Transformer2DModel, got {type(denoiser).__name__}")

    def as_it_lies(module: Any, args: Any, patches_BND: torch.Tensor) -> torch.Tensor:
        def itself() -> torch.Tensor:
            return patches_BND

        patches_BND.contiguous = itself  # type: ignore[method-assign,assignment]  # of this tensor alone
        return patches_BND

    hook = denoiser.pos_embed.register_forward_hook(as_it_lies)
    try:
        yield
    finally:
        hook.remove()


def parameters_count(module: torch.nn.Module) -> int:
    """Parameters of a network, shared ones once."""
    return sum(weight.numel() for weight in module.parameters())


def _build(library: Any, network: NetworkConfig, preset: ImagePreset, device: torch.device, dtype: torch.dtype) -> Any:
    builder = _class_of(library, network.class_name)
    if builder is None:
        raise WorkloadError(f"image preset {preset.name!r}: {library.__name__} has no class {network.class_name!r}")
    is_transformers = library is transformers
    with torch.device(device):
        try:
            module = builder(builder.config_class(**network.config)) if is_transformers else builder(**network.config)
        except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise WorkloadError(
                f"image preset {preset.name!r}: its configuration makes no {network.class_name} ({reason})"
            ) from error
    torch.nn.Module.to(module, dtype)  # that of diffusers talks about weights that checkpoints keep in float32
    return module.eval()  # weights want gradients, as in pipelines: ATen chooses kernels by that (should_fold)


def _class_of(library: Any, name: str) -> Any:
    """A class by name; both libraries import it only now, and tell of optional packages that nothing here needs."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        return getattr(library, name, None)
    finally:
        logging.disable(disabled)
