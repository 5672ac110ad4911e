"""Image presets in files of one's own, their options, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from workloads.errors import WorkloadError
from workloads.images.generation import ImageGeneration
from workloads.images.networks import build_denoiser, parameters_count
from workloads.images.presets import load_image_preset
from workloads.programs import resolve_program

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
        ("image:nothing", {}, "unknown image preset 'nothing'; known: dit-xl-2, flux.1-dev, pixart-sigma, "),
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
