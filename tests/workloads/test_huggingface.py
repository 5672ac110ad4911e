import json
from pathlib import Path

import pytest
import torch

from profiler.capture import capture
from workloads.backbones import build_backbone
from workloads.errors import WorkloadError
from workloads.huggingface import build_from_config, build_llama_step
from workloads.presets import load_preset

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
# 2 x (q, o: 2*32*32; k, v: 2*32*16; SwiGLU: 3*32*48; two norms: 2*32) + embedding and head 2*100*32 + norm 32
LLAMA_PARAMETERS = 2 * (2048 + 1024 + 4608 + 64) + 6400 + 32


def write(folder: Path, table: object) -> Path:
    file = folder / "config.json"
    file.write_text(table if isinstance(table, str) else json.dumps(table))
    return file


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_builds_the_model_of_a_configuration(tmp_path: Path, device: str) -> None:
    pytest.importorskip("transformers")
    write(tmp_path, LLAMA)

    model = build_from_config(tmp_path, device=device, dtype=torch.bfloat16)  # the folder does as well as the file

    assert type(model).__name__ == "LlamaForCausalLM"
    assert not model.training
    assert model.config._attn_implementation == "sdpa"
    assert {(weight.device.type, weight.dtype) for weight in model.parameters()} == {(device, torch.bfloat16)}
    assert sum(weight.numel() for weight in model.parameters()) == LLAMA_PARAMETERS


def test_network_without_a_language_head_is_built_bare(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = build_from_config(write(tmp_path, {"model_type": "vit"}), device="meta")
    assert type(model).__name__ == "ViTModel"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("{", r"config\.json: is not valid JSON"),
        ([1], r"config\.json: must be an object with a text 'model_type'"),
        ({"hidden_size": 32}, r"must be an object with a text 'model_type'"),
        ({"model_type": "llamma"}, r"model_type 'llamma' is unknown to transformers \d"),
        ({**LLAMA, "num_attention_heads": 5}, r"config\.json: .*not a multiple of the number of attention heads"),
        ({**LLAMA, "hidden_size": "wide"}, r"config\.json: .*hidden_size"),
        ({"model_type": "t5"}, r"encoder-decoder models take two inputs"),
    ],
)
def test_broken_configurations_are_one_line(tmp_path: Path, table: object, message: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(WorkloadError, match=message) as error:
        build_from_config(write(tmp_path, table), device="meta")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(WorkloadError, match=r"config\.json: cannot be read \(No such file"):
        build_from_config(tmp_path, device="meta")


def test_missing_transformers_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(WorkloadError, match=r"pip install 'roofscape\[models\]'"):
        build_from_config(write(tmp_path, LLAMA))


def test_llama_step_is_the_network_of_the_preset() -> None:
    """By hand, of a step over cached tokens: all matrices once, and keys of the context and of the step."""
    preset = load_preset("smollm2-135m")
    step = build_llama_step("smollm2-135m", tokens=2, context=5, batch=3)
    with capture(name="step") as recording:
        assert step().shape == (3, 2, preset.vocab)
    trace = recording.trace
    kinds = [trace.ops[op].kind for op in trace.calls.op]
    products = [trace.ops[op] for op in trace.calls.op if trace.ops[op].kind == "gemm"]
    matrices = sum(parameter.numel() for parameter in build_backbone(preset, device="meta").parameters())
    matrices -= (2 * preset.layers + 1) * preset.d_model  # norms; the embedding is the output projection
    assert sum(op.matrix_flops for op in products) == 2 * 3 * 2 * matrices
    assert kinds.count("attention") == preset.layers
    [attention] = {op.size("keys") for op in trace.ops if op.kind == "attention"}
    assert attention == 7


def test_llama_step_refuses_other_networks() -> None:
    with pytest.raises(WorkloadError, match="'llada-8b' is no Llama"):
        build_llama_step("llada-8b", tokens=2)
