"""Constants of the model of matrix products: what `[calibration.gemm]` and `[calibration.gemm.<dtype>]` may hold."""

from dataclasses import dataclass

import numpy as np

from simulator.chip_columns import ChipColumns
from simulator.kernels.constants import Constant
from simulator.op_columns import BoolArray, FloatArray, IntArray


def _constant(
    name: str,
    low: float,
    start: float,
    high: float,
    unit: str,
    meaning: str,
    *,
    default: float | None = None,
    of_dtype: bool = False,
    of_narrow_types: bool = False,
) -> Constant:
    return Constant(
        name=name,
        low=low,
        high=high,
        start=start,
        unit=unit,
        meaning=meaning,
        default=default,
        of_dtype=of_dtype or of_narrow_types,
        of_narrow_types=of_narrow_types,
    )


CONSTANTS: tuple[Constant, ...] = (
    _constant(
        "matrix_efficiency",
        0.4,
        0.9,
        1.0,
        "",
        "achievable part of the matrix peak at full clock",
        of_narrow_types=True,
    ),
    _constant(
        "sustained_clock_ratio",
        0.4,
        0.85,
        1.0,
        "",
        "clock under power limit over full clock",
        default=1.0,
        of_dtype=True,
    ),
    _constant(
        "clock_settle_s", 1e-5, 7e-4, 0.1, "s", "time at the matrix peak in which the clock settles", default=7e-4
    ),
    _constant("memory_efficiency", 0.5, 0.85, 0.97, "", "achievable part of main memory's bandwidth"),
    _constant("shared_efficiency", 0.2, 0.8, 1.0, "", "achievable part of the shared cache's bandwidth", default=1.0),
    _constant("t0_s", 1e-7, 1.5e-6, 4e-6, "s", "launch of a kernel in a graph, its end included"),
    _constant("stream_latency_s", 1e-9, 1e-6, 3e-6, "s", "before bytes stream at full rate (latency)", default=0.0),
    _constant(
        "memory_ramp_s",
        1e-8,
        2e-6,
        3e-5,
        "s",
        "what a stream from main memory loses until it runs at full rate",
        default=0.0,
    ),
    _constant(
        "k_step_clocks",
        20.0,
        200.0,
        1500.0,
        "clocks",
        "latency of one 128-byte step along K",
        default=0.0,
        of_dtype=True,
    ),
    _constant(
        "pipeline_steps", 1e-3, 5.0, 20.0, "steps", "steps that fill and drain the pipeline of a wave", default=0.0
    ),
    _constant(
        "ingest_bytes_per_clock_per_core",
        5.0,
        80.0,
        400.0,
        "bytes/clock",
        "operands that a core takes in",
        of_dtype=True,
    ),
    _constant("epilogue_bytes_per_clock_per_core", 2.0, 20.0, 200.0, "bytes/clock", "write-back of a tile"),
    _constant("epilogue_overlap", 0.0, 0.5, 1.0, "", "part of write-back that the next tile hides", default=0.0),
    _constant("split_k_s", 1e-7, 2.5e-6, 8e-6, "s", "second pass of a split reduction"),
    _constant("split_part_s", 1e-10, 1e-8, 2e-7, "s", "of that pass, which reads the parts in turn, each", default=0.0),
    _constant("reduction_passes", 0.05, 0.5, 10.0, "", "32-bit partial sums written and read, over once", default=0.25),
    _constant(
        "overlap_loss", 0.0, 0.25, 1.0, "", "part of the shorter of core and memory time that is exposed", default=0.0
    ),
    _constant(
        "activation_cache_ratio", 0.05, 0.5, 1.5, "", "part of the shared cache that keeps activations", default=0.5
    ),
    _constant(
        "weight_cache_ratio", 0.05, 0.5, 1.3, "", "part of the shared cache that keeps weights in turn", default=0.5
    ),
    _constant(
        "weight_cache_sharpness",
        1.0,
        30.0,
        40.0,
        "",
        "how suddenly weights in turn that do not fit are lost",
        default=30.0,
    ),
    _constant(
        "vector_ingest_bytes_per_clock_per_core",
        2.0,
        10.0,
        200.0,
        "bytes/clock",
        "weights that a core takes in where one row runs on its vector units",
        default=0.0,
    ),
    _constant("vector_s", 1e-8, 1e-6, 4e-6, "s", "fixed latency of those kernels", default=0.0),
    _constant("counter_s", 1e-8, 2e-6, 6e-6, "s", "setting a counter of tiles to zero before a kernel", default=0.0),
    _constant(
        "conversion_s",
        1e-8,
        2e-6,
        2e-5,
        "s",
        "kernels that quantize the activations",
        default=0.0,
        of_narrow_types=True,
    ),
    _constant(
        "conversion_passes",
        0.1,
        1.0,
        10.0,
        "",
        "how often they move the activations",
        default=1.0,
        of_narrow_types=True,
    ),
    _constant(
        "conversion_element_s",
        1e-12,
        1e-10,
        1e-8,
        "s",
        "of each element of a row, along which they go",
        default=0.0,
        of_narrow_types=True,
    ),
)
_DEFAULTS = {constant.name: constant.default for constant in CONSTANTS}
STEP_BYTES = 128.0  # one K step: 64 elements of 16 bits, a full row of shared-memory banks
_FACTS = {  # what a chip's kernels are like and how its library chooses: read off, not fitted
    "k_padding_bytes": STEP_BYTES,  # K is padded to a multiple of this
    "power_of_two_tiles": 0.0,  # 1: no tiles of sides in between
    "largest_tiles_first": 0.0,  # 1: products that fill the cores with the largest tiles take no others
    "split_least_macs": 0.0,  # multiply-adds of the smallest product whose K is split
    "skinny_split_fill": np.inf,  # small tiles over cores, beyond which K of a skinny product is not split
    "least_rows_of_96_tiles": 0.0,  # rows from which tiles with a side of 96 are taken
    "split_least_k": 0.0,  # length of the shortest K that is split
    "slice_below_macs": 0.0,  # multiply-adds below which the threads of a block share K among them
    "slice_s": 0.0,  # what summing their parts takes
    "slow_most_rows": 0.0,  # rows up to which products run on kernels whose steps are slow
    "slow_least_columns": 0.0,  # columns from which they do
    "slow_most_columns": np.inf,  # and up to which
    "slow_least_k": 0.0,  # length of K from which they do
    "slow_most_k": np.inf,  # and up to which
    "slow_step_ratio": 1.0,  # time of a step of those kernels over that of the others
    "counter_tiles_per_core": np.inf,  # largest tiles a core, beyond which blocks take tiles by a counter
}
_RULES = tuple(_FACTS)[3:]  # those that are numbers and used as they stand


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GemmConstants:
    """Constants of one dtype on every chip, each [C]; the meaning of each is in `CONSTANTS`.

    A chip without calibration runs at its peak rates, takes in what its nearest memory delivers, and pays its launch,
    the latency of main memory and, each wave, of the memory next to it.
    """

    matrix_efficiency: FloatArray
    sustained_clock_ratio: FloatArray
    clock_settle_s: FloatArray
    memory_efficiency: FloatArray
    shared_efficiency: FloatArray
    t0_s: FloatArray
    stream_latency_s: FloatArray
    memory_ramp_s: FloatArray
    k_step_clocks: FloatArray
    pipeline_steps: FloatArray
    ingest_bytes_per_clock_per_core: FloatArray
    epilogue_bytes_per_clock_per_core: FloatArray
    epilogue_overlap: FloatArray
    wave_s: FloatArray
    split_k_s: FloatArray
    split_part_s: FloatArray
    reduction_passes: FloatArray
    overlap_loss: FloatArray
    activation_cache_ratio: FloatArray
    weight_cache_ratio: FloatArray
    weight_cache_sharpness: FloatArray
    vector_ingest_bytes_per_clock_per_core: FloatArray
    vector_s: FloatArray
    counter_s: FloatArray
    conversion_s: FloatArray
    conversion_passes: FloatArray
    conversion_element_s: FloatArray
    cluster_cores: FloatArray
    k_padding_bytes: FloatArray
    split_least_macs: FloatArray
    skinny_split_fill: FloatArray
    least_rows_of_96_tiles: FloatArray
    split_least_k: FloatArray
    slice_below_macs: FloatArray
    slice_s: FloatArray
    slow_most_rows: FloatArray
    slow_least_columns: FloatArray
    slow_most_columns: FloatArray
    slow_least_k: FloatArray
    slow_most_k: FloatArray
    slow_step_ratio: FloatArray
    counter_tiles_per_core: FloatArray
    has_power_of_two_tiles: BoolArray
    has_largest_tiles_first: BoolArray

    @classmethod
    def from_chips(cls, chips: ChipColumns, dtype: str) -> "GemmConstants":
        """Look the constants of one dtype up: in its own section, then the family's, then those of all kernels."""
        ingest = chips.constant("ingest_bytes_per_clock_per_core", *_scopes(dtype), default=chips.ingest)
        derived: dict[str, FloatArray | float] = {
            "matrix_efficiency": chips.matrix_efficiency,
            "memory_efficiency": chips.level_bandwidth[0] / chips.level_peak_bandwidth[0],
            "t0_s": chips.launch_s,
            "ingest_bytes_per_clock_per_core": chips.ingest,
            "epilogue_bytes_per_clock_per_core": np.where(np.isinf(chips.epilogue), ingest, chips.epilogue),
            "split_k_s": chips.split_k_s,
        }
        values: dict[str, FloatArray] = {}
        for name, default in _DEFAULTS.items():
            start = derived[name] if default is None else default
            values[name] = chips.constant(name, *_scopes(dtype), default=start)
        values["wave_s"] = chips.constant("wave_s", *_scopes(dtype), default=chips.wave_s)
        for name in ("matrix_efficiency", "sustained_clock_ratio", "memory_efficiency", "shared_efficiency"):
            values[name] = np.minimum(values[name], 1.0)
        facts = {name: chips.constant(name, *_scopes(dtype), default=default) for name, default in _FACTS.items()}
        cluster = np.maximum(1.0, chips.constant("cluster_cores", *_scopes(dtype), default=chips.cluster_cores))
        return cls(
            cluster_cores=cluster,
            k_padding_bytes=np.clip(facts["k_padding_bytes"], 1.0, STEP_BYTES),
            **{name: facts[name] for name in _RULES},
            has_power_of_two_tiles=facts["power_of_two_tiles"] > 0,
            has_largest_tiles_first=facts["largest_tiles_first"] > 0,
            **values,
        )

    def take(self, chips: IntArray) -> "GemmConstants":
        """Those of some chips."""
        return GemmConstants(**{name: getattr(self, name)[chips] for name in GemmConstants.__slots__})


def _scopes(dtype: str) -> tuple[str, str]:
    return (f"gemm.{dtype}", "gemm")
