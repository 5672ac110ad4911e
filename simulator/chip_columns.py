"""`ChipColumns`: chips as NumPy columns along the last axis, calibration and its defaults applied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roofline.chip import Chip
from simulator.op_columns import DTYPES, BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChipColumns:
    """Chips as columns, each [C]; memory levels are counted from main memory (level 0) inward, [levels, C].

    A chip with fewer levels than another is padded with absent ones. Efficiencies are at most 1: a fitted constant
    above it (it then stands for something else) must not push a rate above its physical peak.

    Attributes:
        names: of the chips.
        clock_hz: clock.
        cores: number of cores.
        launch_s: fixed cost of a kernel: calibration `t0_s`, else the chip's `launch_s`.
        macs: [dtypes, C] multiply-adds per clock per core, of the matrix units where they take the type, else of the
            vector units.
        has_matrix: [dtypes, C] whether the matrix units take the type.
        array_rows: rows of a systolic array, along the reduction; 1 where the matrix units are none.
        array_columns: its columns, along the output.
        array_load_clocks: clocks that its next weights take to come in; default one a row.
        vector_flops: [dtypes, C] vector FLOPs per clock per core.
        special_flops: elementary functions per clock per core.
        level_exists: [levels, C].
        level_is_core: [levels, C] whether each core has its own part.
        level_capacity_bytes: [levels, C] whole chip.
        level_bandwidth: [levels, C] achievable bytes per second: main memory's times `memory_efficiency`.
        level_peak_bandwidth: [levels, C] bytes per second as the chip describes it.
        level_latency_s: [levels, C].
        link_bandwidth: bytes per second of the first link, 0 where there is none.
        link_latency_s: of that link.
        matrix_efficiency: achievable part of the matrix peak; default 1.
        k_step_clocks: latency of one 128-byte step along K; default 0, never binding.
        ingest: bytes per clock a core can take in; default what its own nearest memory delivers.
        epilogue: bytes per clock a core can write back at the end of a tile; default as `ingest`.
        split_k_s: cost of the second pass that a split reduction needs; default `launch_s`, since it is another
            dependent kernel.
        wave_s: exposed latency at the start of each wave; default the latency of the memory next to main memory, where
            the operands of all but the first wave are met.
        smooth_max_p: exponent of the smooth maximum of core and memory time; default infinity, a plain maximum.
        cluster_cores: neighboring cores that fetch an operand panel from shared memory once for all of them
            (thread-block clusters with multicast on Hopper and later); default 1, each core fetches its own.
        calibrations: constants of each chip by dotted name, or one mapping that all share; `constant` looks them up.
        first_access_s: latency of main memory before anything can start; 0 where `t0_s` was fitted, which holds it.
    """

    names: tuple[str, ...]
    clock_hz: FloatArray
    cores: FloatArray
    launch_s: FloatArray
    macs: FloatArray
    has_matrix: BoolArray
    array_rows: FloatArray
    array_columns: FloatArray
    array_load_clocks: FloatArray
    vector_flops: FloatArray
    special_flops: FloatArray
    level_exists: BoolArray
    level_is_core: BoolArray
    level_capacity_bytes: FloatArray
    level_bandwidth: FloatArray
    level_peak_bandwidth: FloatArray
    level_latency_s: FloatArray
    link_bandwidth: FloatArray
    link_latency_s: FloatArray
    matrix_efficiency: FloatArray
    k_step_clocks: FloatArray
    ingest: FloatArray
    epilogue: FloatArray
    split_k_s: FloatArray
    wave_s: FloatArray
    smooth_max_p: FloatArray
    cluster_cores: FloatArray
    first_access_s: FloatArray
    calibrations: tuple[Mapping[str, float], ...]

    @classmethod
    def from_chips(cls, chips: Sequence[Chip]) -> "ChipColumns":
        """Columns of a sequence of chips."""
        rows = [_chip_row(chip) for chip in chips]
        columns: dict[str, Any] = {key: np.array([row[key] for row in rows], dtype=np.float64) for key in rows[0]}
        levels = _level_columns(chips)
        macs = np.array(
            [[chip.matrix_flops_per_s(d) / (2 * chip.cores * chip.clock_hz) for chip in chips] for d in DTYPES]
        )
        vector = np.array(
            [[chip.vector_flops_per_s(d) / (chip.cores * chip.clock_hz) for chip in chips] for d in DTYPES]
        )
        has_matrix = np.array([[d in dict(chip.matrix_macs) for chip in chips] for d in DTYPES])
        return cls(
            names=tuple(chip.name for chip in chips),
            macs=macs,
            has_matrix=has_matrix,
            vector_flops=vector,
            calibrations=tuple(dict(chip.calibration) for chip in chips),
            **levels,
            **columns,
        )

    def __len__(self) -> int:
        return len(self.names)

    def constant(self, name: str, *scopes: str, default: float | FloatArray) -> FloatArray:
        """A calibration constant of every chip, [C].

        Args:
            name: of the constant.
            scopes: where to look first, the most specific first, for example `gemm.float8_e4m3fn`, `gemm`; the bare
                name comes last.
            default: value of chips that have none, one for all or [C].
        """
        values = np.zeros(len(self)) + default
        keys = (*(f"{scope}.{name}" for scope in scopes), name)
        if len(self.calibrations) == 1:
            shared = self.calibrations[0]
            return values if (found := _first(shared, keys)) is None else np.full(len(self), found)
        for c, constants in enumerate(self.calibrations):
            found = _first(constants, keys)
            values[c] = values[c] if found is None else found
        return values

    @property
    def levels(self) -> int:
        """Memory levels of the deepest chip."""
        return len(self.level_exists)

    @property
    def last_cache(self) -> FloatArray:
        """Capacity of the largest memory that all cores share and that is not main memory, 0 where none is, [C]."""
        shared = self.level_exists[1:] & ~self.level_is_core[1:]
        capacity = np.where(shared, self.level_capacity_bytes[1:], 0.0)
        largest: FloatArray = np.max(capacity, axis=0, initial=0.0)
        return largest

    @property
    def core_memory_bytes(self) -> FloatArray:
        """Capacity of one core's own largest memory, infinite where none is described, [C]."""
        capacity = np.where(self.level_is_core, self.level_capacity_bytes, 0.0).max(axis=0, initial=0.0) / self.cores
        return np.where(capacity > 0, capacity, np.inf)

    @property
    def beside_core_bytes(self) -> FloatArray:
        """One core's part of the memory on the chip: cache, or its own, or all that there is without one, [C]."""
        own = np.where(np.isfinite(self.core_memory_bytes), self.core_memory_bytes, 0.0)
        beside = np.maximum(self.last_cache / self.cores, own)
        return np.where(beside > 0, beside, self.level_capacity_bytes[0] / self.cores)

    @property
    def shared_bandwidth(self) -> FloatArray:
        """Bytes per second of the innermost memory that all cores share, [C]."""
        innermost = np.max(
            np.where(self.level_exists & ~self.level_is_core, np.arange(self.levels)[:, None], 0), axis=0
        )
        bandwidth: FloatArray = self.level_bandwidth[innermost, np.arange(len(self))]
        return bandwidth


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChipFigures:
    """What a tiling of a product asks of chips, [C] each; named as in `ChipColumns`.

    Attributes:
        cores: number of cores.
        clock_hz: clock.
        core_memory_bytes: capacity of one core's own largest memory.
        beside_core_bytes: one core's part of the memory on the chip.
        last_cache: capacity of the largest shared memory that is not main memory.
        shared_bandwidth: of the innermost shared memory.
        main_bandwidth: peak of main memory.
    """

    cores: FloatArray
    clock_hz: FloatArray
    core_memory_bytes: FloatArray
    beside_core_bytes: FloatArray
    last_cache: FloatArray
    shared_bandwidth: FloatArray
    main_bandwidth: FloatArray

    @classmethod
    def of(cls, chips: ChipColumns) -> "ChipFigures":
        """Those of whole columns."""
        same = {name: getattr(chips, name) for name in ChipFigures.__slots__ if name != "main_bandwidth"}
        return cls(main_bandwidth=chips.level_peak_bandwidth[0], **same)

    def take(self, chips: IntArray) -> "ChipFigures":
        """Those of some chips."""
        return ChipFigures(**{name: getattr(self, name)[chips] for name in ChipFigures.__slots__})


