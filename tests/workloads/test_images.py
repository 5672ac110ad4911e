"""Image models: published sizes and costs at full size on meta, and tiny ones on the CPU against the pipelines of
`diffusers`, which were written by others."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from profiler.capture import capture
from profiler.traces import Trace
from workloads.errors import WorkloadError
from workloads.images.conditioning import Prompts, encode, random_prompts
from workloads.images.generation import ImageGeneration, ImageOptions, generate
from workloads.images.networks import ImageNetworks, build_denoiser, build_networks, parameters_count
from workloads.images.presets import (
    PRESETS_FOLDER,
    ImagePreset,
    NetworkConfig,
    list_image_presets,
    load_image_preset,
)
from workloads.programs import resolve_program

VAE = {"block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1, "sample_size": 16}
VAE |= {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
CLIP = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
CLIP |= {"vocab_size": 50, "max_position_embeddings": 7, "projection_dim": 8}
T5 = {"d_model": 32, "d_ff": 16, "d_kv": 4, "num_heads": 2, "num_layers": 1, "vocab_size": 50}
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
    """A shipped preset with everything as it is but its sizes: 16 x 16 pixels, latents 8 x 8."""
    preset = load_image_preset(name)
    encoders = tuple(
        replace(encoder, tokens=5, config=T5)
        if encoder.class_name == "T5EncoderModel"
        else replace(encoder, tokens=7, config={**encoder.config, **CLIP})
        for encoder in preset.text_encoders
    )
    return replace(
        preset,
        image_px=16,
        denoiser=replace(preset.denoiser, config={**preset.denoiser.config, **DENOISERS[name]}),
        vae=replace(preset.vae, config={**preset.vae.config, **VAE}),
        text_encoders=encoders,
    )


def built(name: str, device: str = "cpu", batch: int = 2) -> tuple[ImagePreset, ImageNetworks, Prompts]:
    preset = tiny(name)
    networks = build_networks(preset, device=device, dtype=torch.float32, seed=3)
    return preset, networks, random_prompts(preset, batch, device=torch.device(device), seed=4)


def full_size(spec: str, steps: int = 2, **options: object) -> tuple[Trace, ImageGeneration]:
    program = resolve_program(f"image:{spec}", device="meta", steps=steps, sampler_options=options)
    with capture(name=spec, strict=True) as recording:  # strict: every operation has a cost rule
        generation = program.run()
    assert isinstance(generation, ImageGeneration)
    return recording.trace, generation


def phase_frame(trace: Trace, phase: str) -> pd.DataFrame:
    frame = trace.to_frame()
    return frame[frame.phase == phase]


# Published sizes: DiT 675M (arXiv 2212.09748, table 4), U-Net 860M (stable-diffusion-v1 model card), 2.6B (arXiv
# 2307.01952, table 1: 2.57B by count), SD3-medium 2B and FLUX.1 12B (model cards; 11.9B by count), PixArt-Sigma 0.6B
# (arXiv 2403.04692, abstract), SD3.5-medium 2.5B (model card), of which its table of 384 x 384 positions is 0.23B.
@pytest.mark.parametrize(
    ("name", "published", "rounded_to"),
    [
        ("dit-xl-2", 675e6, 0.002),
        ("sd15", 860e6, 0.002),
        ("sdxl", 2.57e9, 0.002),
        ("sd3-medium", 2.03e9, 0.002),
        ("flux.1-dev", 11.9e9, 0.002),
        ("pixart-sigma", 0.6e9, 0.08),
        ("sd3.5-medium", 2.5e9 - 384**2 * 1536, 0.02),
    ],
)
def test_denoiser_has_its_published_size(name: str, published: float, rounded_to: float) -> None:
    denoiser = build_denoiser(load_image_preset(name), device="meta", dtype=torch.bfloat16)

    assert parameters_count(denoiser) == pytest.approx(published, rel=rounded_to)


def test_pixart_has_the_blocks_that_its_dimensions_say() -> None:
    """By hand, d = 1152, 28 blocks: two attentions 4 (d^2 + d), feed-forward 8 d^2 + 5 d, modulation 6 d. Around them
    patches 17 d, T5's texts (4096 + d + 2) d, time (256 + 1 + d + 1) d and 6 (d^2 + d), output 32 d + 32 + 2 d."""
    denoiser = build_denoiser(load_image_preset("pixart-sigma"), device="meta", dtype=torch.bfloat16)

    d = 1152
    block = 8 * (d * d + d) + 8 * d * d + 5 * d + 6 * d
    around = 17 * d + (4096 + d + 2) * d + (256 + 1 + d + 1) * d + 6 * (d * d + d) + 32 * d + 32 + 2 * d
    assert parameters_count(denoiser) == 28 * block + around


