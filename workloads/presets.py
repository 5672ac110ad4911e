"""Model presets: the dimensions that make a network, read from one TOML file per model; needs no torch."""

import math
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_type_hints

from workloads.errors import WorkloadError

ModelKind = Literal["ar", "masked_diffusion"]
MODEL_KINDS: tuple[ModelKind, ...] = get_args(ModelKind)
SCHEMA_VERSION = 1
PRESETS_FOLDER = Path(__file__).with_name("presets")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPreset:
    """Dimensions of a transformer with RMSNorm, rotary positions, grouped-query attention and a SwiGLU network.

    Attributes:
        name: the file's stem.
        kind: `ar` is causal and predicts the next token; `masked_diffusion` is bidirectional and predicts every mask.
        layers: number of blocks.
        d_model: width of the residual stream.
        heads: query heads.
        kv_heads: key and value heads; `heads` must be a multiple of it.
        head_dim: width of one head.
        ffn: hidden width of the SwiGLU network.
        vocab: rows of the embedding and width of the logits.
        tied: whether the output projection is the embedding.
        max_length: number of positions that the rotary tables cover.
        rope_theta: base of the rotary frequencies; scalings for contexts longer than trained are left out.
        norm_eps: added to the mean square inside RMSNorm.
        mask_id: token id of a masked position, for `masked_diffusion` only.
        qkv_bias: whether query, key and value projections add a bias.
        qk_norm: whether queries and keys pass an RMSNorm per head.
        source: where the figures come from; a made-up model says so.
    """

    name: str
    kind: ModelKind
    layers: int
    d_model: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    max_length: int
    rope_theta: float
    norm_eps: float
    source: str
    tied: bool = False
    mask_id: int | None = None
    qkv_bias: bool = False
    qk_norm: bool = False

    def __post_init__(self) -> None:
        where = f"model preset {self.name!r}"
        for field_name in ("layers", "d_model", "heads", "kv_heads", "head_dim", "ffn", "vocab", "max_length"):
            value = getattr(self, field_name)
            if value <= 0:
                raise WorkloadError(f"{where}: {field_name} must be > 0, got {value}")
        for field_name in ("rope_theta", "norm_eps"):
            value = getattr(self, field_name)
            if not (math.isfinite(value) and value > 0):
                raise WorkloadError(f"{where}: {field_name} must be finite and > 0, got {value}")
        if self.kind not in MODEL_KINDS:
            raise WorkloadError(f"{where}: kind must be one of {', '.join(MODEL_KINDS)}, got {self.kind!r}")
        if self.heads % self.kv_heads:
            raise WorkloadError(f"{where}: heads must be a multiple of kv_heads = {self.kv_heads}, got {self.heads}")
        if self.head_dim % 2:
            raise WorkloadError(f"{where}: head_dim must be even (rotary pairs), got {self.head_dim}")
        if not self.source.strip():
            raise WorkloadError(f"{where}: source must say where the figures come from, got an empty text")
        self._check_mask_id(where)

    def _check_mask_id(self, where: str) -> None:
        if self.kind == "ar" and self.mask_id is not None:
            raise WorkloadError(f"{where}: mask_id belongs to masked_diffusion only, got {self.mask_id} for kind ar")
        if self.kind == "masked_diffusion" and (self.mask_id is None or not 0 <= self.mask_id < self.vocab):
            raise WorkloadError(f"{where}: mask_id must lie in 0..{self.vocab - 1}, got {self.mask_id}")

    @property
    def is_causal(self) -> bool:
        """Whether a position sees only itself and those before it."""
        return self.kind == "ar"


def parameter_count(preset: ModelPreset) -> int:
    """Number of parameters, recomputed from the dimensions; a tied embedding counts once.

    Per layer: query and output projections `2 d H C`, key and value projections `2 d K C`, SwiGLU `3 d F`, two norms
    `2 d`, and where the model has them biases `(H + 2K) C` and norms of queries and keys `2 C`.

    >>> parameter_count(ModelPreset(name="two", kind="ar", layers=1, d_model=2, heads=1, kv_heads=1, head_dim=2, ffn=3,
    ...     vocab=5, max_length=8, rope_theta=1e4, norm_eps=1e-5, source="worked out by hand"))
    60
    """
    d, c = preset.d_model, preset.head_dim
    attention = 2 * d * preset.heads * c + 2 * d * preset.kv_heads * c
    if preset.qkv_bias:
        attention += (preset.heads + 2 * preset.kv_heads) * c
    if preset.qk_norm:
        attention += 2 * c
    per_layer = attention + 3 * d * preset.ffn + 2 * d
    embeddings = preset.vocab * d * (1 if preset.tied else 2)
    return preset.layers * per_layer + embeddings + d


def list_presets() -> tuple[str, ...]:
    """Names of the presets that ship with Roofscape, sorted."""
    return tuple(sorted(path.stem for path in PRESETS_FOLDER.glob("*.toml")))


def load_preset(name_or_path: str | Path) -> ModelPreset:
    """Read a preset by name (in any case) or from a TOML file of your own.

    Raises:
        WorkloadError: the name is unknown, or the file lacks a key, has one too many, or a value that cannot be.
    """
    text = str(name_or_path)
    if text.endswith(".toml"):
        return _read_preset(Path(text))
    if text.lower() not in list_presets():
        raise WorkloadError(
            f"unknown model preset {text!r}; known: {', '.join(list_presets())}; or give the path of a .toml file"
        )
    return _read_preset(PRESETS_FOLDER / f"{text.lower()}.toml")


def _read_preset(path: Path) -> ModelPreset:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkloadError(f"model preset {path}: cannot be read ({error.strerror or error})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WorkloadError(f"model preset {path}: is not valid TOML ({error})") from None
    if table.pop("schema", None) != SCHEMA_VERSION:
        raise WorkloadError(f"model preset {path}: must begin with schema = {SCHEMA_VERSION}")
    _check_keys(table, path)
    try:
        return ModelPreset(name=path.stem.lower(), **table)
    except WorkloadError as error:
        raise WorkloadError(f"{error} ({path})") from None


def _check_keys(table: dict[str, Any], path: Path) -> None:
    """Every key is known, none is missing, and each value has its field's type (a whole number may be a float)."""
    types = get_type_hints(ModelPreset)
    allowed = [field for field in fields(ModelPreset) if field.name != "name"]
    for key, value in table.items():
        if key not in {field.name for field in allowed}:
            known = ", ".join(field.name for field in allowed)
            raise WorkloadError(f"model preset {path}: unknown key {key!r}; allowed: {known}")
        expected = types[key]
        if expected is float and type(value) is int:
            table[key] = float(value)
        elif type(value) not in _plain_types(expected):
            raise WorkloadError(f"model preset {path}: {key} must be {_type_name(expected)}, got {value!r}")
    missing = [field.name for field in allowed if field.default is MISSING and field.name not in table]
    if missing:
        raise WorkloadError(f"model preset {path}: lacks {', '.join(missing)}")


def _plain_types(expected: Any) -> tuple[type, ...]:
    if isinstance(expected, UnionType):
        return tuple(option for option in get_args(expected) if option is not type(None))
    return (expected,) if isinstance(expected, type) else (str,)


def _type_name(expected: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return " or ".join(names[option] for option in _plain_types(expected))
