import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from workloads.checkpoint_config import preset_from_config, rotary_frequencies
from workloads.checkpoints import load_checkpoint, load_into, our_name, weight_files
from workloads.errors import WorkloadError
from workloads.programs import resolve_program
from workloads.transformer import Transformer

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FOREIGN = {
    "llama": ("LlamaConfig", {}),
    "llama-tied": ("LlamaConfig", {"tie_word_embeddings": True}),
    "llama-scaled": ("LlamaConfig", {"rope_parameters": LLAMA3}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 16}),
}


def write_foreign(folder: Path, case: str, *, shard_size: str = "1GB"):
    """A small model of transformers with random weights, biases and norms included, saved by its own code."""
    config_name, changes = FOREIGN[case]
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, config_name)(**SIZES, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.2 + (weight.ndim == 1))
    model.eval().save_pretrained(folder, max_shard_size=shard_size)
    return model


def write_checkpoint(folder: Path, config: dict[str, object], tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("case", FOREIGN)
def test_logits_equal_those_of_the_library_that_wrote_the_checkpoint(case, tmp_path):
    foreign = write_foreign(tmp_path, case)
    tokens = torch.randint(0, 60, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(load_checkpoint(tmp_path)(tokens), foreign(tokens).logits, rtol=1e-4, atol=1e-4)


def test_sharded_checkpoint_is_read_through_its_index(tmp_path):
    foreign = write_foreign(tmp_path, "qwen2", shard_size="20KB")
    assert len(weight_files(tmp_path)) > 1
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(load_checkpoint(tmp_path)(tokens), foreign(tokens).logits, rtol=1e-4, atol=1e-4)


def test_dream_is_qwen2_under_another_name_and_bidirectional(tmp_path):
    write_foreign(tmp_path, "qwen2")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "Dream", "mask_token_id": 59}))
    model = load_checkpoint(tmp_path)
    assert (model.preset.kind, model.mask_id, model.preset.qkv_bias) == ("masked_diffusion", 59, True)
    first, last = torch.tensor([[1, 2, 3]]), torch.tensor([[1, 2, 4]])
    assert not torch.allclose(model(first)[:, 0], model(last)[:, 0])


def test_llada_names_land_where_a_forward_worked_out_by_hand_expects_them(tmp_path):
    d, ffn, vocab = 4, 6, 9
    draw = torch.Generator().manual_seed(2)
    shapes = {
        "q_proj": (d, d),
        "k_proj": (d, d),
        "v_proj": (d, d),
        "attn_out": (d, d),
        "ff_proj": (ffn, d),
        "up_proj": (ffn, d),
        "ff_out": (d, ffn),
        "attn_norm": (d,),
        "ff_norm": (d,),
    }
    part = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    embedding, head = (torch.randn(vocab, d, generator=draw) for _ in range(2))
    final = torch.randn(d, generator=draw)
    tensors = {f"model.transformer.blocks.0.{name}.weight": tensor for name, tensor in part.items()}
    tensors |= {
        "model.transformer.wte.weight": embedding,
        "model.transformer.ln_f.weight": final,
        "model.transformer.ff_out.weight": head,
    }
    config = {
        "model_type": "llada",
        "n_layers": 1,
        "d_model": d,
        "n_heads": 1,
        "mlp_hidden_size": ffn,
        "vocab_size": vocab - 1,
        "embedding_size": vocab,
        "max_sequence_length": 16,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "mask_token_id": 8,
    }
    model = load_checkpoint(write_checkpoint(tmp_path / "llada", config, tensors))

    def norm(x, weight):
        return x / (x.square().mean() + 1e-5).sqrt() * weight

    # One token: attention gives its own value, and position 0 is not rotated.
    x = embedding[3]
    x = x + part["attn_out"] @ (part["v_proj"] @ norm(x, part["attn_norm"]))
    h = norm(x, part["ff_norm"])
    x = x + part["ff_out"] @ (torch.nn.functional.silu(part["ff_proj"] @ h) * (part["up_proj"] @ h))
    with torch.no_grad():
        torch.testing.assert_close(model(torch.tensor([[3]]))[0, 0], head @ norm(x, final), rtol=1e-4, atol=1e-4)
    assert (model.mask_id, model.preset.kind) == (8, "masked_diffusion")


def test_plain_rotary_frequencies_by_hand():
    assert rotary_frequencies({"rope_theta": 100.0}, head_dim=4).tolist() == pytest.approx([1.0, 0.1])


def test_llama3_scaling_keeps_short_waves_and_divides_long_ones():
    scaled = rotary_frequencies({"rope_parameters": LLAMA3}, head_dim=16)
    plain = rotary_frequencies({"rope_theta": 10000.0}, head_dim=16)
    assert scaled[0] == plain[0]
    assert scaled[-1].item() == pytest.approx(plain[-1].item() / 8)


