"""The shipped trained models: what is there, and how to load it.

Weights are bfloat16 safetensors beside the presets in `weights/`; `training_log.json` says how they came about.
"""

import json
from pathlib import Path
from typing import Any

import torch

from workloads.checkpoints import read_tensors
from workloads.errors import WorkloadError
from workloads.hints import known_names
from workloads.presets import load_preset
from workloads.transformer import Transformer

_WEIGHTS = Path(__file__).with_name("weights")


def trained_models() -> tuple[str, ...]:
    """Names of the shipped models, sorted: those presets beside which there are weights."""
    return tuple(sorted(path.stem for path in _WEIGHTS.glob("*.toml") if path.with_suffix(".safetensors").is_file()))


def load_trained(name: str) -> Transformer:
    """A shipped model on the CPU, in float32.

    Raises:
        WorkloadError: there is none of that name, or the safetensors package is not installed.
    """
    if name not in trained_models():
        raise WorkloadError(f"unknown trained model {name!r}; {known_names(name, trained_models())}")
    return load_snapshot(name, _WEIGHTS / f"{name}.safetensors")


def load_snapshot(name: str, weights: Path) -> Transformer:
    """A shipped model's network with weights from another file, for example one that training has just written.

    Raises:
        WorkloadError: the weights are of another network.
    """
    model = Transformer(load_preset(_WEIGHTS / f"{name}.toml"))
    tensors = {key: tensor.to(torch.float32) for key, tensor in read_tensors((weights,))}
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise WorkloadError(f"weights {weights}: do not fit {name} ({' '.join(str(error).split())})") from None
    return model


def training_log() -> dict[str, Any]:
    """How the shipped weights were trained: losses, accuracy over time, seconds, versions, by name of the model."""
    log: dict[str, Any] = json.loads((_WEIGHTS / "training_log.json").read_text(encoding="utf-8"))
    return log
