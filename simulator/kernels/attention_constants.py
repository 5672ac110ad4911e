"""Constants of the attention kernels: what a chip's `[calibration.attention]` may hold, and which of it an op takes."""

from dataclasses import dataclass, fields

import numpy as np

from simulator.chip_columns import ChipColumns
from simulator.kernels.constants import Constant
from simulator.op_columns import FloatArray, OpColumns

CONSTANTS: tuple[Constant, ...] = (
    Constant(
        name="setup_s",
        low=1e-8,
        high=2e-5,
        start=2e-6,
        unit="s",
        meaning="fixed cost beyond a launch: scheduling kernels, first access to memory",
    ),
    Constant(
        name="tile_clocks",
        low=100.0,
        high=2e4,
        start=2500.0,
        unit="clocks",
        meaning="a query tile beyond its blocks of keys: first operands, normalizing, write-back",
    ),
    Constant(
        name="block_clocks",
        low=1.0,
        high=3000.0,
        start=50.0,
        unit="clocks",
        meaning="a block of keys beyond its products and softmax: barriers, masks, addresses",
        default=0.0,
    ),
    Constant(
        name="first_tile_ratio",
        low=1.0,
        high=4.0,
        start=1.2,
        unit="",
        meaning="time of a tile that starts on an idle core, over that of one that others overlap",
        default=1.0,
    ),
    Constant(
        name="tail_ratio",
        low=0.01,
        high=1.5,
        start=0.3,
        unit="",
        meaning="part of the longest tile of a causal mask that is left when the other cores have finished",
        default=0.0,
    ),
    Constant(
        name="matrix_efficiency",
        low=0.4,
        high=1.0,
        start=0.85,
        unit="",
        meaning="achievable part of the matrix peak",
        default=1.0,
    ),
    Constant(
        name="softmax_ratio",
        low=0.1,
        high=8.0,
        start=0.8,
        unit="",
        meaning="time of the softmax over that of its instructions at peak (below 1 where exponentials are emulated)",
        default=1.0,
    ),
    Constant(
        name="softmax_overlap_p",
        low=1.0,
        high=20.0,
        start=2.0,
        unit="",
        meaning="exponent of the smooth maximum of products and softmax: 1 where they follow each other",
        default=1.5,
    ),
    Constant(
        name="memory_efficiency",
        low=0.3,
        high=1.0,
        start=0.9,
        unit="",
        meaning="achievable part of main memory's bandwidth",
        default=1.0,
    ),
    Constant(
        name="cache_efficiency",
        low=0.05,
        high=1.0,
        start=0.4,
        unit="",
        meaning="achievable part of the shared cache's bandwidth for operands that are read once",
        default=1.0,
    ),
    Constant(
        name="held_ratio",
        low=0.05,
        high=2.0,
        start=0.65,
        unit="",
        meaning="part of the last shared cache that keeps data from one replay to the next",
        default=1.0,
    ),
    Constant(
        name="lockstep_blocks",
        low=0.5,
        high=100.0,
        start=8.0,
        unit="blocks",
        meaning="blocks of keys during which the cores load at the same time and compute at the same time",
        default=1.0,
    ),
    Constant(
        name="split_s",
        low=1e-7,
        high=1e-5,
        start=2e-6,
        unit="s",
        meaning="second pass that combines split keys",
    ),
    Constant(
        name="store_token_s",
        low=1e-12,
        high=5e-8,
        start=1e-9,
        unit="s",
        meaning="storing one token's keys and values in the cache, beyond their bytes",
        default=0.0,
    ),
    Constant(
        name="pad_s",
        low=1e-8,
        high=1e-5,
        start=1e-6,
        unit="s",
        meaning="padding of head sizes that the kernel does not take",
        default=0.0,
    ),
    Constant(
        name="sustained_slowdown",
        low=1e-3,
        high=0.4,
        start=0.1,
        unit="",
        meaning="time that a kernel of many milliseconds takes longer, as power lowers the clock",
        default=0.0,
    ),
)