def _first(constants: Mapping[str, float], keys: Sequence[str]) -> float | None:
    return next((constants[key] for key in keys if key in constants), None)


def _chip_row(chip: Chip) -> dict[str, float]:
    """The columns that hold one number per chip, calibration and its defaults applied."""
    calibration = dict(chip.calibration)
    nearest = chip.memories[0]
    # Without a figure, a core takes in what its own nearest memory delivers; a chip of shared memories only sets none.
    own = nearest.bandwidth_bytes_per_s / (chip.cores * chip.clock_hz) if nearest.per_core else np.inf
    ingest = calibration.get("ingest_bytes_per_clock_per_core", own)
    next_to_main = chip.memories[-2] if len(chip.memories) > 1 else chip.memories[-1]
    link = chip.links[0] if chip.links else None
    return {
        "clock_hz": chip.clock_hz,
        "cores": chip.cores,
        "launch_s": calibration.get("t0_s", chip.launch_s),
        "special_flops": chip.special_flops,
        "array_rows": chip.matrix_array[0],
        "array_columns": chip.matrix_array[1],
        "array_load_clocks": calibration.get("array_load_clocks", chip.matrix_array[0]),
        "link_bandwidth": link.bandwidth_bytes_per_s if link else 0.0,
        "link_latency_s": link.latency_s if link else 0.0,
        "matrix_efficiency": min(1.0, calibration.get("matrix_efficiency", 1.0)),
        "k_step_clocks": calibration.get("k_step_clocks", 0.0),
        "ingest": ingest,
        "epilogue": calibration.get("epilogue_bytes_per_clock_per_core", ingest),
        "split_k_s": calibration.get("split_k_s", chip.launch_s),
        "wave_s": calibration.get("wave_s", next_to_main.latency_s),
        "smooth_max_p": calibration.get("smooth_max_p", np.inf),
        "cluster_cores": max(1.0, calibration.get("cluster_cores", 1.0)),
        "first_access_s": 0.0 if "t0_s" in calibration else chip.main_memory.latency_s,
    }


