"""GGUF files that the tests write with llama.cpp's own package, against the same weights as safetensors."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import refused

from workloads.checkpoint_config import rotary_frequencies
from workloads.checkpoints import load_checkpoint, load_into
from workloads.errors import WorkloadError
from workloads.gguf_files import open_gguf
from workloads.gguf_weights import preset_from_gguf
from workloads.packaged import PACKAGED_GGUF, PackagedWeights, find_gguf
from workloads.programs import resolve_program
from workloads.transformer import Transformer

gguf = pytest.importorskip("gguf", reason="GGUF files need the gguf package")
safetensors_torch = pytest.importorskip("safetensors.torch")

LAYERS, D_MODEL, HEADS, KV_HEADS, FFN, VOCAB = 2, 64, 4, 2, 96, 50
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": LAYERS,
    "hidden_size": D_MODEL,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "intermediate_size": FFN,
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5000.0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
SETTINGS = {
    "block_count": LAYERS,
    "context_length": 64,
    "embedding_length": D_MODEL,
    "feed_forward_length": FFN,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
}
TOKENS = torch.randint(0, VOCAB, (2, 40), generator=torch.Generator().manual_seed(1))


def published_weights(*, tied: bool = False) -> dict[str, torch.Tensor]:
    """Random weights under the names that Hugging Face's Llama has."""
    draw = torch.Generator().manual_seed(7)
    kv_width = D_MODEL // HEADS * KV_HEADS
    shapes = {
        "self_attn.q_proj": (D_MODEL, D_MODEL),
        "self_attn.k_proj": (kv_width, D_MODEL),
        "self_attn.v_proj": (kv_width, D_MODEL),
        "self_attn.o_proj": (D_MODEL, D_MODEL),
        "mlp.gate_proj": (FFN, D_MODEL),
        "mlp.up_proj": (FFN, D_MODEL),
        "mlp.down_proj": (D_MODEL, FFN),
        "input_layernorm": (D_MODEL,),
        "post_attention_layernorm": (D_MODEL,),
    }
    named = {f"model.layers.{i}.{part}.weight": shape for i in range(LAYERS) for part, shape in shapes.items()}
    named |= {"model.embed_tokens.weight": (VOCAB, D_MODEL), "model.norm.weight": (D_MODEL,)}
    if not tied:
        named["lm_head.weight"] = (VOCAB, D_MODEL)
    return {name: torch.randn(shape, generator=draw) * 0.2 + (len(shape) == 1) for name, shape in named.items()}


def write_safetensors(folder: Path, weights: dict[str, torch.Tensor], **changes: object) -> Path:
    folder.mkdir()
    tied = "lm_head.weight" not in weights
    (folder / "config.json").write_text(json.dumps({**CONFIG, "tie_word_embeddings": tied, **changes}))
    safetensors_torch.save_file(weights, folder / "model.safetensors")
    return folder


