"""Model presets: the dimensions that make a network, read from one TOML file per model; needs no torch."""

import math
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_type_hints

from workloads.architecture import (
    FEEDS_FORWARD,
    GATED,
    LAYER_LETTERS,
    MIXES_ATTENTION,
    MIXES_STATE,
    FeedForwardType,
    LatentAttention,
    Mixture,
    Norm,
    Positions,
    SlidingWindow,
    StateSpace,
    check_positive,
)
from workloads.errors import WorkloadError
from workloads.preset_files import find_preset_file, list_preset_files, read_preset_table

ModelKind = Literal["ar", "masked_diffusion", "block_diffusion", "uniform_diffusion"]
_MASKING = ("masked_diffusion", "block_diffusion")
_TIME_FEATURES = 256  # sines and cosines of the noise level, before its two layers (DiT, arXiv:2212.09748)
MODEL_KINDS: tuple[ModelKind, ...] = get_args(ModelKind)
SCHEMA_VERSION = 1
PRESETS_FOLDER = Path(__file__).with_name("presets")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPreset:
    """Dimensions of a network that reads tokens and gives logits.

    What has a default describes the common network: RMSNorm, rotary positions, grouped-query attention and a SwiGLU
    network in each layer. The rest is for networks that differ.

    Attributes:
        name: the file's stem.
        kind: `ar` predicts the next token, `masked_diffusion` and `block_diffusion` (one block after the other) every
            mask, `uniform_diffusion` every token of a noised canvas.
        layers: number of blocks.
        d_model: width of the residual stream.
        heads: query heads; 0 where no layer has attention, as for the next two.
        kv_heads: key and value heads; `heads` must be a multiple of it.
        head_dim: width of one head.
        ffn: hidden width of the feed-forward network; 0 where every layer has experts or none.
        vocab: rows of the embedding and width of the logits.
        tied: whether the output projection is the embedding.
        max_length: number of positions that the rotary tables cover.
        rope_theta: base of the rotary frequencies; scalings for contexts longer than trained are left out.
        norm_eps: added to the mean square inside RMSNorm, or to the variance inside LayerNorm.
        mask_id: token id of a masked position, for masked and block diffusion only.
        qkv_bias: whether query, key and value projections add a bias.
        qk_norm: whether queries and keys pass an RMSNorm per head.
        source: where the figures come from; a made-up model says so.
        causal: whether a position sees only itself and those before it; None for what the kind says.
        norm: kind of norm; LayerNorm adds a bias only with `norm_bias`.
        norm_bias: whether norms add a bias.
        ffn_type: gated by SiLU or GELU, or plain with GELU or squared ReLU.
        ffn_bias: whether the feed-forward network's projections add biases.
        output_bias: whether the attention's output projection adds a bias.
        head_bias: whether the projection to logits adds a bias.
        positions: rotary, a learned table added to the embeddings, or none.
        rotary_frac: leading part of each head that turns.
        condition: width of the noise level's embedding, which shifts, scales and gates every layer (adaLN); None where
            the network is not told the noise level.
        logit_softcap: logits are bounded by `cap * tanh(logits / cap)`.
        sandwich_norms: whether a norm follows each part of a layer as well, and embeddings are scaled by
            `sqrt(d_model)` (Gemma).
        self_conditioning_ffn: hidden width of the network that adds the last step's prediction to the embeddings.
        layout: one letter per layer, repeated: see `LAYER_LETTERS`; empty for attention and feed-forward in each.
        moe: mixture of experts.
        state_space: Mamba mixer of the layout's `S` and `M` layers.
        latent_attention: in the place of grouped-query attention.
        window: sliding-window attention.
        unfused: whether the network runs single operations, as LLaDA's own code does without a compiler.
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
    norm_eps: float
    source: str
    rope_theta: float | None = None
    tied: bool = False
    mask_id: int | None = None
    qkv_bias: bool = False
    qk_norm: bool = False
    causal: bool | None = None
    norm: Norm = "rmsnorm"
    norm_bias: bool = False
    ffn_type: FeedForwardType = "swiglu"
    ffn_bias: bool = False
    output_bias: bool = False
    head_bias: bool = False
    positions: Positions = "rotary"
    rotary_frac: float = 1.0
    condition: int | None = None
    logit_softcap: float | None = None
    sandwich_norms: bool = False
    self_conditioning_ffn: int | None = None
    layout: str = ""
    moe: Mixture | None = None
    state_space: StateSpace | None = None
    latent_attention: LatentAttention | None = None
    window: SlidingWindow | None = None
    unfused: bool = False

    def __post_init__(self) -> None:
        where = f"model preset {self.name!r}"
        check_positive(where, self, "layers", "d_model", "vocab", "max_length")
        for field_name in ("norm_eps", "rotary_frac", "logit_softcap", "rope_theta"):
            value = getattr(self, field_name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise WorkloadError(f"{where}: {field_name} must be finite and > 0, got {value}")
        for field_name, allowed in (
            ("kind", MODEL_KINDS),
            ("norm", get_args(Norm)),
            ("ffn_type", get_args(FeedForwardType)),
            ("positions", get_args(Positions)),
        ):
            if getattr(self, field_name) not in allowed:
                given = getattr(self, field_name)
                raise WorkloadError(f"{where}: {field_name} must be one of {', '.join(allowed)}, got {given!r}")
        if not self.source.strip():
            raise WorkloadError(f"{where}: source must say where the figures come from, got an empty text")
        self._check_layers(where)
        self._check_mask_id(where)
        if self.unfused and not (self.is_common and self.kind == "masked_diffusion" and self.kv_heads == self.heads):
            raise WorkloadError(
                f"{where}: unfused takes LLaDA's form: masked_diffusion, one KV head a head, no options"
            )

    def _check_layers(self, where: str) -> None:
        unknown = set(self.layout) - LAYER_LETTERS.keys()
        if unknown:
            raise WorkloadError(f"{where}: layout may hold {', '.join(LAYER_LETTERS)}, got {min(unknown)!r}")
        letters = {self.letter(layer) for layer in range(self.layers)}
        if bool(self.layout and set(self.layout) & MIXES_STATE) != (self.state_space is not None):
            raise WorkloadError(f"{where}: a layout with S or M needs state_space, and no other has one")
        if letters & MIXES_ATTENTION:
            self._check_attention(where)
        if any(self.has_plain_ffn(layer) for layer in range(self.layers)):
            check_positive(where, self, "ffn")

    def _check_attention(self, where: str) -> None:
        check_positive(where, self, "heads", "kv_heads", "head_dim")
        if self.heads % self.kv_heads:
            raise WorkloadError(f"{where}: heads must be a multiple of kv_heads = {self.kv_heads}, got {self.heads}")
        if self.head_dim % 2:
            raise WorkloadError(f"{where}: head_dim must be even (rotary pairs), got {self.head_dim}")
        if (self.positions == "rotary") != (self.rope_theta is not None):
            raise WorkloadError(f"{where}: rope_theta belongs to rotary positions, got {self.rope_theta}")
        if self.rotary_frac > 1:
            raise WorkloadError(f"{where}: rotary_frac must be at most 1, got {self.rotary_frac}")

    def _check_mask_id(self, where: str) -> None:
        if self.kind not in _MASKING and self.mask_id is not None:
            raise WorkloadError(
                f"{where}: mask_id belongs to {' and '.join(_MASKING)} only, got {self.mask_id} for kind {self.kind}"
            )
        if self.kind in _MASKING and (self.mask_id is None or not 0 <= self.mask_id < self.vocab):
            raise WorkloadError(f"{where}: mask_id must lie in 0..{self.vocab - 1}, got {self.mask_id}")

    @property
    def is_causal(self) -> bool:
        """Whether a position sees only itself and those before it."""
        return self.kind == "ar" if self.causal is None else self.causal

    @property
    def is_common(self) -> bool:
        """Whether the network is the common one, without any of the optional parts."""
        return not (
            self.layout
            or self.moe
            or self.latent_attention
            or self.window
            or self.condition
            or self.logit_softcap
            or self.sandwich_norms
            or self.self_conditioning_ffn
            or self.ffn_type != "swiglu"
            or self.positions == "learned"
        )

    def letter(self, layer: int) -> str:
        """What a layer is, a letter of `LAYER_LETTERS`."""
        return self.layout[layer % len(self.layout)] if self.layout else "A"

    def has_experts(self, layer: int) -> bool:
        """Whether this layer's feed-forward network is a mixture of experts."""
        return self.moe is not None and self.letter(layer) in FEEDS_FORWARD and self.moe.is_at(layer)

    def has_plain_ffn(self, layer: int) -> bool:
        """Whether this layer has a feed-forward network that every token passes, alone or beside experts."""
        beside = self.moe is not None and self.moe.beside_dense
        return self.letter(layer) in FEEDS_FORWARD and (beside or not self.has_experts(layer))