def test_pickled_weights_are_refused_unread(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "rope_theta": 1e4}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(WorkloadError, match=r"pytorch_model\.bin is a pickle.*never loaded"):
        weight_files(tmp_path)


@pytest.mark.parametrize("name", ["../model.safetensors", "model.bin"])
def test_index_names_only_safetensors_beside_it(name, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(WorkloadError, match="may name only"):
        weight_files(tmp_path)


def test_missing_unknown_and_misshapen_tensors_are_named(tmp_path):
    foreign = write_foreign(tmp_path, "llama")
    config = json.loads((tmp_path / "config.json").read_text())
    tensors = {name: weight.detach().clone() for name, weight in foreign.state_dict().items()}
    lacking = {name: tensor for name, tensor in tensors.items() if name != "model.norm.weight"}
    with pytest.raises(WorkloadError, match=r"lack 1 tensors .* norm\.weight"):
        load_checkpoint(write_checkpoint(tmp_path / "lacking", config, lacking))
    with pytest.raises(WorkloadError, match=r"'model\.extra\.weight' has no place"):
        load_checkpoint(write_checkpoint(tmp_path / "extra", config, tensors | {"model.extra.weight": torch.ones(1)}))
    with pytest.raises(WorkloadError, match=r"model\.norm\.weight must have shape \(32,\), got \(31,\)"):
        load_checkpoint(write_checkpoint(tmp_path / "shape", config, tensors | {"model.norm.weight": torch.ones(31)}))
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WorkloadError, match="cannot be read as safetensors"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "gpt2"}, "model_type must be one of"),
        ({"quantization_config": {"bits": 4}}, "quantized"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "scaling 'yarn'"),
        ({"hidden_size": None}, "lacks hidden_size"),
    ],
)
def test_configurations_that_we_cannot_run_are_refused(change, words, tmp_path):
    config = {"model_type": "qwen2", **SIZES, "rms_norm_eps": 1e-6, **change}
    (tmp_path / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if value is not None})
    )
    with pytest.raises(WorkloadError, match=words):
        preset_from_config(tmp_path, name="x")


def test_checkpoint_must_have_the_dimensions_of_the_preset(tmp_path, tiny_ar):
    write_foreign(tmp_path, "llama")
    with pytest.raises(WorkloadError, match=r"config\.json says d_model = 32, but tiny has d_model = 24"):
        load_into(Transformer(tiny_ar), tmp_path)


def test_programs_run_with_given_weights(tmp_path):
    foreign = write_foreign(tmp_path, "llama")
    program = resolve_program(f"hf:{tmp_path}/config.json", seq_len=6, weights=tmp_path)
    tokens = torch.randint(0, 60, (1, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(program.run().logits, foreign(tokens).logits)
    preset = tmp_path / "mine.toml"
    preset.write_text(
        'schema = 1\nkind = "ar"\nlayers = 2\nd_model = 32\nheads = 4\nkv_heads = 2\nhead_dim = 8\nffn = 48\n'
        'vocab = 60\nmax_length = 64\nrope_theta = 10000.0\nnorm_eps = 1e-6\nsource = "made up for this test"\n'
    )
    ours = resolve_program(f"{preset}@forward", seq_len=6, weights=tmp_path).run()
    torch.testing.assert_close(ours, program.run().logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(WorkloadError, match="takes no weights"):
        resolve_program(f"{preset}@forward", device="meta", weights=tmp_path)


def test_folder_of_a_checkpoint_is_a_program_of_its_own(tmp_path):
    """Its network and weights are those that the library reads; on meta its dimensions are enough."""
    folder = tmp_path / "somebody's model"
    write_foreign(folder, "llama")
    program = resolve_program(f"{folder}@forward", seq_len=8)
    assert program.preset is not None
    assert program.preset.name == "somebody's model"
    logits = program.run()
    foreign = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.randint(0, program.preset.vocab, (1, 8), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(logits, foreign(tokens).logits, rtol=1e-4, atol=1e-5)
    assert resolve_program(str(folder), device="meta", prompt_length=8, gen_length=4).run().nfe == 4
    with pytest.raises(WorkloadError, match="a checkpoint's folder takes no weights"):
        resolve_program(str(folder), weights=folder)
    with pytest.raises(WorkloadError, match=r"config\.json: cannot be read"):
        resolve_program(str(tmp_path))


def test_unknown_names_are_not_guessed():
    with pytest.raises(WorkloadError, match=r"model\.layers\.0\.mystery\.weight"):
        our_name("model.layers.0.mystery.weight")
