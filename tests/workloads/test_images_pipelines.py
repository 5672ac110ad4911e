"""Tiny image models that run on the CPU: as on meta, as before, and as in the pipelines of `diffusers`, which others
wrote."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from profiler.capture import capture
from workloads.errors import WorkloadError
from workloads.images.conditioning import Prompts, encode, random_prompts
from workloads.images.generation import ImageOptions, generate
from workloads.images.networks import ImageNetworks, build_networks
from workloads.images.presets import ImagePreset, list_image_presets, load_image_preset

VAE = {"block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1, "sample_size": 16}
VAE |= {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
DEEP_VAE = {  # the same two levels, of residual blocks and of linear attention
    **{f"{half}_block_types": ("ResBlock", "EfficientViTBlock") for half in ("encoder", "decoder")},
    **{f"{half}_block_out_channels": (8, 8) for half in ("encoder", "decoder")},
    **{f"{half}_layers_per_block": (1, 1) for half in ("encoder", "decoder")},
    **{f"{half}_qkv_multiscales": ((), (5,)) for half in ("encoder", "decoder")},
    "attention_head_dim": 4,
    "latent_channels": 8,
}
CLIP = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
CLIP |= {"vocab_size": 50, "max_position_embeddings": 7, "projection_dim": 8}
T5 = {"d_model": 32, "d_ff": 16, "d_kv": 4, "num_heads": 2, "num_layers": 1, "vocab_size": 50}
GEMMA = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
GEMMA |= {"num_key_value_heads": 1, "head_dim": 8, "vocab_size": 50}
BLOCKS = {"norm_num_groups": 4, "layers_per_block": 1, "sample_size": 8}
SD15_BLOCKS = {
    **BLOCKS,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
}
SDXL_BLOCKS = {
    **BLOCKS,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "cross_attention_dim": 16,
    "attention_head_dim": (2, 2),
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 8,
}
SD3_BLOCKS: dict[str, Any] = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 4,
    "joint_attention_dim": 32,
    "caption_projection_dim": 8,
    "pooled_projection_dim": 16,
    "sample_size": 8,
    "pos_embed_max_size": 8,
}
DENOISERS: dict[str, dict[str, Any]] = {
    "dit-xl-2": {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 2, "sample_size": 8},
    "sd15": SD15_BLOCKS,
    "sdxl": SDXL_BLOCKS,
    "pixart-sigma": {
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 4,
        "cross_attention_dim": 8,
        "caption_channels": 32,
        "sample_size": 8,
    },
    "sd3-medium": SD3_BLOCKS,
    "sd3.5-medium": {**SD3_BLOCKS, "dual_attention_layers": (0,)},
    "sd3.5-large": SD3_BLOCKS,
    "sana1.5-1.6b": {
        "in_channels": 8,
        "out_channels": 8,
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 4,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 4,
        "cross_attention_dim": 8,
        "caption_channels": 16,
        "sample_size": 8,
    },
    "flux.1-dev": {
        "num_layers": 1,
        "num_single_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 8,
        "axes_dims_rope": (2, 2, 4),
    },
}
PRESETS = sorted(DENOISERS)
ON_CPU = [pytest.param(name, marks=pytest.mark.slow) if name.startswith("sd") else name for name in PRESETS]


def tiny(name: str) -> ImagePreset:
    """A shipped preset with everything as it is but its sizes: 16 x 16 pixels, latents 8 x 8; SANA's twice as many."""
    preset = load_image_preset(name)
    small = {"T5EncoderModel": (5, T5), "Gemma2Model": (9, GEMMA)}
    encoders = tuple(
        replace(encoder, tokens=tokens, config={**encoder.config, **config})
        for encoder in preset.text_encoders
        for tokens, config in [small.get(encoder.class_name, (7, CLIP))]
    )
    vae = DEEP_VAE if preset.vae.class_name == "AutoencoderDC" else VAE
    return replace(
        preset,
        image_px=32 if vae is DEEP_VAE else 16,  # the pipeline of SANA takes no less
        denoiser=replace(preset.denoiser, config={**preset.denoiser.config, **DENOISERS[name]}),
        vae=replace(preset.vae, config={**preset.vae.config, **vae}),
        text_encoders=encoders,
    )


