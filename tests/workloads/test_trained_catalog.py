from pathlib import Path

import pytest
import torch

from workloads.errors import WorkloadError
from workloads.presets import parameter_count
from workloads.trained import catalog

WEIGHTS = Path(catalog.__file__).with_name("weights")


def test_models_of_the_same_backbone_differ_only_in_how_they_generate():
    presets = [catalog.load_trained(name).preset for name in catalog.trained_models()]
    assert len(presets) >= 2
    assert {(p.layers, p.d_model, p.heads, p.kv_heads, p.ffn, p.vocab) for p in presets} == {(5, 128, 4, 4, 384, 6)}
    assert all(1e6 <= parameter_count(preset) <= 3e6 for preset in presets)


def test_weights_are_small_and_of_two_bytes():
    files = list(WEIGHTS.glob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= 10_000_000
    sizes = {file.stat().st_size // (2 * parameter_count(catalog.load_trained(file.stem).preset)) for file in files}
    assert sizes == {1}


def test_log_tells_of_every_shipped_model_how_it_was_trained():
    log = catalog.training_log()
    assert set(log["models"]) == set(catalog.trained_models())
    for model in log["models"].values():
        assert model["losses"][-1]["loss_nats_per_token"] < model["losses"][0]["loss_nats_per_token"]
        assert model["losses"][-1]["step"] == model["steps"]
        assert model["steps"] - 50 < model["accuracies"][-1]["step"] <= model["steps"]
        assert {"python", "torch"} <= set(model["versions"])


def test_unknown_models_name_the_known_ones():
    with pytest.raises(WorkloadError, match=r"unknown trained model 'gpt-9'; known: .*sudoku-ar"):
        catalog.load_trained("gpt-9")


def test_weights_of_another_network_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"embedding.weight": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(WorkloadError, match="do not fit sudoku-ar"):
        catalog.load_snapshot("sudoku-ar", tmp_path / "x.safetensors")