def pairs_side_by_side(rows: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to queries and keys, spelled out row by row."""
    width = rows.shape[0] // heads
    order = [h * width + half * (width // 2) + i for h in range(heads) for i in range(width // 2) for half in (0, 1)]
    return rows[order]


def write_gguf(
    path: Path,
    weights: dict[str, torch.Tensor],
    *,
    architecture: str = "llama",
    kind: str = "F32",
    settings: dict[str, object] | None = None,
    extra: dict[str, np.ndarray] | None = None,
) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**SETTINGS, **(settings or {})}.items():
        if isinstance(value, str):
            writer.add_string(f"{architecture}.{key}", value)
        elif value is not None:
            writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    quantization = gguf.GGMLQuantizationType[kind]
    for name, tensor in weights.items():
        values, theirs = tensor.numpy(), to_gguf_name(name)
        if theirs.endswith(("attn_q.weight", "attn_k.weight")):
            values = pairs_side_by_side(values, HEADS if "attn_q" in theirs else KV_HEADS)
        if values.ndim > 1 and kind != "F32":
            writer.add_tensor(theirs, gguf.quantize(values, quantization), raw_dtype=quantization)
        else:
            writer.add_tensor(theirs, np.ascontiguousarray(values))
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def to_gguf_name(name: str) -> str:
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    part, _, ending = name.rpartition(".")
    if part in outside:
        return f"{outside[part]}.{ending}"
    _, _, layer, inner = part.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[inner]}.{ending}"


@torch.no_grad()
def logits(path: Path, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return load_checkpoint(path, dtype=dtype)(TOKENS)


@pytest.mark.parametrize("tied", [False, True])
def test_f32_file_gives_the_logits_of_the_same_weights_as_safetensors(tied, tmp_path):
    weights = published_weights(tied=tied)
    ours = logits(write_gguf(tmp_path / "model.gguf", weights))
    assert torch.equal(ours, logits(write_safetensors(tmp_path / "folder", weights)))
    assert preset_from_gguf(tmp_path / "model.gguf", name="x").tied == tied


@pytest.mark.parametrize(("kind", "tolerance"), [("F16", 0.005), ("BF16", 0.05), ("Q8_0", 0.1), ("Q4_1", None)])
def test_narrow_types_give_the_logits_of_the_rounded_weights(kind, tolerance, tmp_path):
    """Exactly those of the weights as the package rounds them; close to the unrounded ones with 8 bits or more.

    Q8_0 rounds by up to 1/254 of a block's largest weight, about 0.5 % of a weight's spread; two layers amplify it.
    """
    weights, quantization = published_weights(), gguf.GGMLQuantizationType[kind]
    rounded = {
        name: torch.from_numpy(gguf.dequantize(gguf.quantize(w.numpy(), quantization), quantization))
        if w.ndim > 1
        else w
        for name, w in weights.items()
    }
    ours = logits(write_gguf(tmp_path / "model.gguf", weights, kind=kind))
    assert torch.equal(ours, logits(write_safetensors(tmp_path / "rounded", rounded)))
    exact = logits(write_safetensors(tmp_path / "exact", weights))
    error = float((ours - exact).square().mean().sqrt() / exact.std())
    assert error > 0
    assert tolerance is None or error < tolerance


def test_weights_take_the_dtype_of_the_program(tmp_path):
    weights = published_weights()
    path, folder = write_gguf(tmp_path / "m.gguf", weights), write_safetensors(tmp_path / "folder", weights)
    assert torch.equal(logits(path, torch.bfloat16), logits(folder, torch.bfloat16))


def test_rope_factors_are_llama_3s_scaling(tmp_path):
    weights, width = published_weights(), D_MODEL // HEADS
    scaled = {"rope_theta": 5000.0, "rope_scaling": LLAMA3}
    plain_C = rotary_frequencies({"rope_theta": 5000.0}, head_dim=width)
    factors = (plain_C / rotary_frequencies(scaled, head_dim=width)).numpy()
    assert factors.max() == pytest.approx(8)
    ours = logits(write_gguf(tmp_path / "m.gguf", weights, extra={"rope_freqs.weight": factors}))
    exact = logits(write_safetensors(tmp_path / "folder", weights, rope_scaling=LLAMA3))
    torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours, logits(write_gguf(tmp_path / "plain.gguf", weights)), atol=1e-2)


def test_programs_take_a_gguf_file_by_itself_or_onto_a_preset(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", published_weights())
    alone = resolve_program(f"gguf:{path}@forward", seq_len=6)
    with torch.no_grad():
        torch.testing.assert_close(alone.run(), load_checkpoint(path)(alone_tokens()))
    preset = tmp_path / "mine.toml"
    preset.write_text(
        f'schema = 1\nkind = "ar"\nlayers = {LAYERS}\nd_model = {D_MODEL}\nheads = {HEADS}\nkv_heads = {KV_HEADS}\n'
        f"head_dim = 16\nffn = {FFN}\nvocab = {VOCAB}\nmax_length = 64\nrope_theta = 5000.0\nnorm_eps = 1e-5\n"
        'source = "made up for this test"\n'
    )
    assert torch.equal(resolve_program(f"{preset}@forward", seq_len=6, weights=path).run(), alone.run())
    generation = resolve_program(f"gguf:{path}", prompt_length=4, gen_length=3).run()
    assert generation.tokens.shape == (1, 7)
    on_meta = resolve_program(f"gguf:{path}@forward", seq_len=6, device="meta").run()
    assert on_meta.shape == (1, 6, VOCAB)


def alone_tokens() -> torch.Tensor:
    return torch.randint(0, VOCAB, (1, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "qwen2"}, "general.architecture must be llama, got 'qwen2'"),
        ({"settings": {"block_count": None}}, "lacks llama.block_count"),
        ({"settings": {"attention.head_count": "many"}}, "llama.attention.head_count must be one whole number"),
        ({"settings": {"expert_count": 8}}, "mixtures of experts"),
        ({"settings": {"attention.sliding_window": 16}}, "sliding-window"),
        ({"settings": {"rope.scaling.type": "yarn"}}, "scaling 'yarn'"),
        ({"settings": {"rope.dimension_count": 8}}, "rope.dimension_count must be the width of a head, 16, got 8"),
        ({"settings": {"block_count": 3}}, "block_count is 3, but there are tensors of 2 blocks"),
        (
            {"settings": {"embedding_length": 32}},
            "token_embd.weight must have shape (50, 32) by the settings, got (50, 64)",
        ),
        ({"settings": {"attention.head_count_kv": 4}}, "blk.0.attn_k.weight must have shape (64, 64)"),
        ({"settings": {"context_length": 2**31}}, "context_length must be at most 4194304"),
        ({"extra": {"mystery.weight": np.ones(2, np.float32)}}, "'mystery.weight' has no place"),
        ({"extra": {"rope_freqs.weight": np.ones(3, np.float32)}}, "rope_freqs.weight must have shape"),
        ({"extra": {"blk.0.attn_q.bias": np.ones(D_MODEL, np.int32)}}, "is of type I32"),
    ],
)
def test_files_that_we_cannot_run_are_refused_in_one_line(changes, words, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", published_weights(), **changes)
    with pytest.raises(WorkloadError) as refusal:
        load_checkpoint(path)
    assert words in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_missing_tensor_is_named(tmp_path):
    weights = published_weights()
    del weights["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(WorkloadError, match=r"lack 1 tensors .* blocks\.1\.mlp\.up\.weight"):
        load_checkpoint(write_gguf(tmp_path / "model.gguf", weights))


def test_preset_of_other_dimensions_is_refused(tmp_path, tiny_ar):
    path = write_gguf(tmp_path / "model.gguf", published_weights())
    with pytest.raises(WorkloadError, match="its metadata says d_model = 64, but tiny has d_model = 24"):
        load_into(Transformer(tiny_ar), path)


def test_every_cut_and_many_flipped_bytes_end_in_one_line_or_a_sound_file(tmp_path):
    whole = write_gguf(tmp_path / "model.gguf", published_weights()).read_bytes()
    data_start = open_gguf(tmp_path / "model.gguf").tensors["token_embd.weight"].data_offset
    damaged = tmp_path / "damaged.gguf"
    for length in (0, 3, 4, 20, 100, 400, data_start - 1, data_start, len(whole) - 64):
        damaged.write_bytes(whole[:length])
        with pytest.raises(WorkloadError, match="cannot be read as GGUF"):
            load_checkpoint(damaged)
    draw = np.random.default_rng(3)
    for position in draw.integers(0, data_start, 150):
        flipped = bytearray(whole)
        flipped[position] ^= int(draw.integers(1, 256))
        damaged.write_bytes(flipped)
        try:
            preset = preset_from_gguf(damaged, name="x")
        except WorkloadError as error:
            assert "\n" not in str(error)
        else:
            assert preset.layers > 0


def test_claimed_length_of_an_array_is_held_against_the_file(tmp_path):
    """2**40 bytes claimed in a file of a hundred: the package alone would count them one by one."""
    key = b"some.bytes"
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(key)) + key
    path = tmp_path / "long.gguf"
    path.write_bytes(header + struct.pack("<IIQ", 9, 0, 2**40) + bytes(40))
    with pytest.raises(WorkloadError, match="is cut off"):
        open_gguf(path)


def test_unknown_quantization_type_is_one_line(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", published_weights(), kind="Q8_0")
    record = open_gguf(path).tensors["blk.0.attn_q.weight"].field
    at = record.offset + sum(part.nbytes for part in record.parts[:4])
    whole = bytearray(path.read_bytes())
    assert struct.unpack_from("<I", whole, at) == (gguf.GGMLQuantizationType.Q8_0,)
    struct.pack_into("<I", whole, at, 9999)
    path.write_bytes(whole)
    with pytest.raises(WorkloadError, match=r"cannot be read as GGUF .*9999"):
        load_checkpoint(path)


def test_command_line_says_one_line_and_ends_with_2(tmp_path, capsys, monkeypatch):
    (tmp_path / "bad.gguf").write_bytes(b"nothing of the kind")
    for arguments in (
        ["smollm2-135m", "--weights", str(tmp_path / "bad.gguf")],
        [f"gguf:{tmp_path / 'absent.gguf'}"],
        ["gguf:unheard-of"],
    ):
        assert refused(capsys, monkeypatch, "capture", *arguments).startswith("error:")


def test_absent_package_is_said_with_what_to_install(monkeypatch):
    absent = PackagedWeights(requirement="not-there==1.0", module="roofscape_not_there", path="x.gguf")
    monkeypatch.setitem(PACKAGED_GGUF, "absent", absent)
    with pytest.raises(WorkloadError, match=r"roofscape_not_there is not installed; .*--no-deps not-there==1\.0"):
        find_gguf("absent")