def built(name: str, device: str = "cpu", batch: int = 2) -> tuple[ImagePreset, ImageNetworks, Prompts]:
    preset = tiny(name)
    networks = build_networks(preset, device=device, dtype=torch.float32, seed=3)
    return preset, networks, random_prompts(preset, batch, device=torch.device(device), seed=4)


def test_every_preset_is_held_against_its_pipeline() -> None:
    assert tuple(PRESETS) == list_image_presets()


@pytest.mark.parametrize("name", ON_CPU)
def test_shapes_on_meta_record_what_the_cpu_runs(name: str) -> None:
    traces = []
    for device in ("cpu", "meta"):
        preset, networks, prompts = built(name, device)
        with capture(name=name) as recording:
            generate(preset, networks, prompts, preset.sampler, ImageOptions(steps=2))
        traces.append(recording.trace.to_frame())

    totals = [trace.groupby(["phase", "step"], observed=True)[["flops", "matrix_flops"]].sum() for trace in traces]
    pd.testing.assert_frame_equal(*totals)
    kinds = [trace.kind.value_counts().loc[["attention", "gemm", "norm", "conv"]].to_dict() for trace in traces]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("name", ON_CPU)
def test_same_seed_gives_the_same_image(name: str) -> None:
    preset, networks, prompts = built(name)

    first, again, other = (
        generate(preset, networks, prompts, preset.sampler, ImageOptions(steps=3, seed=seed)) for seed in (1, 1, 2)
    )

    assert first.image is not None
    assert again.image is not None
    assert torch.equal(first.image, again.image)
    assert not torch.allclose(first.latents, other.latents)
    assert first.image.isfinite().all()
    side = (preset.image_px // preset.vae_factor,) * 2
    assert first.latent_shape == (2, preset.vae.config["latent_channels"], *side)


def test_transposed_patches_give_the_same_image() -> None:
    preset, networks, prompts = built("sd3.5-medium")
    drawn = [
        generate(
            preset, networks, prompts, preset.sampler, ImageOptions(steps=2, transposed_patches=transposed)
        ).latents
        for transposed in (False, True)
    ]
    torch.testing.assert_close(*drawn)


def test_transposed_patches_of_other_networks_are_refused() -> None:
    preset, networks, prompts = built("dit-xl-2")
    with pytest.raises(WorkloadError, match="SD3Transformer2DModel, got DiTTransformer2DModel"):
        generate(preset, networks, prompts, preset.sampler, ImageOptions(steps=2, transposed_patches=True))


@pytest.mark.parametrize("name", ["pixart-sigma", "sana1.5-1.6b"])
def test_earlier_attention_gives_the_same_image_and_ends_with_the_texts(name: str) -> None:
    """T5 does the same one operation after another; the cap of Gemma-2, 50, is far from scores of random weights."""
    preset, networks, prompts = built(name)
    drawn = [
        generate(preset, networks, prompts, preset.sampler, ImageOptions(steps=2, earlier_attention=earlier)).latents
        for earlier in (False, True, False)
    ]
    torch.testing.assert_close(drawn[0], drawn[1], rtol=1e-3, atol=1e-3)
    assert torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("name", "encoders"), [("dit-xl-2", "none"), ("sdxl", "CLIPTextModel, CLIP")])
def test_earlier_attention_of_other_encoders_is_refused(name: str, encoders: str) -> None:
    preset, networks, prompts = built(name)
    with pytest.raises(WorkloadError, match=f"T5EncoderModel or Gemma2Model, got {encoders}"):
        generate(preset, networks, prompts, preset.sampler, ImageOptions(steps=2, earlier_attention=True))


def pipeline_inputs(preset: ImagePreset, networks: ImageNetworks, prompts: Prompts) -> dict[str, Any]:
    """Texts as the pipelines take them when they are already encoded."""
    names = {"encoder_hidden_states": "prompt_embeds", "pooled_projections": "pooled_prompt_embeds"}
    names |= {"text_embeds": "pooled_prompt_embeds", "encoder_attention_mask": "prompt_attention_mask"}
    inputs: dict[str, Any] = {}
    with torch.inference_mode():
        for prefix, unconditional in (("", False), ("negative_", True)):
            if preset.guidance == "distilled" and unconditional:
                continue
            for key, value in encode(preset, networks, prompts, unconditional=unconditional).items():
                if key in names:
                    inputs[prefix + names[key]] = value
    return inputs