def test_dual_attention_is_a_second_one_over_the_image_alone() -> None:
    """By hand, d = 1536, heads of 64: SD3.5 adds to SD3's blocks RMS norms (4 x 64 each, 2 x 64 in the last but text),
    13 attentions over the image 4 (d^2 + d) + 2 x 64, and 3 more modulations 3 (d^2 + d) of each of them."""
    sizes = {
        name: parameters_count(build_denoiser(load_image_preset(name), device="meta", dtype=torch.bfloat16))
        for name in ("sd3-medium", "sd3.5-medium")
    }

    d = 1536
    added = 24 * 4 * 64 + 13 * (4 * (d * d + d) + 2 * 64 + 3 * (d * d + d))
    assert sizes["sd3.5-medium"] - sizes["sd3-medium"] == added


# Text towers: CLIP ViT-L/14 123M and OpenCLIP bigG 694.7M (arXiv 2307.01952: 817M together); T5-XXL encoder 4.76B.
def test_text_encoders_and_decoder_have_their_published_sizes() -> None:
    networks = build_networks(load_image_preset("sd3-medium"), device="meta", dtype=torch.bfloat16)

    sizes = [parameters_count(encoder) for encoder in networks.text_encoders]
    assert sizes == [pytest.approx(size, rel=0.01) for size in (123.7e6, 694.7e6, 4.76e9)]
    assert parameters_count(networks.vae) == pytest.approx(83.8e6, rel=0.01)


def test_dit_costs_what_its_paper_counts() -> None:
    """118.64 GMACs per image (arXiv 2212.09748, table 4: 118.6 "Gflops" of one forward, multiply-adds counted once)."""
    trace, generation = full_size("dit-xl-2@ddim", steps=1)

    flops = phase_frame(trace, "denoise").matrix_flops.sum()
    assert flops / 2 / 2 == pytest.approx(118.64e9, rel=0.01)  # two images: guidance doubles the batch
    assert generation.rows_per_forward == (2 * 256,)


def test_guidance_doubles_the_cost_of_a_step() -> None:
    doubled, with_guidance = full_size("dit-xl-2@ddim", steps=1)
    single, without = full_size("dit-xl-2@ddim", steps=1, cfg_scale=1)

    pair, one = (phase_frame(trace, "denoise").matrix_flops.sum() for trace in (doubled, single))
    assert pair == 2 * one
    assert (with_guidance.rows_per_forward, without.rows_per_forward) == ((512,), (256,))


def test_flux_costs_what_its_dimensions_say() -> None:
    """Worked out from d = 3072, 19 double blocks, 38 single ones, 4096 image and 512 text positions; one forward.

    Per position a double block multiplies with 12 d^2 weights (q, k, v, out: 4; feed-forward: 8) and so does a single
    one; attention takes 4 d FLOPs for each pair of positions.
    """
    trace, generation = full_size("flux.1-dev", steps=1)

    d, positions = 3072, 4096 + 512
    blocks = (19 + 38) * (2 * 12 * d**2 * positions + 4 * d * positions**2)
    flops = phase_frame(trace, "denoise").matrix_flops.sum()
    assert flops == pytest.approx(blocks, rel=0.002)  # embeddings, modulation and the last layer are the rest
    assert flops == pytest.approx(74.4e12, rel=0.002)
    assert generation.rows_per_forward == (4096,)