def _level_columns(chips: Sequence[Chip]) -> dict[str, NDArray[Any]]:
    depth = max(len(chip.memories) for chip in chips)
    exists = np.zeros((depth, len(chips)), dtype=np.bool_)
    is_core = np.zeros((depth, len(chips)), dtype=np.bool_)
    capacity, latency = np.zeros((depth, len(chips))), np.zeros((depth, len(chips)))
    peak, bandwidth = np.full((depth, len(chips)), np.inf), np.full((depth, len(chips)), np.inf)
    for c, chip in enumerate(chips):
        efficiency = min(1.0, dict(chip.calibration).get("memory_efficiency", 1.0))
        for level, memory in enumerate(reversed(chip.memories)):
            exists[level, c], is_core[level, c] = True, memory.per_core
            capacity[level, c], latency[level, c] = memory.capacity_bytes, memory.latency_s
            peak[level, c] = memory.bandwidth_bytes_per_s
            bandwidth[level, c] = memory.bandwidth_bytes_per_s * (efficiency if level == 0 else 1.0)
    return {
        "level_exists": exists,
        "level_is_core": is_core,
        "level_capacity_bytes": capacity,
        "level_bandwidth": bandwidth,
        "level_peak_bandwidth": peak,
        "level_latency_s": latency,
    }
