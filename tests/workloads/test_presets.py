import subprocess
import sys
from pathlib import Path

import pytest

from workloads.errors import WorkloadError
from workloads.presets import PRESETS_FOLDER, list_presets, load_preset, parameter_count


# The published sizes: Llama 3.1 8B has 8.03e9 parameters (model card), LLaDA-8B 8.02e9 (model card).
@pytest.mark.parametrize(("name", "published"), [("llama-3.1-8b", 8_030_261_248), ("llada-8b", 8_015_581_184)])
def test_parameter_count_matches_the_published_model(name: str, published: int) -> None:
    assert parameter_count(load_preset(name)) == published


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
    with pytest.raises(WorkloadError, match=r"unknown model preset 'llada-9b'; known: .*llada-8b.*llama-3\.1-8b"):
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
