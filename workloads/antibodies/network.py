"""AntiBERTy (Ruffolo et al., arXiv:2112.07782) as a masked-diffusion network, from the files of PyPI's antiberty.

The package is located, not imported. Its weights are a pickle, so they are read by `torch.load(weights_only=True)`,
which builds tensors and runs nothing; its other pickle, `training_args.bin`, is never opened. The network is
`BertForMaskedLM` of `transformers`; heads that it does not have are left out and named.

Shape suffixes: B sequences, L tokens of a sequence, V vocabulary.
"""

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workloads.errors import WorkloadError
from workloads.filling import fill
from workloads.kv_cache import KVCache

_WEIGHTS = "AntiBERTy_md_smooth"
_LEFT_OUT = ("bert.pooler.", "cls.species.", "cls.chain.", "cls.graft.")
_TABLE = "bert.embeddings.position_ids"
_SIZES = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id"),
)


class AntibodyModel(nn.Module):
    """A masked language model of residues that any sampler of masked diffusion can ask.

    Tokens may come in any order: each says by `places_BL` where it stands in the chain, so that hidden residues can lie
    behind all known ones, where samplers fill them in.

    Attributes:
        network: `BertForMaskedLM`.
        vocabulary: its tokens in order.
        left_out: heads of the published weights that it does not have.
    """

    def __init__(self, network: nn.Module, vocabulary: tuple[str, ...], left_out: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.vocabulary = vocabulary
        self.left_out = left_out
        self.places_BL: torch.Tensor | None = None
        self._special = [index for index, token in enumerate(vocabulary) if token.startswith("[")]
        self.eval()

    @property
    def mask_id(self) -> int:
        """Token id of a hidden residue."""
        return self.vocabulary.index("[MASK]")

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(self.network.parameters()).device

    def new_cache(self, batch: int, capacity: int) -> KVCache | None:
        """None: every forward is shown all tokens."""
        return None

    def encode(self, residues: str) -> list[int]:
        """Token ids of a chain between its start and end tokens."""
        return [self.vocabulary.index(token) for token in ("[CLS]", *residues, "[SEP]")]

    def arrange(self, places_BL: torch.Tensor | None) -> None:
        """Say where each token of the coming forwards stands; None for side by side."""
        self.places_BL = places_BL

    def forward(
        self, tokens_BS: torch.Tensor, *, cache: KVCache | None = None, position: int = 0, last_only: bool = False
    ) -> torch.Tensor:
        """Logits `[B, L, V]` of all tokens; special ones are never predicted, as in the authors' `fill_masks`.

        Raises:
            WorkloadError: a cache is given, or other tokens than those that were arranged.
        """
        if cache is not None or position or last_only:
            raise WorkloadError("antiberty: keeps no cache; take a sampler that shows all positions, such as llada")
        if self.places_BL is not None and self.places_BL.shape != tokens_BS.shape:
            shape, given = tuple(self.places_BL.shape), tuple(tokens_BS.shape)
            raise WorkloadError(f"antiberty: the arranged tokens have shape {shape}, got {given}")
        logits_BLV: torch.Tensor = self.network(input_ids=tokens_BS, position_ids=self.places_BL).logits
        for index in self._special:
            logits_BLV[..., index].fill_(-torch.inf)
        return logits_BLV


def load_antibody_model(
    folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> AntibodyModel:
    """The network with its published weights; on `meta` without.

    Args:
        folder: `trained_models` of the package.
        device: where it lives.
        dtype: type of its weights.

    Raises:
        WorkloadError: files are missing or damaged, or `transformers` is not installed.
    """
    try:
        from transformers import BertConfig, BertForMaskedLM  # noqa: PLC0415 - an optional dependency, slow to import
    except ImportError:
        raise WorkloadError("antiberty needs the transformers package: pip install 'roofscape[weights]'") from None
    vocabulary = tuple(_read_text(folder / "vocab.txt").split())
    sizes = _read_sizes(folder / _WEIGHTS / "config.json")
    if len(vocabulary) != sizes["vocab_size"] or not {"[CLS]", "[SEP]", "[MASK]"} <= set(vocabulary):
        raise WorkloadError(
            f"weights {folder}: vocab.txt must list {sizes['vocab_size']} tokens with [MASK] among them"
        )
    is_meta = torch.device(device).type == "meta"
    with torch.device("meta" if is_meta else "cpu"):
        network: Any = BertForMaskedLM(BertConfig(**sizes))
    left_out: tuple[str, ...] = ()
    if not is_meta:
        left_out = _load(network, folder / _WEIGHTS / "pytorch_model.bin")
    return AntibodyModel(network.to(device=device, dtype=dtype), vocabulary, left_out)


def read_pickled_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Tensors of a PyTorch pickle by name, read without running anything that it asks for.

    Raises:
        WorkloadError: it is missing, damaged, or holds anything but tensors.
    """
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WorkloadError(f"weights {file}: cannot be read ({error.strerror or error})") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise WorkloadError(f"weights {file}: cannot be read as tensors alone ({reason})") from None
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise WorkloadError(f"weights {file}: must hold tensors by name and nothing else")
    return tensors


def _load(network: nn.Module, file: Path) -> tuple[str, ...]:
    tensors = read_pickled_tensors(file)
    left_out = sorted({name.rpartition(".")[0] for name in tensors if name.startswith(_LEFT_OUT)})
    fill(
        dict(network.named_parameters(remove_duplicate=False)),
        tensors.items(),
        where=str(file),
        rename=lambda name: None if name == _TABLE or name.startswith(_LEFT_OUT) else name,
        optional=frozenset(),
    )
    tied = "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"
    if not torch.equal(tensors[tied[0]], tensors[tied[1]]):
        raise WorkloadError(f"weights {file}: {tied[0]} must equal {tied[1]}, whose place it shares")
    return tuple(left_out)


def _read_sizes(file: Path) -> dict[str, Any]:
    try:
        table = json.loads(_read_text(file))
    except ValueError as error:
        raise WorkloadError(f"weights {file}: is not valid JSON ({error})") from None
    missing = [key for key in _SIZES if not isinstance(table, dict) or key not in table]
    if missing:
        raise WorkloadError(f"weights {file}: lacks {missing[0]}")
    return {key: table[key] for key in _SIZES}


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise WorkloadError(f"weights {file}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise WorkloadError(f"weights {file}: is not text") from None