def parameter_count(preset: ModelPreset) -> int:
    """Number of parameters, recomputed from the dimensions; a tied embedding counts once.

    Per layer of the common network: query and output projections `2 d H C`, key and value projections `2 d K C`,
    SwiGLU `3 d F`, two norms `2 d`, and where the model has them biases `(H + 2K) C` and norms of queries and keys
    `2 C`.

    >>> parameter_count(ModelPreset(name="two", kind="ar", layers=1, d_model=2, heads=1, kv_heads=1, head_dim=2, ffn=3,
    ...     vocab=5, max_length=8, rope_theta=1e4, norm_eps=1e-5, source="worked out by hand"))
    60
    """
    return _count(preset, experts=None)


def active_parameter_count(preset: ModelPreset) -> int:
    """Parameters that one token meets: of the routed experts only those that it goes to; both embeddings count."""
    return _count(preset, experts=None if preset.moe is None else preset.moe.top_k)


def _count(preset: ModelPreset, experts: int | None) -> int:
    d, norm = preset.d_model, _norm_parameters(preset)
    total = preset.vocab * d * (1 if preset.tied else 2) + norm + (preset.vocab if preset.head_bias else 0)
    if preset.positions == "learned":
        total += preset.max_length * d
    if preset.condition is not None:
        width = preset.condition
        total += (_TIME_FEATURES + 1) * width + (width + 1) * width + 2 * d * (width + 1)
    if preset.self_conditioning_ffn is not None:
        total += 3 * d * preset.self_conditioning_ffn + norm
    return total + sum(_layer_parameters(preset, layer, experts) for layer in range(preset.layers))


