"""Llama-type GGUF files as model presets and as weights of our network.

llama.cpp's converter (convert_hf_to_gguf.py, `LlamaModel.permute`) reorders the rows of query and key projections so
that rotary pairs stand side by side; here they are put back into halves, as our network turns them. Frequencies are
plain, or divided by the factors of `rope_freqs.weight` (how the converter writes Llama 3's scaling).
"""

import math
import re
from pathlib import Path
from typing import Any

import torch

from workloads.checkpoint_config import rotary_frequencies
from workloads.errors import WorkloadError
from workloads.filling import check_same, fill, network_parameters, set_rotary_tables
from workloads.gguf_files import GgufFile, open_gguf
from workloads.presets import ModelPreset
from workloads.transformer import Transformer

_DEFAULT_THETA = 10_000.0  # llama.cpp's, where the file names none
_LONGEST = 1 << 22  # positions; tables of rotary angles for more would not fit
_FACTORS = "rope_freqs.weight"
_PARTS = {
    "attn_q": "attention.query",
    "attn_k": "attention.key",
    "attn_v": "attention.value",
    "attn_output": "attention.output",
    "ffn_gate": "mlp.gate",
    "ffn_up": "mlp.up",
    "ffn_down": "mlp.down",
    "attn_norm": "attention_norm",
    "ffn_norm": "mlp_norm",
}
_OUTSIDE = {
    "token_embd.weight": "embedding.weight",
    "output_norm.weight": "norm.weight",
    "output.weight": "head.weight",
}
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


def is_gguf(path: Path) -> bool:
    """Whether a path is meant as a GGUF file, by its name."""
    return path.suffix.lower() == ".gguf"


def preset_from_gguf(path: Path, *, name: str) -> ModelPreset:
    """The dimensions that a GGUF file's settings give.

    Raises:
        WorkloadError: it cannot be read, lacks a setting, or describes another kind of network.
    """
    return _preset(open_gguf(path), name)


def load_gguf_into(model: Transformer, path: Path) -> None:
    """Fill a network with the weights of a GGUF file, after checking that both have the same dimensions.

    Raises:
        WorkloadError: dimensions differ, tensors are missing or unknown, or the file cannot be read.
    """
    file, preset = open_gguf(path), model.preset
    found = _preset(file, preset.name)
    check_same(preset, found, where=str(path), said_by="its metadata")
    parameters, optional = network_parameters(model)
    heads = {"attention.query": preset.heads, "attention.key": preset.kv_heads}
    tensors = ((name, _halves(tensor, heads.get(_part(name), 0))) for name, tensor in file.named_tensors())
    fill(parameters, tensors, where=str(path), rename=our_gguf_name, optional=optional)
    set_rotary_tables(model, _frequencies(file, found))


def our_gguf_name(published: str) -> str | None:
    """What a tensor of a GGUF file is called in our network; None for tables that we compute ourselves.

    >>> our_gguf_name("blk.3.attn_q.weight"), our_gguf_name("output_norm.weight"), our_gguf_name("rope_freqs.weight")
    ('blocks.3.attention.query.weight', 'norm.weight', None)

    Raises:
        WorkloadError: no such name is known.
    """
    if published == _FACTORS:
        return None
    found = _BLOCK.fullmatch(published)
    if found and found[2] in _PARTS:
        return f"blocks.{found[1]}.{_PARTS[found[2]]}.{found[3]}"
    if published in _OUTSIDE:
        return _OUTSIDE[published]
    raise WorkloadError(f"tensor {published!r} has no place in a Llama type network")


def _part(published: str) -> str:
    found = _BLOCK.fullmatch(published)
    return _PARTS.get(found[2], "") if found else ""


