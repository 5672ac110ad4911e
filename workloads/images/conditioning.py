"""What a denoiser is told beside the latents: texts through their encoders, or a class; and how it is asked.

Shape suffixes: B batch, N token positions, D width, C channels, H and W latent positions.
"""

from dataclasses import dataclass

import torch

from workloads.images.networks import ImageNetworks
from workloads.images.presets import ImagePreset
from workloads.markers import phase

Inputs = dict[str, torch.Tensor]

# Tokens of a text that SANA's denoiser sees; its encoder reads a longer instruction before them.
_SANA_TOKENS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Random token ids for every text encoder, `[B, N]` each, and random classes `[B]`."""

    tokens: tuple[torch.Tensor, ...]
    classes: torch.Tensor


def random_prompts(preset: ImagePreset, batch: int, *, device: torch.device, seed: int) -> Prompts:
    """Prompts that are the same on every device; what they say changes no cost."""
    generator = torch.Generator().manual_seed(seed)
    tokens = tuple(
        torch.randint(0, encoder.config["vocab_size"], (batch, encoder.tokens), generator=generator).to(device)
        for encoder in preset.text_encoders
    )
    classes = preset.denoiser.config.get("num_embeds_ada_norm", 1)  # other denoisers know none
    return Prompts(tokens=tokens, classes=torch.randint(0, classes, (batch,), generator=generator).to(device))


def encode(preset: ImagePreset, networks: ImageNetworks, prompts: Prompts, *, unconditional: bool) -> Inputs:
    """Inputs of the denoiser that stay the same at every step, one row per image.

    Args:
        preset: which model this is.
        networks: its networks.
        prompts: what to draw.
        unconditional: give what stands for "no text" or "no class": an empty prompt costs what any other does.
    """
    name = preset.denoiser.class_name
    if name == "DiTTransformer2DModel":
        no_class = networks.denoiser.config.num_embeds_ada_norm
        return {"class_labels": torch.full_like(prompts.classes, no_class) if unconditional else prompts.classes}
    tokens = tuple(torch.zeros_like(ids_BN) if unconditional else ids_BN for ids_BN in prompts.tokens)
    with phase("text_encode"):
        return _encode_texts(networks, tokens, preset, unconditional=unconditional)


def _encode_texts(
    networks: ImageNetworks, tokens: tuple[torch.Tensor, ...], preset: ImagePreset, *, unconditional: bool
) -> Inputs:
    match preset.denoiser.class_name:
        case "SD3Transformer2DModel":
            return _stable_diffusion_3(networks, tokens)
        case "FluxTransformer2DModel":
            return _flux(networks, tokens)
        case "PixArtTransformer2DModel":
            return _pixart(networks, tokens[0])
        case "SanaTransformer2DModel":
            return _sana(networks, tokens[0], unconditional=unconditional)
    if networks.denoiser.config.addition_embed_type == "text_time":
        return _stable_diffusion_xl(networks, tokens, image_px=preset.image_px)
    return {"encoder_hidden_states": networks.text_encoders[0](tokens[0]).last_hidden_state}


def _stable_diffusion_xl(networks: ImageNetworks, tokens: tuple[torch.Tensor, ...], *, image_px: int) -> Inputs:
    """Both encoders' last hidden states but one, side by side; the second one's pooled text; sizes of the image."""
    encoded = [
        encoder(ids_BN, output_hidden_states=True)
        for encoder, ids_BN in zip(networks.text_encoders, tokens, strict=True)
    ]
    pooled_BD = encoded[-1].text_embeds
    sizes = (image_px, image_px, 0, 0, image_px, image_px)  # original size, crop, target size
    return {
        "encoder_hidden_states": torch.cat([output.hidden_states[-2] for output in encoded], dim=-1),
        "text_embeds": pooled_BD,
        "time_ids": torch.tensor(sizes, dtype=pooled_BD.dtype, device=pooled_BD.device).repeat(pooled_BD.shape[0], 1),
    }


def _stable_diffusion_3(networks: ImageNetworks, tokens: tuple[torch.Tensor, ...]) -> Inputs:
    """CLIP's hidden states side by side and padded to T5's width, T5's behind them; CLIP's pooled texts."""
    *clips, t5 = networks.text_encoders
    encoded = [encoder(ids_BN, output_hidden_states=True) for encoder, ids_BN in zip(clips, tokens[:-1], strict=True)]
    clip_BND = torch.cat([output.hidden_states[-2] for output in encoded], dim=-1)
    t5_BND = t5(tokens[-1]).last_hidden_state
    padding = t5_BND.shape[-1] - clip_BND.shape[-1]
    return {
        "encoder_hidden_states": torch.cat([torch.nn.functional.pad(clip_BND, (0, padding)), t5_BND], dim=1),
        "pooled_projections": torch.cat([output.text_embeds for output in encoded], dim=-1),
    }


def _flux(networks: ImageNetworks, tokens: tuple[torch.Tensor, ...]) -> Inputs:
    """CLIP's pooled text, and T5's hidden states."""
    clip, t5 = networks.text_encoders
    return {
        "encoder_hidden_states": t5(tokens[1]).last_hidden_state,
        "pooled_projections": clip(tokens[0]).pooler_output,
    }


def _pixart(networks: ImageNetworks, ids_BN: torch.Tensor) -> Inputs:
    """T5's hidden states, and which tokens are text: here all, but the pipeline always gives the denoiser a mask."""
    text_BND = networks.text_encoders[0](ids_BN).last_hidden_state
    return {"encoder_hidden_states": text_BND, "encoder_attention_mask": torch.ones_like(ids_BN)}