@pytest.mark.parametrize("name", PRESETS)
def test_full_size_is_captured_on_meta(name: str) -> None:
    trace, generation = full_size(name)

    assert trace.unknown_ops == ()
    assert trace.provenance.device == "meta"
    assert generation.nfe == 2
    assert generation.image is not None
    side = load_image_preset(name).image_px
    assert generation.image.shape == (1, 3, side, side)
    phases = {"denoise", "vae_decode"} | (set() if name.startswith("dit") else {"text_encode"})
    assert {phase for phase in trace.phases if phase} == phases
    denoising = phase_frame(trace, "denoise")
    assert set(denoising.step) == {0, 1}
    flops = denoising.groupby("step").flops.sum()
    assert flops[0] == pytest.approx(flops[1], rel=1e-4)  # multistep samplers do a little more at the second step


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
    assert first.latent_shape == (2, preset.vae.config["latent_channels"], 8, 8)


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
        case "pixart-sigma":
            scheduler = diffusers.DPMSolverMultistepScheduler(
                **preset.schedule, algorithm_type="dpmsolver++", solver_order=2
            )
            return diffusers.PixArtSigmaPipeline(**pieces, transformer=networks.denoiser, scheduler=scheduler)
        case "sd3-medium" | "sd3.5-medium":
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
        given = {**pipeline_inputs(preset, networks, prompts), "height": 16, "width": 16}
        if name == "pixart-sigma":  # else it would take the size of the nearest picture that it was trained on
            given |= {"use_resolution_binning": False, "negative_prompt": None}

    expected = pipeline(
        **given, num_inference_steps=4, guidance_scale=preset.cfg_scale, generator=noise, output_type="np"
    ).images
    mine = generate(preset, networks, prompts, sampler, ImageOptions(steps=4, seed=7)).image

    assert mine is not None
    shown = (mine / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert float(torch.from_numpy(expected).std()) > 0.01  # not one flat color, which anything would match
    torch.testing.assert_close(shown, torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


TINY_FILE = """
schema = 1
source = "invented for this test"
prediction = "noise"
guidance = "doubled"
sampler = "heun"
steps = 3
cfg_scale = 2.0
image_px = 8

[schedule]
beta_start = 0.0001
beta_end = 0.02

[denoiser]
class = "DiTTransformer2DModel"
[denoiser.config]
num_attention_heads = 2
attention_head_dim = 4
in_channels = 4
out_channels = 8
num_layers = 1
patch_size = 2
sample_size = 8
num_embeds_ada_norm = 10

[vae]
class = "AutoencoderKL"
[vae.config]
block_out_channels = [4]
norm_num_groups = 4
latent_channels = 4
"""


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY_FILE)
    return file


def test_a_preset_file_of_ones_own_runs_on_the_cpu(tiny_file: Path) -> None:
    generation = resolve_program(f"image:{tiny_file}", batch=2).run()

    assert isinstance(generation, ImageGeneration)
    assert generation.nfe == 5  # Heun, 3 steps
    assert generation.steps == 3
    assert generation.positions_per_image == 16  # patches of 2 x 2 on 8 x 8
    assert generation.rows_per_forward == (2 * 2 * 16,) * 5
    assert generation.image is not None
    assert generation.image.shape == (2, 3, 8, 8)


def test_options_are_read_as_texts(tiny_file: Path) -> None:
    options = {"cfg_scale": "1", "decode": "false"}
    program = resolve_program(f"image:{tiny_file}@ddim", steps=4, sampler_options=options)

    generation = program.run()

    assert isinstance(generation, ImageGeneration)
    assert generation.rows_per_forward == (16,) * 4
    assert generation.image is None
    assert program.parameters_count == parameters_count(
        build_denoiser(load_image_preset(tiny_file), device="meta", dtype=torch.float32)
    )


@pytest.mark.parametrize(
    ("spec", "arguments", "reason"),
    [
        ("image:nothing", {}, "unknown image preset 'nothing'; known: dit-xl-2, flux.1-dev, pixart-sigma, sd15, "),
        ("image:sd15@flow_match", {}, "must be one of ddpm, ddim, euler, dpmpp_2m, heun .* got 'flow_match'"),
        ("image:sd15@ddim", {"sampler": "euler"}, "names 'ddim', but sampler says 'euler'"),
        ("image:sd15@ddim", {"gen_length": 5}, "'ddim' has no option 'gen_length'; it takes: steps, cfg_scale"),
        ("image:sd15", {"seq_len": 5}, "an image model takes no seq_len"),
        ("image:sd15", {"steps": 0}, "steps must be > 0, got 0"),
        ("image:sd15", {"sampler_options": {"image_px": 100}}, "image_px must be a multiple of 64, got 100"),
        ("image:dit-xl-2", {"sampler_options": {"image_px": 512}}, "position table is made for image_px = 256"),
    ],
)
def test_refuses_what_cannot_be(spec: str, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(WorkloadError, match=reason):
        resolve_program(spec, device="meta", **arguments)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("schema = 1", "schema = 2", "must begin with schema = 1"),
        ("steps = 3", "", "lacks steps"),
        ("steps = 3", "steps = 3\nstride = 2", "unknown key 'stride'"),
        ("steps = 3", "steps = 2.5", "steps has a value of the wrong type, got 2.5"),
        ("steps = 3", "steps = 0", "steps must be > 0, got 0"),
        ('"doubled"', '"tripled"', "guidance must be one of doubled, distilled, got 'tripled'"),
        ("DiTTransformer2DModel", "Other", "denoiser.class must be one of DiTTransformer2DModel, .* got 'Other'"),
        ("num_layers = 1", "layers = 1", "makes no DiTTransformer2DModel .*layers"),
        ("patch_size = 2", "", "the config of DiTTransformer2DModel lacks patch_size"),
        ("[schedule]", "[schedule", "is not valid TOML"),
    ],
)
def test_a_broken_preset_file_is_refused(tiny_file: Path, old: str, new: str, reason: str) -> None:
    assert old in TINY_FILE
    tiny_file.write_text(TINY_FILE.replace(old, new))

    with pytest.raises(WorkloadError, match=reason):
        resolve_program(f"image:{tiny_file}", device="meta")


def test_every_preset_names_its_source() -> None:
    assert list_image_presets() == tuple(sorted(path.stem for path in PRESETS_FOLDER.glob("*.toml"))) == tuple(PRESETS)
    for name in PRESETS:
        preset = load_image_preset(name)
        assert len(preset.source) > 20
        assert isinstance(preset.denoiser, NetworkConfig)