def _halves(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a projection from rotary pairs side by side to first halves before second ones, head by head."""
    if not heads or tensor.shape[0] % (2 * heads):
        return tensor
    return tensor.reshape(heads, -1, 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def _preset(file: GgufFile, name: str) -> ModelPreset:
    _refuse_others(file)
    heads, d_model = _count(file, "attention.head_count"), _count(file, "embedding_length")
    embedding = file.shape("token_embd.weight")
    if embedding is None:
        raise WorkloadError(f"weights {file.path}: lacks the tensor token_embd.weight")
    head_dim = _count(file, "attention.key_length", default=d_model // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if _count(file, key, default=head_dim) != head_dim:
            raise WorkloadError(
                f"weights {file.path}: llama.{key} must be the width of a head, {head_dim}, got {_count(file, key)}"
            )
    preset = ModelPreset(
        name=name,
        kind="ar",
        layers=_count(file, "block_count"),
        d_model=d_model,
        heads=heads,
        kv_heads=_count(file, "attention.head_count_kv", default=heads),
        head_dim=head_dim,
        ffn=_count(file, "feed_forward_length"),
        vocab=embedding[0],
        max_length=_count(file, "context_length"),
        rope_theta=_real(file, "rope.freq_base", default=_DEFAULT_THETA),
        norm_eps=_real(file, "attention.layer_norm_rms_epsilon"),
        tied=file.shape("output.weight") is None,
        qkv_bias=file.shape("blk.0.attn_q.bias") is not None,
        output_bias=file.shape("blk.0.attn_output.bias") is not None,
        source=str(file.path),
    )
    _check_tensors(file, preset)
    return preset


def _check_tensors(file: GgufFile, preset: ModelPreset) -> None:
    """Refuse settings that the tensors do not bear out, before a network of that size is built."""
    blocks = {int(found[1]) for name in file.tensors if (found := _BLOCK.fullmatch(name))}
    if len(blocks) != preset.layers or max(blocks) != preset.layers - 1:
        raise WorkloadError(
            f"weights {file.path}: llama.block_count is {preset.layers}, but there are tensors of {len(blocks)} blocks"
        )
    if preset.max_length > _LONGEST:
        raise WorkloadError(
            f"weights {file.path}: llama.context_length must be at most {_LONGEST}, got {preset.max_length}"
        )
    for name, shape in (
        ("token_embd.weight", (preset.vocab, preset.d_model)),
        ("blk.0.attn_q.weight", (preset.heads * preset.head_dim, preset.d_model)),
        ("blk.0.attn_k.weight", (preset.kv_heads * preset.head_dim, preset.d_model)),
        ("blk.0.ffn_up.weight", (preset.ffn, preset.d_model)),
    ):
        if file.shape(name) != shape:
            raise WorkloadError(
                f"weights {file.path}: {name} must have shape {shape} by the settings, got {file.shape(name)}"
            )


def _refuse_others(file: GgufFile) -> None:
    kind = file.setting("general.architecture")
    if kind != "llama":
        raise WorkloadError(f"weights {file.path}: general.architecture must be llama, got {kind!r}")
    if (file.setting("split.count") or 1) != 1:
        raise WorkloadError(f"weights {file.path}: is one of {file.setting('split.count')} parts; merge them first")
    for key, meaning in (
        ("expert_count", "mixtures of experts are"),
        ("attention.sliding_window", "sliding-window attention is"),
    ):
        if file.setting(f"llama.{key}"):
            raise WorkloadError(f"weights {file.path}: {meaning} not supported in GGUF files (llama.{key})")
    scaling = file.setting("llama.rope.scaling.type") or "none"
    if scaling != "none" or (file.setting("llama.rope.scale_linear") or 1.0) != 1.0:
        raise WorkloadError(f"weights {file.path}: rotary scaling {scaling!r} is not supported")


def _count(file: GgufFile, key: str, *, default: int | None = None) -> int:
    value: Any = file.setting(f"llama.{key}")
    value = default if value is None else value
    if value is None:
        raise WorkloadError(f"weights {file.path}: lacks llama.{key}")
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise WorkloadError(f"weights {file.path}: llama.{key} must be one whole number > 0, got {str(value)[:40]}")
    return value


def _real(file: GgufFile, key: str, *, default: float | None = None) -> float:
    value: Any = file.setting(f"llama.{key}")
    value = default if value is None else value
    if value is None:
        raise WorkloadError(f"weights {file.path}: lacks llama.{key}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise WorkloadError(f"weights {file.path}: llama.{key} must be a finite number > 0, got {str(value)[:40]}")
    return float(value)


def _frequencies(file: GgufFile, preset: ModelPreset) -> torch.Tensor:
    """Radians per position of each rotary pair, `[head_dim / 2]`, with the file's own factors where it has them."""
    plain_C = rotary_frequencies({"rope_theta": preset.rope_theta}, head_dim=preset.head_dim)
    shape = file.shape(_FACTORS)
    if shape is None:
        return plain_C
    if shape != tuple(plain_C.shape):
        raise WorkloadError(f"weights {file.path}: {_FACTORS} must have shape {tuple(plain_C.shape)}, got {shape}")
    return plain_C / file.tensor(_FACTORS)
