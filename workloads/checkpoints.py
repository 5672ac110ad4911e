"""Reads local checkpoints in Hugging Face layout into our network: safetensors only, nothing is ever unpickled.

A folder holds `config.json` and `model.safetensors`, or several such files named by `model.safetensors.index.json`.
Known are Llama and Qwen types, Dream (named like Qwen2), and LLaDA (arXiv:2502.09992; named like OLMo). Rotary
frequencies are the plain ones or Llama 3's scaled ones; other scalings, sliding windows and quantized weights are
refused by name. A GGUF file may stand in the place of a folder; `gguf_weights.py` reads it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from workloads.checkpoint_config import preset_from_config, read_config, rotary_frequencies
from workloads.errors import WorkloadError
from workloads.filling import check_same, fill, network_parameters, set_rotary_tables
from workloads.gguf_weights import is_gguf, load_gguf_into, preset_from_gguf
from workloads.transformer import Transformer

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")

# Parts of the published names and ours, in the order in which they are tried.
_LLAMA_PARTS = {
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.output",
    "self_attn.q_norm": "attention.query_norm",
    "self_attn.k_norm": "attention.key_norm",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "mlp_norm",
}
_LLADA_PARTS = {
    "q_proj": "attention.query",
    "k_proj": "attention.key",
    "v_proj": "attention.value",
    "attn_out": "attention.output",
    "ff_proj": "mlp.gate",
    "up_proj": "mlp.up",
    "ff_out": "mlp.down",
    "attn_norm": "attention_norm",
    "ff_norm": "mlp_norm",
}
_OUTSIDE = {
    "model.embed_tokens": "embedding",
    "model.norm": "norm",
    "lm_head": "head",
    "model.transformer.wte": "embedding",
    "model.transformer.ln_f": "norm",
    "model.transformer.ff_out": "head",
}
_BLOCK = re.compile(r"model\.(?:layers|transformer\.blocks)\.(\d+)\.(.+)\.(weight|bias)")
_TABLE = re.compile(r".*rotary_emb\.(inv_freq|cos_cached|sin_cached)")


def load_checkpoint(
    folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, name: str | None = None
) -> Transformer:
    """The network that a checkpoint's configuration describes, with its weights.

    Args:
        folder: holds `config.json` and the safetensors files; or a GGUF file.
        device: where to build it; not `meta`, which holds no values.
        dtype: type to convert the weights to.
        name: name of the network, None for the folder's.

    Raises:
        WorkloadError: the folder is no such checkpoint, or is one of a type that is not known.
    """
    if is_gguf(folder):
        preset = preset_from_gguf(folder, name=name or folder.stem)
    else:
        preset = preset_from_config(folder, name=name or folder.resolve().name)
    model = Transformer(preset, device=device, dtype=dtype)
    load_into(model, folder)
    return model


def load_into(model: Transformer, folder: Path) -> None:
    """Fill a network with a checkpoint's weights, after checking that both have the same dimensions.

    Raises:
        WorkloadError: dimensions differ, tensors are missing or unknown, or the files cannot be read.
    """
    if is_gguf(folder):
        load_gguf_into(model, folder)
        return
    found = preset_from_config(folder, name=model.preset.name)
    check_same(model.preset, found, where=str(folder), said_by="config.json")
    parameters, optional = network_parameters(model)
    tensors = read_tensors(weight_files(folder))
    fill(parameters, tensors, where=str(folder), rename=our_name, optional=optional)
    set_rotary_tables(model, rotary_frequencies(read_config(folder), head_dim=model.cos_TC.shape[1]))


def load_into_foreign(model: torch.nn.Module, folder: Path) -> None:
    """Fill a `transformers` model with a checkpoint whose tensors have that model's own names.

    Raises:
        WorkloadError: tensors are missing or unknown or differ in shape, or the files cannot be read.
    """
    if is_gguf(folder):
        raise WorkloadError(
            f"weights {folder}: a GGUF file fills a model preset or a gguf: program; a Hugging Face model takes a "
            "folder with safetensors files"
        )
    parameters = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    tied = {name for name, weight in parameters.items() if sum(weight is other for other in parameters.values()) > 1}
    transient = {name for module in model.modules() for name in module._non_persistent_buffers_set}
    optional = {name for name in parameters if name in tied or name.rpartition(".")[2] in transient}
    tensors = read_tensors(weight_files(folder))
    fill(parameters, tensors, where=str(folder), rename=lambda name: name, optional=frozenset(optional))


def our_name(published: str) -> str | None:
    """What a published tensor is called in our network; None for tables that we compute ourselves.

    >>> our_name("model.layers.3.self_attn.q_proj.bias"), our_name("model.transformer.blocks.0.ff_proj.weight")
    ('blocks.3.attention.query.bias', 'blocks.0.mlp.gate.weight')

    Raises:
        WorkloadError: no such name is known.
    """
    if _TABLE.fullmatch(published):
        return None
    found = _BLOCK.fullmatch(published)
    if found:
        layer, part, ending = found.groups()
        ours = (_LLADA_PARTS if ".transformer." in published else _LLAMA_PARTS).get(part)
        if ours:
            return f"blocks.{layer}.{ours}.{ending}"
    part, _, ending = published.rpartition(".")
    if part in _OUTSIDE and ending == "weight":
        return f"{_OUTSIDE[part]}.{ending}"
    raise WorkloadError(f"tensor {published!r} has no place in a Llama, Qwen, Dream or LLaDA type network")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint, those that its index names or the single one.

    Raises:
        WorkloadError: there are none; pickled weights are named and refused.
    """
    if not folder.is_dir():
        raise WorkloadError(
            f"weights {folder}: is not a folder; give one with config.json and safetensors files, or a .gguf file"
        )
    index = folder / _INDEX
    if index.is_file():
        names = sorted(set(_weight_map(index).values()))
        unsafe = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
        if unsafe:
            raise WorkloadError(f"weights {index}: may name only .safetensors files beside it, got {unsafe[0]!r}")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise WorkloadError(f"weights {folder}: {missing[0]}, which {_INDEX} names, is not there")
        return tuple(folder / name for name in names)
    if (folder / _SINGLE).is_file():
        return (folder / _SINGLE,)
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickled:
        raise WorkloadError(
            f"weights {folder}: {pickled[0]} is a pickle, which can run code and is never loaded; convert it to "
            "safetensors first"
        )
    raise WorkloadError(f"weights {folder}: holds neither {_SINGLE} nor {_INDEX}")


def read_tensors(files: tuple[Path, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of some safetensors files by name, one at a time.

    Raises:
        WorkloadError: a file is damaged, or the safetensors package is not installed.
    """
    try:
        from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise WorkloadError("weights need the safetensors package: pip install 'roofscape[capture]'") from None
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - the handle is no mapping
                    yield name, opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise WorkloadError(f"weights {file}: cannot be read as safetensors ({error})") from None


def _weight_map(index: Path) -> dict[str, str]:
    try:
        table = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkloadError(f"weights {index}: cannot be read ({error})") from None
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not (isinstance(names, dict) and names and all(isinstance(name, str) for name in names.values())):
        raise WorkloadError(f"weights {index}: must have an object 'weight_map' from tensors to files")
    return names