def _sana(networks: ImageNetworks, ids_BN: torch.Tensor, *, unconditional: bool) -> Inputs:
    """Gemma's hidden states: of the first token and the last ones. The empty text has no instruction before it."""
    shown = min(_SANA_TOKENS, ids_BN.shape[1])
    ids_BN = ids_BN[:, :shown] if unconditional else ids_BN
    text_BND = networks.text_encoders[0](ids_BN, attention_mask=torch.ones_like(ids_BN)).last_hidden_state
    if not unconditional:
        text_BND = text_BND[:, [0, *range(1 - shown, 0)]]
    return {"encoder_hidden_states": text_BND, "encoder_attention_mask": torch.ones_like(ids_BN[:, :shown])}


def ask(
    preset: ImagePreset,
    networks: ImageNetworks,
    shown: torch.Tensor,
    timestep: torch.Tensor,
    inputs: Inputs,
    strength: float,
) -> torch.Tensor:
    """One network evaluation: the noise or velocity that the denoiser predicts.

    Args:
        preset: which model this is.
        networks: its networks.
        shown: latents `[B, C, H, W]`, for FLUX packed to `[B, H/2 * W/2, 4 C]`.
        timestep: on the scale of the scheduler, `[1]`.
        inputs: what `encode` gave, B rows.
        strength: of distilled guidance; not read by other denoisers.
    """
    network, name = networks.denoiser, preset.denoiser.class_name
    if name == "UNet2DConditionModel":
        added = {key: inputs[key] for key in ("text_embeds", "time_ids") if key in inputs}
        text_BND = inputs["encoder_hidden_states"]
        return _first(network(shown, timestep, text_BND, added_cond_kwargs=added or None, return_dict=False))
    timestep_B = timestep.expand(shown.shape[0])
    if name in ("DiTTransformer2DModel", "PixArtTransformer2DModel"):
        predicted = _first(network(shown, timestep=timestep_B, **inputs, return_dict=False))
        return predicted[:, : shown.shape[1]]  # the learned variance behind it is not used, as in the pipeline
    if name in ("SD3Transformer2DModel", "SanaTransformer2DModel"):
        return _first(network(shown, timestep=timestep_B, **inputs, return_dict=False))
    timestep_B = (timestep_B / 1000).to(shown.dtype)  # the network multiplies it back
    guidance_B = torch.full_like(timestep_B, strength, dtype=torch.float32) if preset.guidance == "distilled" else None
    return _first(network(shown, timestep=timestep_B, guidance=guidance_B, **inputs, return_dict=False))


def _first(output: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return output[0]