def pipeline_for(preset: ImagePreset, networks: ImageNetworks) -> Any:
    import diffusers

    pieces: dict[str, Any] = {"vae": networks.vae, "tokenizer": None, "text_encoder": None}
    two = {"tokenizer_2": None, "text_encoder_2": None}
    shift = dict(preset.schedule)
    match preset.name:
        case "dit-xl-2":
            scheduler = diffusers.DDIMScheduler(**preset.schedule, clip_sample=False, set_alpha_to_one=False)
            return diffusers.DiTPipeline(transformer=networks.denoiser, vae=networks.vae, scheduler=scheduler)
        case "sd15":
            scheduler = diffusers.DDIMScheduler(**preset.schedule, clip_sample=False, set_alpha_to_one=False)
            return diffusers.StableDiffusionPipeline(
                **pieces, unet=networks.denoiser, scheduler=scheduler, safety_checker=None, feature_extractor=None,
                requires_safety_checker=False,
            )  # fmt: skip
        case "sdxl":
            scheduler = diffusers.EulerDiscreteScheduler(**preset.schedule)
            pipeline = diffusers.StableDiffusionXLPipeline(
                **pieces, **two, unet=networks.denoiser, scheduler=scheduler, add_watermarker=False
            )
            pipeline.register_to_config(force_zeros_for_empty_prompt=False)
            pipeline.text_encoder_2 = networks.text_encoders[1]  # asked for the width of its pooled text
            return pipeline
        case "pixart-sigma" | "sana1.5-1.6b":
            made, flow = diffusers.PixArtSigmaPipeline, dict[str, Any]()
            if preset.name != "pixart-sigma":
                made, flow = diffusers.SanaPipeline, {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
                shift = {"num_train_timesteps": shift["num_train_timesteps"], "flow_shift": shift["shift"]}
            scheduler = diffusers.DPMSolverMultistepScheduler(
                **shift, **flow, algorithm_type="dpmsolver++", solver_order=2
            )
            return made(**pieces, transformer=networks.denoiser, scheduler=scheduler)
        case "sd3-medium" | "sd3.5-medium" | "sd3.5-large":
            scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**shift)
            more = {**two, "tokenizer_3": None, "text_encoder_3": None}
            return diffusers.StableDiffusion3Pipeline(
                **pieces, **more, transformer=networks.denoiser, scheduler=scheduler
            )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **shift)
    return diffusers.FluxPipeline(**pieces, **two, transformer=networks.denoiser, scheduler=scheduler)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in PRESETS])
def test_agrees_with_the_pipeline_of_diffusers(name: str) -> None:
    """Same networks, same noise, same encoded texts: the pipeline's own loop, guidance and schedule."""
    preset, networks, prompts = built(name, batch=1)
    sampler = "ddim" if name == "dit-xl-2" else preset.sampler
    pipeline = pipeline_for(preset, networks)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(7)
    if name == "dit-xl-2":
        given: dict[str, Any] = {"class_labels": prompts.classes.tolist()}
    else:
        given = pipeline_inputs(preset, networks, prompts)
        given |= {"height": preset.image_px, "width": preset.image_px}
        if name in ("pixart-sigma", "sana1.5-1.6b"):  # else the size of the nearest picture that it was trained on
            given |= {"use_resolution_binning": False, "negative_prompt": None}

    expected = pipeline(
        **given, num_inference_steps=4, guidance_scale=preset.cfg_scale, generator=noise, output_type="np"
    ).images
    mine = generate(preset, networks, prompts, sampler, ImageOptions(steps=4, seed=7)).image

    assert mine is not None
    shown = (mine / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert float(torch.from_numpy(expected).std()) > 0.01  # not one flat color, which anything would match
    torch.testing.assert_close(shown, torch.from_numpy(expected), rtol=1e-3, atol=1e-3)
