import json
import subprocess
import sys
from pathlib import Path

import pytest

from workloads.architecture import Mixture, StateSpace
from workloads.backbones import build_backbone
from workloads.errors import WorkloadError
from workloads.presets import PRESETS_FOLDER, active_parameter_count, list_presets, load_preset, parameter_count

# Tensor totals that the model hubs show for the published checkpoints; Jamba's, too, counts its norms.
HUB_TOTALS = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-2-7b": 6_738_415_616,
    "llada-8b": 8_015_581_184,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "nemotron-nano-9b-v2": 8_888_227_328,
    "mixtral-8x7b": 46_702_792_704,
    "jamba-v0.1": 51_570_323_328,
    "mamba-2.8b": 2_768_345_600,
    "gpt-2": 124_439_808,
    "smollm2-135m": 134_515_008,
}

# Billions of parameters in all and met by one token, matrices alone (norms and biases left out), worked out
# independently from the published dimensions. DiffusionGemma's leave out its self-conditioning network.
MATRICES_B = {
    "llada-8b": (8.015, 8.015),
    "llada-1.5": (8.015, 8.015),
    "llada-moe-7b-a1b": (7.357, 1.72),
    "llada2.0-mini": (16.256, 1.433),
    "llada2.1-mini": (16.256, 1.433),
    "llada2.0-flash": (102.889, 6.152),
    "dream-7b": (7.615, 7.615),
    "diffucoder-7b": (7.615, 7.615),
    "fast-dllm-v2-7b": (7.615, 7.615),
    "wedlm-7b": (7.615, 7.615),
    "qwen2.5-7b": (7.615, 7.615),
    "sdar-8b": (8.19, 8.19),
    "wedlm-8b": (8.19, 8.19),
    "qwen3-8b": (8.19, 8.19),
    "sdar-30b-a3b": (30.532, 3.353),
    "rnd1-30b-a3b": (30.532, 3.353),
    "qwen3-30b-a3b": (30.532, 3.353),
    "diffusiongemma-26b-a4b": (25.232, 3.822),
    "mdlm-170m": (0.169, 0.169),
    "sedd-small": (0.169, 0.169),
    "sedd-medium": (0.424, 0.424),
    "bd3-lm": (0.169, 0.169),
    "llama-2-7b": (6.738, 6.738),
    "llama-3.1-8b": (8.03, 8.03),
    "llama-3.1-70b": (70.552, 70.552),
    "mixtral-8x7b": (46.703, 12.88),
    "deepseek-v3": (671.025, 37.551),
    "mamba-2.8b": (2.767, 2.767),
    "jamba-v0.1": (51.569, 12.108),
    "nemotron-h-8b": (8.1, 8.1),
    "gpt-2": (0.124, 0.124),
    "smollm2-135m": (0.134, 0.134),
}


@pytest.mark.parametrize(("name", "published"), HUB_TOTALS.items())
def test_parameter_count_matches_the_published_model(name: str, published: int) -> None:
    assert parameter_count(load_preset(name)) == published


@pytest.mark.parametrize(("name", "billions"), MATRICES_B.items())
def test_counts_match_built_networks_and_published_digits(name: str, billions: tuple[float, float]) -> None:
    preset = load_preset(name)
    weights = dict(build_backbone(preset, device="meta").named_parameters())
    apart = [weight for part, weight in weights.items() if part.startswith("self_conditioning")]
    matrices = sum(weight.numel() for weight in weights.values() if weight.ndim > 1)
    matrices -= sum(weight.numel() for weight in apart if weight.ndim > 1)
    idle = parameter_count(preset) - active_parameter_count(preset)

    assert sum(weight.numel() for weight in weights.values()) == parameter_count(preset)
    assert round(matrices / 1e9, 3) == billions[0]
    # Jamba's figure leaves out its routers, 16 of 4096 x 16.
    routers = 16 * 4096 * 16 if name == "jamba-v0.1" else 0
    assert round((matrices - idle - routers) / 1e9, 3) == billions[1]


def test_published_digits_are_those_of_the_reference_table(shared_data) -> None:
    file = shared_data("../reference/models.json")
    models = [model for model in json.loads(file.read_text()) if model["family"] == "lm"]

    given = {m["name"].lower(): (m["computed_total_params_b"], m["computed_active_params_b"]) for m in models}
    assert given == MATRICES_B


def test_counts_by_hand_of_an_expert_layer_and_of_a_state_space() -> None:
    mixture = Mixture(experts=4, top_k=2, expert_ffn=3, shared=1, router="sigmoid")
    # Five experts of 3 matrices of 2 x 3, a router of 4 x 2, a bias per expert; with 2 of 4 experts, 3 x 18.
    assert mixture.parameters(2, 3) == 5 * 18 + 8 + 4
    assert mixture.parameters(2, 3, experts=2) == 3 * 18 + 8 + 4
    space = StateSpace(version=2, inner=4, state=3, heads=2, groups=1, conv=4)
    # In: 5 x (4 + 10 + 2); convolution: 10 x 5; step bias, decay and skip: 3 x 2; norm: 4; out: 4 x 5.
    assert space.parameters(5) == 80 + 50 + 6 + 4 + 20


