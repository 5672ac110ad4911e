"""Optional parts of a model preset: mixture of experts, state space, latent attention, sliding windows, layer layout.

Each knows the number of its own parameters in closed form, and needs no torch.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from workloads.errors import WorkloadError

Norm = Literal["rmsnorm", "layernorm"]
FeedForwardType = Literal["swiglu", "geglu", "gelu_mlp", "relu2_mlp"]
Positions = Literal["rotary", "learned", "none"]
Router = Literal["softmax", "sigmoid"]
GATED: frozenset[str] = frozenset({"swiglu", "geglu"})

# Layers by letter: the mixer, and whether a feed-forward network follows it in the same layer. `M`, `*` and `-` are
# Nemotron-H's own letters.
LAYER_LETTERS = {
    "A": "attention, then feed-forward",
    "S": "state space, then feed-forward",
    "*": "attention alone",
    "M": "state space alone",
    "-": "feed-forward alone",
}
MIXES_ATTENTION: frozenset[str] = frozenset("A*")
MIXES_STATE: frozenset[str] = frozenset("SM")
FEEDS_FORWARD: frozenset[str] = frozenset("AS-")


def check_positive(where: str, record: object, *names: str) -> None:
    """Refuse numbers that are not above 0."""
    for name in names:
        value = getattr(record, name)
        if value <= 0:
            raise WorkloadError(f"{where}: {name} must be > 0, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A mixture of experts in the place of the feed-forward network (Shazeer et al., arXiv:1701.06538).

    Attributes:
        experts: routed experts.
        top_k: experts that each token goes to.
        expert_ffn: hidden width of one expert.
        shared: experts that every token goes to, run as one network of `shared * expert_ffn`.
        dense_layers: first layers, which keep the plain network.
        every: every so many layers have experts, ...
        offset: ... counted from this one.
        router: how scores become weights; `sigmoid` adds a bias to each expert's score for the choice only
            (DeepSeek-V3, arXiv:2412.19437, section 2.1.2).
        groups: equal groups of experts, ...
        kept_groups: ... of which each token uses only so many, those with the highest sum of two scores.
        scale: factor on the weights of the routed experts.
        normalized: whether the weights of the chosen experts are made to sum to 1.
        beside_dense: whether the plain network runs as well, in parallel (Gemma 4).
    """

    experts: int
    top_k: int
    expert_ffn: int
    shared: int = 0
    dense_layers: int = 0
    every: int = 1
    offset: int = 0
    router: Router = "softmax"
    groups: int = 1
    kept_groups: int = 1
    scale: float = 1.0
    normalized: bool = True
    beside_dense: bool = False

    def __post_init__(self) -> None:
        check_positive("moe", self, "experts", "top_k", "expert_ffn", "every", "groups", "kept_groups", "scale")
        if self.router not in get_args(Router):
            raise WorkloadError(f"moe: router must be one of {', '.join(get_args(Router))}, got {self.router!r}")
        if self.experts % self.groups or self.kept_groups > self.groups:
            raise WorkloadError(
                f"moe: groups must divide {self.experts} experts and be at least kept_groups = {self.kept_groups}, "
                f"got {self.groups}"
            )
        if self.top_k > self.experts // self.groups * self.kept_groups:
            raise WorkloadError(
                f"moe: top_k must be at most {self.experts // self.groups * self.kept_groups}, got {self.top_k}"
            )
        if min(self.shared, self.dense_layers, self.offset) < 0:
            raise WorkloadError("moe: shared, dense_layers and offset must be >= 0")

    def is_at(self, layer: int) -> bool:
        """Whether this layer has experts."""
        return layer >= self.dense_layers and layer % self.every == self.offset

    def parameters(self, d_model: int, matrices: int, experts: int | None = None) -> int:
        """Parameters of one layer's router, routed and shared experts; `experts` counts only so many of the routed.

        Args:
            d_model: width of the residual stream.
            matrices: matrices of one expert, 3 where gated.
            experts: routed experts to count, None for all.
        """
        counted = (self.experts if experts is None else experts) + self.shared
        extra = 0
        if self.router == "sigmoid":
            extra = self.experts
        if self.beside_dense:
            extra = d_model + self.experts  # scales of the router's input and of each expert
        return counted * matrices * d_model * self.expert_ffn + self.experts * d_model + extra


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpace:
    """A Mamba mixer, version 1 (Gu and Dao, arXiv:2312.00752) or 2 (Dao and Gu, arXiv:2405.21060).

    Attributes:
        version: 1 or 2.
        inner: width inside the mixer.
        state: state per channel.
        conv: window of the causal convolution.
        dt_rank: rank of the step-size projection; version 1 only.
        heads: heads that `inner` is cut into; version 2 only.
        groups: groups of heads that share their input and output matrices; version 2 only.
        chunk: positions computed at once as a matrix product; version 2 only.
        normed: whether step size, input and output matrices pass an RMSNorm (Jamba, arXiv:2403.19887).
    """

    version: int
    inner: int
    state: int
    conv: int = 4
    dt_rank: int = 0
    heads: int = 0
    groups: int = 1
    chunk: int = 256
    normed: bool = False

    def __post_init__(self) -> None:
        check_positive("state_space", self, "inner", "state", "conv", "groups", "chunk")
        if self.version not in (1, 2):
            raise WorkloadError(f"state_space: version must be 1 or 2, got {self.version}")
        check_positive("state_space", self, "dt_rank" if self.version == 1 else "heads")
        if self.version == 2 and (self.inner % self.heads or self.heads % self.groups):
            raise WorkloadError(
                f"state_space: heads must divide inner = {self.inner} and be a multiple of groups = {self.groups}, "
                f"got {self.heads}"
            )

    @property
    def conv_channels(self) -> int:
        """Channels that pass the convolution: in version 2 the input and output matrices do, too."""
        return self.inner if self.version == 1 else self.inner + 2 * self.groups * self.state

    def parameters(self, d_model: int) -> int:
        """Parameters of one mixer."""
        inner, state, rank = self.inner, self.state, self.dt_rank
        shared = inner * d_model + self.conv_channels * (self.conv + 1)
        if self.version == 1:
            norms = rank + 2 * state if self.normed else 0
            return (
                shared
                + 2 * inner * d_model
                + inner * (rank + 2 * state)
                + (rank + 1) * inner
                + inner * state
                + (inner + norms)
            )
        return shared + d_model * (inner + self.conv_channels + self.heads) + 3 * self.heads + inner


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1): the cache holds one latent per token.

    Attributes:
        query_rank: width of the queries' latent.
        latent: width of the latent that keys and values are made of.
        plain: width of a head's query and key without positions.
        rotary: width of its part with rotary positions, whose key all heads share.
        value: width of a head's value.
    """

    query_rank: int
    latent: int
    plain: int
    rotary: int
    value: int

    def __post_init__(self) -> None:
        check_positive("latent_attention", self, "query_rank", "latent", "plain", "rotary", "value")

    def parameters(self, d_model: int, heads: int) -> int:
        """Parameters of one layer's projections and their two norms."""
        queries = d_model * self.query_rank + self.query_rank + self.query_rank * heads * (self.plain + self.rotary)
        latent = d_model * (self.latent + self.rotary) + self.latent
        return queries + latent + self.latent * heads * (self.plain + self.value) + heads * self.value * d_model


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidingWindow:
    """Local attention in all layers but every so manieth, which is global, with dimensions of its own (Gemma).

    Attributes:
        length: positions that a local layer sees, its own included.
        global_every: every so manieth layer is global; the last layer is one where it divides their number.
        global_kv_heads: key and value heads of a global layer.
        global_head_dim: head width of a global layer.
        global_rope_theta: base of a global layer's rotary frequencies.
        global_rotary_frac: part of a global layer's rotary pairs that turn.
        shared_key_value: whether a global layer's values are its keys before their norm and positions.
    """

    length: int
    global_every: int
    global_kv_heads: int
    global_head_dim: int
    global_rope_theta: float
    global_rotary_frac: float = 1.0
    shared_key_value: bool = False

    def __post_init__(self) -> None:
        check_positive("window", self, "length", "global_every", "global_kv_heads", "global_head_dim")
        check_positive("window", self, "global_rope_theta", "global_rotary_frac")

    def is_global(self, layer: int) -> bool:
        """Whether this layer sees everything."""
        return layer % self.global_every == self.global_every - 1