# Where each regime of attention looks first, by the family of tables that measures it. A chip on which one was not
# measured takes the constants of another.
SCOPES: dict[str, tuple[str, ...]] = {
    "attention_prefill": ("attention.prefill", "attention"),
    "attention_bidirectional": ("attention.bidirectional", "attention.prefill", "attention"),
    "attention_decode": ("attention.decode", "attention"),
}
# What is one thing of a chip, whatever its kernels do: one value, in `[calibration.attention]`, for all regimes.
SHARED: frozenset[str] = frozenset(
    {"cache_efficiency", "first_tile_ratio", "held_ratio", "pad_s", "split_s", "sustained_slowdown"}
)
# What kernels of a regime lack, or what their measured times do not tell.
ABSENT: dict[str, frozenset[str]] = {
    "attention_prefill": frozenset({"block_clocks", "split_s"}),
    "attention_bidirectional": frozenset({"block_clocks", "tail_ratio", "store_token_s"}),
    "attention_decode": frozenset({"tail_ratio", "pad_s", "sustained_slowdown"}),
}
_MOST_SPLITS = 128.0
_MEASURED_ROWS = 128.0  # most rows of one tile that decoding was measured with: heads that share keys
_FULL_TILES = 8.0  # tiles of them from which a block of queries runs as many queries do (assumed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttentionConstants:
    """Constants of every op on every chip, [O, C]; meanings as in `CONSTANTS`.

    Attributes:
        generation: of the kernels, see `simulator.kernels.attention_tiles`, [1, C].
        split_limit: most parts that keys are split into.
    """

    generation: FloatArray
    split_limit: FloatArray
    setup_s: FloatArray
    tile_clocks: FloatArray
    block_clocks: FloatArray
    first_tile_ratio: FloatArray
    tail_ratio: FloatArray
    matrix_efficiency: FloatArray
    softmax_ratio: FloatArray
    softmax_overlap_p: FloatArray
    memory_efficiency: FloatArray
    cache_efficiency: FloatArray
    held_ratio: FloatArray
    lockstep_blocks: FloatArray
    split_s: FloatArray
    store_token_s: FloatArray
    pad_s: FloatArray
    sustained_slowdown: FloatArray


def attention_constants(ops: OpColumns, chips: ChipColumns) -> AttentionConstants:
    """Constants of the regime that each op is in.

    What decodes takes those of decoding, many queries those of prefill (causal) or of bidirectional attention. A block
    of queries against a longer cache lies between, see `decode_weight`.
    """
    generation = chips.constant("generation", "attention", default=0.0)[None, :]
    decode = decode_weight(ops, generation)
    is_causal = ops.size("causal") > 0
    from_chip: dict[str, FloatArray] = {
        "setup_s": chips.first_access_s,
        "tile_clocks": chips.wave_s * chips.clock_hz,
        "split_s": chips.split_k_s,
    }
    values: dict[str, FloatArray] = {}
    for constant in CONSTANTS:
        default = from_chip[constant.name] if constant.default is None else constant.default
        one, causal, full = (
            chips.constant(constant.name, *SCOPES[f"attention_{regime}"], default=default)
            for regime in ("decode", "prefill", "bidirectional")
        )
        many = np.where(is_causal, causal, full)
        values[constant.name] = decode * one + (1.0 - decode) * many
    for name in ("matrix_efficiency", "memory_efficiency", "cache_efficiency"):
        values[name] = np.minimum(1.0, values[name])
    values["generation"] = generation
    values["split_limit"] = chips.constant("split_limit", "attention", default=_MOST_SPLITS)[None, :]
    return AttentionConstants(**{column.name: values[column.name] for column in fields(AttentionConstants)})


def decode_weight(ops: OpColumns, generation: FloatArray) -> FloatArray:
    """How far an op is decoding: 1 on a cache with rows for one tile, 0 without a longer cache and for eight tiles.

    Rows are queries times the heads that share keys. A kernel that packs both into a tile does the same for q queries
    of g heads as for one query of q g heads, which is measured; FlashAttention-2 packs the heads of one query alone.
    """
    queries = np.maximum(ops.size("queries"), 1.0)
    shared = np.maximum(1.0, ops.size("heads") / np.maximum(ops.size("kv_heads"), 1.0))
    rows = queries * np.where((generation == 2.0) & (queries > 1.0), 1.0, shared)
    between = np.clip(1.0 - np.log(rows / _MEASURED_ROWS) / np.log(_FULL_TILES), 0.0, 1.0)
    is_single = queries <= 1.0
    has_cache = (ops.size("keys") > queries) | (is_single & (ops.size("stores_kv") > 0))
    weight: FloatArray = np.where(has_cache, np.where(is_single, 1.0, between), 0.0)
    return weight