def test_the_small_twins_differ_only_in_how_they_generate() -> None:
    ar, diffusion = load_preset("ar-100m"), load_preset("diffusion-100m")

    differing = {field for field in ar.__dataclass_fields__ if getattr(ar, field) != getattr(diffusion, field)}

    assert differing == {"name", "kind", "mask_id", "source"}
    assert parameter_count(ar) == parameter_count(diffusion) == pytest.approx(100e6, rel=0.01)


def test_every_preset_loads_under_its_own_name_in_any_case() -> None:
    assert set(list_presets()) >= {"llama-3.1-8b", "llada-8b", "ar-100m", "diffusion-100m"}
    for name in list_presets():
        assert load_preset(name.upper()).name == name


def test_presets_need_no_torch() -> None:
    code = (
        "import sys; from workloads.presets import list_presets, load_preset; from workloads.samplers.registry import "
        "list_samplers; load_preset(list_presets()[0]); list_samplers(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        WorkloadError,
        match=r"unknown model preset 'llada-9b'; did you mean 'llada-8b'\? known: .*llada-8b.*llama-3\.1-8b",
    ):
        load_preset("llada-9b")


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        ("layers = 32", "layer = 32", r"unknown key 'layer'; allowed: kind, layers"),
        ("layers = 32", "", r"lacks layers"),
        ("layers = 32", "layers = -1", r"layers must be > 0, got -1"),
        ("layers = 32", "layers = nan", r"layers must be a whole number, got nan"),
        ("layers = 32", "layers = true", r"layers must be a whole number, got True"),
        ("layers = 32", 'layers = "32"', r"layers must be a whole number, got '32'"),
        ("rope_theta = 500000.0", "rope_theta = nan", r"rope_theta must be finite and > 0, got nan"),
        ("norm_eps = 1e-5", "norm_eps = inf", r"norm_eps must be finite and > 0, got inf"),
        ("kv_heads = 32", "kv_heads = 5", r"heads must be a multiple of kv_heads = 5, got 32"),
        ("mask_id = 126336", "mask_id = 126464", r"mask_id must lie in 0\.\.126463, got 126464"),
        ("mask_id = 126336", "", r"mask_id must lie in 0\.\.126463, got None"),
        ('kind = "masked_diffusion"', 'kind = "ar"', r"mask_id belongs to masked_diffusion and block_diffusion only"),
        (
            'kind = "masked_diffusion"',
            'kind = "rnn"',
            r"kind must be one of ar, masked_diffusion, block_diffusion, uniform_diffusion, got 'rnn'",
        ),
        ("schema = 1", "schema = 2", r"must begin with schema = 1"),
        ("schema = 1", "schema = ", r"is not valid TOML"),
    ],
)
def test_a_broken_file_is_one_line_that_names_file_and_key(
    tmp_path: Path, line: str, replacement: str, message: str
) -> None:
    text = (PRESETS_FOLDER / "llada-8b.toml").read_text()
    assert line in text
    file = tmp_path / "mine.toml"
    file.write_text(text.replace(line, replacement))

    with pytest.raises(WorkloadError, match=message) as error:
        load_preset(file)

    assert "mine.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"absent\.toml: cannot be read \(No such file"):
        load_preset(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("name", "line", "replacement", "message"),
    [
        ("mixtral-8x7b", "experts = 8", "experts = 0", r"moe: experts must be > 0, got 0"),
        ("mixtral-8x7b", "top_k = 2", "topk = 2", r"unknown key 'moe\.topk'; allowed: experts, top_k"),
        ("mixtral-8x7b", "top_k = 2", "", r"lacks moe\.top_k"),
        ("mixtral-8x7b", "top_k = 2", "top_k = 2.5", r"moe\.top_k must be a whole number, got 2\.5"),
        ("mixtral-8x7b", "[moe]", "moe = 3\n[window]", r"moe must be a table, got 3"),
        ("mixtral-8x7b", "rope_theta = 1000000.0", "", r"rope_theta belongs to rotary positions, got None"),
        ("jamba-v0.1", 'layout = "SSSSASSS"', 'layout = "SXA"', r"layout may hold A, S, \*, M, -, got 'X'"),
        ("jamba-v0.1", 'layout = "SSSSASSS"', 'layout = "A"', r"a layout with S or M needs state_space"),
        ("nemotron-h-8b", "version = 2", "version = 3", r"version must be 1 or 2, got 3"),
        ("gpt-2", 'norm = "layernorm"', 'norm = "batch"', r"norm must be one of rmsnorm, layernorm, got 'batch'"),
        ("gpt-2", 'positions = "learned"', 'positions = "sine"', r"positions must be one of rotary, learned, none"),
        ("gpt-2", 'ffn_type = "gelu_mlp"', 'ffn_type = "relu"', r"ffn_type must be one of swiglu, geglu, gelu_mlp"),
    ],
)
def test_broken_optional_parts_are_one_line_that_names_file_and_key(
    tmp_path: Path, name: str, line: str, replacement: str, message: str
) -> None:
    text = (PRESETS_FOLDER / f"{name}.toml").read_text()
    assert line in text
    file = tmp_path / "mine.toml"
    file.write_text(text.replace(line, replacement, 1))

    with pytest.raises(WorkloadError, match=message) as error:
        load_preset(file)

    assert "mine.toml" in str(error.value)
    assert "\n" not in str(error.value)
