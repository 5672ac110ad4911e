"""Image models at full size, on meta: published numbers of parameters, and costs worked out by hand."""

from pathlib import Path

import pandas as pd
import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from profiler.capture import capture
from profiler.traces import Trace
from workloads.errors import WorkloadError
from workloads.images.generation import ImageGeneration
from workloads.images.networks import build_denoiser, build_networks, parameters_count
from workloads.images.presets import PRESETS_FOLDER, NetworkConfig, list_image_presets, load_image_preset
from workloads.programs import resolve_program


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
# (arXiv 2403.04692, abstract), SD3.5-medium 2.5B (model card), of which its table of 384 x 384 positions is 0.23B,
# SD3.5-large 8.1B (model card), of which 0.09B, SANA 1.6B (arXiv 2501.18427: 1,604M).
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
        ("sd3.5-large", 8.1e9 - 192**2 * 2432, 0.01),
        ("sana1.5-1.6b", 1.604e9, 0.001),
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


def test_sana_costs_what_its_dimensions_say() -> None:
    """Worked out from d = 2240, 20 blocks, 1,024 positions and 300 tokens; guidance doubles them.

    Per position a block multiplies with 4 d^2 weights of linear attention, 2 d^2 of the cross attention, d x 5 d and
    2.5 d x d of the convolutions and 9 x 5 d of the one between; per token with 2 d^2. Each of 70 heads sums 33 x 32
    products over positions and applies them again; cross attention takes 4 d FLOPs for each position and token.
    """
    trace, generation = full_size("sana1.5-1.6b", steps=1)

    d, positions, tokens = 2240, 1024, 300
    per_position = 2 * (13.5 * d**2 + 45 * d) + 2 * 2 * 70 * 33 * 32 + 4 * d * tokens
    flops = phase_frame(trace, "denoise").matrix_flops.sum()
    assert flops == pytest.approx(2 * 20 * (positions * per_position + tokens * 4 * d**2), rel=0.01)
    assert generation.rows_per_forward == (2 * positions,)
    texts = phase_frame(trace, "text_encode")
    assert texts.matrix_flops.sum() == pytest.approx((510 + 300) * 2 * 2.02e9, rel=0.05)  # 2.61B less the vocabulary


@pytest.mark.parametrize("name", list_image_presets())
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


def test_transposed_patches_change_what_is_copied_and_nothing_else() -> None:
    """Each norm over the patches copies them: 24 blocks have 2, and one ends the network."""
    traces = []
    for transposed in (False, True):
        options = {"transposed_patches": str(transposed).lower(), "decode": "false", "image_px": "256"}
        program = resolve_program("image:sd3.5-medium", device="meta", steps=1, sampler_options=options)
        with capture(name="drawn") as recording:
            program.run()
        traces.append(phase_frame(recording.trace, "denoise"))
    rows, as_before = traces
    copies = [(frame.name == "aten::clone").sum() for frame in traces]
    assert copies[1] - copies[0] == 2 * 24 + 1 - 1  # without the one copy before the blocks
    assert rows.flops.sum() == as_before.flops.sum()
    assert (rows.kind == "gemm").sum() == (as_before.kind == "gemm").sum()


def text_kinds(name: str, *, earlier: bool) -> pd.Series:
    options = {"earlier_attention": str(earlier).lower(), "decode": "false", "image_px": "256", "cfg_scale": "1"}
    return phase_frame(full_size(name, steps=1, **options)[0], "text_encode").kind.value_counts()


def test_earlier_attention_of_t5_is_two_products_and_a_softmax_in_each_of_24_layers() -> None:
    fused, single = (text_kinds("pixart-sigma", earlier=earlier) for earlier in (False, True))
    assert fused["attention"] == single["softmax"] == 24
    assert "softmax" not in fused
    assert "attention" not in single
    assert single["gemm"] - fused["gemm"] == 2 * 24


def test_earlier_attention_of_gemma_is_fused_in_each_of_26_layers() -> None:
    single, fused = (text_kinds("sana1.5-1.6b", earlier=earlier) for earlier in (False, True))
    assert single["softmax"] == fused["attention"] == 26
    assert "softmax" not in fused
    assert single["gemm"] - fused["gemm"] == 2 * 26


def test_every_preset_names_its_source() -> None:
    assert list_image_presets() == tuple(sorted(path.stem for path in PRESETS_FOLDER.glob("*.toml")))
    for name in list_image_presets():
        preset = load_image_preset(name)
        assert len(preset.source) > 20
        assert isinstance(preset.denoiser, NetworkConfig)


EVERY_OTHER = '''
"""Asks the network at one step of `every`."""

from dataclasses import dataclass

from workloads.images.generation import ImageOptions

SCHEDULER = "ddim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(ImageOptions):
    every: int = 2


def predictor(predict, denoiser, options):
    asked, last = 0, None

    def cached(latents, timestep):
        nonlocal asked, last
        if asked % options.every == 0:
            last = predict(latents, timestep)
        asked += 1
        return last

    return cached
'''


def test_sampler_of_ones_own_that_skips_steps_saves_their_products(tmp_path: Path) -> None:
    (tmp_path / "cached.py").write_text(EVERY_OTHER)
    plain, whole = full_size("dit-xl-2@ddim", steps=5)
    trace, cached = full_size(f"dit-xl-2@{tmp_path / 'cached.py'}", steps=5, every="2")  # asks at steps 0, 2 and 4
    assert (whole.nfe, cached.nfe) == (5, 3)
    assert cached.rows_per_forward == whole.rows_per_forward[:3]
    flops = [phase_frame(each, "denoise").matrix_flops.sum() for each in (plain, trace)]
    assert flops[1] * 5 == flops[0] * 3
    assert set(phase_frame(trace, "denoise").step) == set(range(5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"own\.py: has no function predictor\(predict, denoiser, options\)"),
        ("Options = int\ndef predictor(predict, denoiser, options): ...\n", "Options must be a dataclass that extends"),
        ("SCHEDULER = 'dimm'\ndef predictor(predict, denoiser, options): ...\n", "must be one of .*got 'dimm'"),
    ],
)
def test_file_that_is_no_image_sampler_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(WorkloadError, match=message):
        resolve_program(f"image:dit-xl-2@{tmp_path / 'own.py'}", device="meta", steps=2)