def _norm_parameters(preset: ModelPreset) -> int:
    return preset.d_model * (2 if preset.norm_bias else 1)


def _layer_parameters(preset: ModelPreset, layer: int, experts: int | None) -> int:
    letter, norms, total = preset.letter(layer), 0, 0
    if letter in MIXES_ATTENTION:
        norms, total = 1, _attention_parameters(preset, layer)
    elif preset.state_space is not None and letter in MIXES_STATE:
        norms, total = 1, preset.state_space.parameters(preset.d_model)
    if letter in FEEDS_FORWARD:
        norms += 1
        matrices = 3 if preset.ffn_type in GATED else 2
        if preset.moe is not None and preset.has_experts(layer):
            total += preset.moe.parameters(preset.d_model, matrices, experts)
        if preset.has_plain_ffn(layer):
            total += matrices * preset.d_model * preset.ffn
            total += (preset.ffn + preset.d_model) if preset.ffn_bias else 0
    if preset.sandwich_norms:
        norms *= 2
        norms += 3 if preset.has_experts(layer) and preset.has_plain_ffn(layer) else 0
    if preset.condition is not None:
        total += 6 * preset.d_model * (preset.condition + 1)
    return total + norms * _norm_parameters(preset)


def _attention_parameters(preset: ModelPreset, layer: int) -> int:
    if preset.latent_attention is not None:
        return preset.latent_attention.parameters(preset.d_model, preset.heads)
    kv_heads, c, stored = preset.kv_heads, preset.head_dim, 2
    window = preset.window
    if window is not None and window.is_global(layer):
        kv_heads, c, stored = window.global_kv_heads, window.global_head_dim, 1 if window.shared_key_value else 2
    count = 2 * preset.d_model * preset.heads * c + stored * preset.d_model * kv_heads * c
    if preset.qkv_bias:
        count += (preset.heads + stored * kv_heads) * c
    if preset.qk_norm:
        count += 2 * c
    return count + (preset.d_model if preset.output_bias else 0)


def list_presets() -> tuple[str, ...]:
    """Names of the presets that ship with Roofscape, sorted."""
    return list_preset_files(PRESETS_FOLDER)


def load_preset(name_or_path: str | Path) -> ModelPreset:
    """Read a preset by name (in any case) or from a TOML file of your own.

    Raises:
        WorkloadError: the name is unknown, or the file lacks a key, has one too many, or a value that cannot be.
    """
    return _read_preset(find_preset_file(name_or_path, PRESETS_FOLDER, "model preset"))


def _read_preset(path: Path) -> ModelPreset:
    table = read_preset_table(path, "model preset", SCHEMA_VERSION)
    if "name" in table:
        raise WorkloadError(f"model preset {path}: unknown key 'name'; a preset is named by its file")
    preset: ModelPreset = _build_record(ModelPreset, {**table, "name": path.stem.lower()}, path, "")
    return preset


def _build_record(record: type[Any], table: dict[str, Any], path: Path, section: str) -> Any:
    """A record of this type from a table, and the records inside it from the tables inside."""
    types = get_type_hints(record)
    _check_keys(record, table, path, section)
    values = {
        key: _build_record(_plain_types(types[key])[0], value, path, f"{key}.") if isinstance(value, dict) else value
        for key, value in table.items()
    }
    try:
        return record(**values)
    except WorkloadError as error:
        raise WorkloadError(f"{error} ({path})") from None


def _check_keys(record: type[Any], table: dict[str, Any], path: Path, section: str) -> None:
    """Every key is known, none is missing, and each value has its field's type (a whole number may be a float)."""
    types = get_type_hints(record)
    allowed = [field for field in fields(record) if field.name != "name"]
    for key, value in table.items():
        if key not in types:
            known = ", ".join(field.name for field in allowed)
            raise WorkloadError(f"model preset {path}: unknown key {section + key!r}; allowed: {known}")
        expected = _plain_types(types[key])
        if float in expected and type(value) is int:
            table[key] = float(value)
        elif type(value) not in expected and not (isinstance(value, dict) and is_dataclass(expected[0])):
            raise WorkloadError(f"model preset {path}: {section}{key} must be {_type_name(expected)}, got {value!r}")
    missing = [field.name for field in allowed if field.default is MISSING and field.name not in table]
    if missing:
        raise WorkloadError(f"model preset {path}: lacks {', '.join(section + name for name in missing)}")


def _plain_types(expected: Any) -> tuple[type, ...]:
    if isinstance(expected, UnionType):
        return tuple(option for option in get_args(expected) if option is not type(None))
    return (expected,) if isinstance(expected, type) else (str,)


def _type_name(options: tuple[type, ...]) -> str:
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return " or ".join(names.get(option, "a table") for option in options)
