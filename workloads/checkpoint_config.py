"""Reads a published configuration (`config.json`) as a model preset, and its rotary frequencies.

Two spellings are known: that of Llama, Qwen2, Qwen3, Mistral and Dream, and that of LLaDA.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from workloads.errors import WorkloadError
from workloads.presets import ModelPreset

_CAUSAL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
_KNOWN_TYPES = (*_CAUSAL_TYPES, "dream", "llada")
_DEFAULT_THETA = 10_000.0


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration as it stands.

    Raises:
        WorkloadError: it is missing, or its type is not known.
    """
    file = folder / "config.json"
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkloadError(f"weights {file}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise WorkloadError(f"weights {file}: is not valid JSON ({error})") from None
    kind = table.get("model_type") if isinstance(table, dict) else None
    if not isinstance(kind, str) or kind.lower() not in _KNOWN_TYPES:
        raise WorkloadError(f"weights {file}: model_type must be one of {', '.join(_KNOWN_TYPES)}, got {kind!r}")
    if table.get("quantization_config"):
        raise WorkloadError(f"weights {file}: quantized checkpoints are not supported")
    if table.get("use_sliding_window") or (kind == "mistral" and table.get("sliding_window")):
        raise WorkloadError(f"weights {file}: sliding-window attention is not supported")
    return {**table, "model_type": kind.lower()}


def preset_from_config(folder: Path, *, name: str) -> ModelPreset:
    """The dimensions that a checkpoint's configuration gives.

    Raises:
        WorkloadError: it is missing, lacks a key, or describes another kind of network.
    """
    config, file = read_config(folder), folder / "config.json"
    try:
        fields = _llada_fields(config) if config["model_type"] == "llada" else _llama_fields(config)
    except KeyError as error:
        raise WorkloadError(f"weights {file}: lacks {error.args[0]}") from None
    rotary_frequencies(config, head_dim=fields["head_dim"])  # refuses scalings that are not known
    is_causal = config["model_type"] in _CAUSAL_TYPES
    return ModelPreset(
        name=name,
        kind="ar" if is_causal else "masked_diffusion",
        mask_id=None if is_causal else config.get("mask_token_id"),
        rope_theta=_rotary(config)["rope_theta"],
        source=str(file),
        **fields,
    )


def _llama_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    heads, kind = config["num_attention_heads"], config["model_type"]
    return {
        "layers": config["num_hidden_layers"],
        "d_model": config["hidden_size"],
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "ffn": config["intermediate_size"],
        "vocab": config["vocab_size"],
        "max_length": config["max_position_embeddings"],
        "norm_eps": config["rms_norm_eps"],
        "tied": bool(config.get("tie_word_embeddings", False)),
        # Qwen2 and Dream add biases to queries, keys and values without a word in the configuration.
        "qkv_bias": kind in ("qwen2", "dream") or bool(config.get("attention_bias", False)),
        "qk_norm": kind == "qwen3",
    }


def _llada_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    heads = config["n_heads"]
    return {
        "layers": config["n_layers"],
        "d_model": config["d_model"],
        "heads": heads,
        "kv_heads": config.get("n_kv_heads") or heads,
        "head_dim": config["d_model"] // heads,
        "ffn": config["mlp_hidden_size"],
        "vocab": config.get("embedding_size") or config["vocab_size"],
        "max_length": config["max_sequence_length"],
        "norm_eps": config["rms_norm_eps"],
        "tied": bool(config.get("weight_tying", False)),
        "qkv_bias": bool(config.get("include_qkv_bias", False)),
    }


def rotary_frequencies(config: Mapping[str, Any], *, head_dim: int) -> torch.Tensor:
    """Radians per position of each rotary pair, `[head_dim / 2]` in float32.

    Plain frequencies are `theta ** (-2 i / head_dim)`. Llama 3's scaling (Grattafiori et al., arXiv:2407.21783, as in
    the published inference code) divides long wavelengths by `factor`, keeps short ones, and blends between.

    Raises:
        WorkloadError: another scaling.
    """
    rotary = _rotary(config)
    exponent_C = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    plain_C = torch.exp(-math.log(rotary["rope_theta"]) * exponent_C)
    kind = rotary.get("rope_type") or rotary.get("type") or "default"
    if kind == "default":
        return plain_C
    if kind != "llama3":
        raise WorkloadError(f"rotary scaling {kind!r} is not supported; known: default, llama3")
    context, low, high = (
        rotary[key] for key in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    turns_C = context * plain_C / (2 * math.pi)
    kept_C = ((turns_C - low) / (high - low)).clamp(0, 1)
    scaled_C: torch.Tensor = kept_C * plain_C + (1 - kept_C) * plain_C / rotary["factor"]
    return scaled_C


def _rotary(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings, whether they stand in `rope_parameters` (newer) or in `rope_theta` and `rope_scaling`."""
    table: dict[str, Any] = {"rope_theta": _DEFAULT_THETA}
    for source in (config, config.get("rope_scaling") or {}, config.get("rope_parameters") or {}):
        keys = ("rope_theta",) if source is config else tuple(source)
        table.update({key: source[key] for key in keys if source.get(key) is not None})
    table["rope_theta"] = float(table["rope_theta"])
    return table
