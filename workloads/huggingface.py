"""Brings in models of the `transformers` package, built from a local configuration file; nothing is downloaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from workloads.errors import WorkloadError
from workloads.memory import check_fits
from workloads.presets import ModelPreset, load_preset


def build_from_config(
    path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> torch.nn.Module:
    """A Hugging Face model with random weights, in evaluation mode.

    Attention is PyTorch's own where the architecture supports it, which is the default of `transformers`.
    A causal language model where the architecture has one, else the bare network. Code that a configuration points
    to (`auto_map`) is never run.

    Args:
        path: a `config.json`, or the folder that holds it.
        device: where to build it; on `meta` nothing is allocated.
        dtype: type of its weights.

    Raises:
        WorkloadError: the file is missing or no such configuration, or `transformers` is not installed.
    """
    try:
        import huggingface_hub.errors  # noqa: PLC0415 - both are optional dependencies
        import transformers  # noqa: PLC0415
    except ImportError:
        raise WorkloadError("hf: programs need the transformers package: pip install 'roofscape[models]'") from None
    file = path / "config.json" if path.is_dir() else path
    config = _build_config(_read_json(file), file, transformers, huggingface_hub.errors)
    if getattr(config, "is_encoder_decoder", False):
        raise WorkloadError(f"{file}: encoder-decoder models take two inputs; run it from a py: program instead")
    has_language_head = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    builder: Any = transformers.AutoModelForCausalLM if has_language_head else transformers.AutoModel
    model = _build(builder, config, file, "meta", dtype)
    if torch.device(device).type == "meta":
        return model
    weights_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    check_fits(str(file), weights_bytes, torch.device(device))
    return _build(builder, config, file, device, dtype)


def build_llama_step(model: str, *, tokens: int, context: int = 0, batch: int = 1) -> Callable[[], torch.Tensor]:
    """One forward of a preset's dimensions as the Llama of `transformers`, on `meta`, in bfloat16, with its KV cache.

    Args:
        model: preset of Llama's form.
        tokens: shown to the network in this step.
        context: tokens before them, whose keys and values are cached already; that is done here and not in the step.
        batch: sequences side by side.

    Raises:
        WorkloadError: the preset has another form, or `transformers` is not installed.
    """
    try:
        import huggingface_hub.errors  # noqa: PLC0415 - both are optional dependencies
        import transformers  # noqa: PLC0415
    except ImportError:
        raise WorkloadError("this step needs the transformers package: pip install 'roofscape[models]'") from None
    file = Path(f"{model}.json")  # what errors name; nothing is read
    config = _build_config(llama_configuration(load_preset(model)), file, transformers, huggingface_hub.errors)
    network = _build(transformers.AutoModelForCausalLM, config, file, "meta", torch.bfloat16)

    @torch.inference_mode()
    def forward(length: int, past: object) -> Any:
        tokens_BS = torch.zeros(batch, length, dtype=torch.int64, device="meta")
        return network(tokens_BS, past_key_values=past, use_cache=True)

    past = forward(context, None).past_key_values if context else None

    def step() -> torch.Tensor:
        logits_BSV: torch.Tensor = forward(tokens, past).logits
        return logits_BSV

    return step


def llama_configuration(preset: ModelPreset) -> dict[str, Any]:
    """A preset's dimensions under the names that `transformers` gives them in a Llama's `config.json`.

    Raises:
        WorkloadError: the preset is no Llama.
    """
    if not (preset.is_common and preset.kind == "ar" and preset.norm == "rmsnorm" and not preset.qk_norm):
        raise WorkloadError(f"model preset {preset.name!r} is no Llama: causal, RMSNorm, SwiGLU, no further parts")
    return {
        "model_type": "llama",
        "hidden_size": preset.d_model,
        "intermediate_size": preset.ffn,
        "num_hidden_layers": preset.layers,
        "num_attention_heads": preset.heads,
        "num_key_value_heads": preset.kv_heads,
        "head_dim": preset.head_dim,
        "vocab_size": preset.vocab,
        "max_position_embeddings": preset.max_length,
        "rope_theta": preset.rope_theta,
        "rms_norm_eps": preset.norm_eps,
        "tie_word_embeddings": preset.tied,
        "attention_bias": preset.qkv_bias,
    }


def _build(builder: Any, config: Any, file: Path, device: torch.device | str, dtype: torch.dtype) -> torch.nn.Module:
    with torch.device(device):
        try:
            model: torch.nn.Module = builder.from_config(config, dtype=dtype, trust_remote_code=False)
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise WorkloadError(f"{file}: transformers cannot build this model: {_one_line(error)}") from None
    return model.eval()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkloadError(f"Hugging Face configuration {file}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise WorkloadError(f"Hugging Face configuration {file}: is not valid JSON ({error})") from None
    if not isinstance(table, dict) or not isinstance(table.get("model_type"), str):
        raise WorkloadError(f"Hugging Face configuration {file}: must be an object with a text 'model_type'")
    return table


def _build_config(table: dict[str, Any], file: Path, transformers: Any, errors: Any) -> Any:
    model_type = table["model_type"]
    known = transformers.CONFIG_MAPPING
    if model_type not in known:
        raise WorkloadError(
            f"Hugging Face configuration {file}: model_type {model_type!r} is unknown to transformers "
            f"{transformers.__version__}, which knows {len(known)} such as llama, qwen3, gpt2, bert; code that comes "
            "with a model is not run"
        )
    # Newer versions check configurations with an error type of their own, which is not a ValueError.
    own_error = getattr(errors, "StrictDataclassError", ValueError)
    try:
        return known[model_type].from_dict(table)
    except (own_error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WorkloadError(f"Hugging Face configuration {file}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
