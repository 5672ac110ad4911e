"""`Hardware`: designs as columns, the physical description from which chips, area, power and cost are derived."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from explorer.errors import ExplorationError

FloatArray = NDArray[np.float64]
TextArray = NDArray[np.str_]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hardware:
    """Physical designs, [D] each: what stands on the package, whole, before anything is switched off for yield.

    Attributes:
        name: of each design.
        node: process node of the compute dies, a key of `technology.toml` (`n7`, `n5`, `n4`, ...).
        dram: kind of main memory, a key of `technology.toml` (`hbm3`, `gddr6`, `lpddr5x`, ..., `none` for SRAM only).
        compute_dies: dies that share the cores.
        cores: cores that work; those fused off are `spare_cores`.
        spare_cores: cores on silicon that do not work or are switched off.
        clock_hz: clock of the cores.
        matrix_macs: 16-bit multiply-adds per clock of a core's matrix units.
        matrix_units: matrix units of a core, over which the multiply-adds are spread.
        array_rows: rows of one systolic array, 1 where the units are a GPU's.
        array_columns: its columns.
        vector_lanes: 32-bit multiply-add lanes of a core.
        fp64_lanes: 64-bit lanes of a core.
        special_lanes: elementary functions per clock of a core.
        sampler_lanes: logits per clock that a core's streaming sampling unit takes (maximum, sum, top-k); 0 for none.
        register_bytes: registers of a core.
        l1_bytes: memory next to a core, caches and scratchpad together.
        l2_bytes: cache shared by all cores, that which works.
        spare_l2_bytes: of it on silicon, but switched off.
        l2_bytes_per_s: its bandwidth.
        llc_bytes: a further cache on base dies (MI300X), 0 for none.
        dram_stacks: stacks that work, or devices of 32 bits for GDDR and LPDDR.
        spare_stacks: sites of stacks on silicon that are not used.
        dram_bytes: capacity of main memory; SRAM-only chips repeat their SRAM here.
        dram_bytes_per_s: bandwidth of main memory.
        link_bytes_per_s: bandwidth to other devices, per direction.
        launch_s: least time between dependent kernels.
        host_dispatch_s: time that the host takes to issue one eager operation.
    """

    name: TextArray
    node: TextArray
    dram: TextArray
    compute_dies: FloatArray
    cores: FloatArray
    spare_cores: FloatArray
    clock_hz: FloatArray
    matrix_macs: FloatArray
    matrix_units: FloatArray
    array_rows: FloatArray
    array_columns: FloatArray
    vector_lanes: FloatArray
    fp64_lanes: FloatArray
    special_lanes: FloatArray
    sampler_lanes: FloatArray
    register_bytes: FloatArray
    l1_bytes: FloatArray
    l2_bytes: FloatArray
    spare_l2_bytes: FloatArray
    l2_bytes_per_s: FloatArray
    llc_bytes: FloatArray
    dram_stacks: FloatArray
    spare_stacks: FloatArray
    dram_bytes: FloatArray
    dram_bytes_per_s: FloatArray
    link_bytes_per_s: FloatArray
    launch_s: FloatArray
    host_dispatch_s: FloatArray

    def __post_init__(self) -> None:
        lengths = {column.name: np.shape(getattr(self, column.name)) for column in fields(self)}
        wrong = {name: shape for name, shape in lengths.items() if shape != (len(self.name),)}
        if wrong:
            name, shape = next(iter(wrong.items()))
            raise ExplorationError(
                f"hardware column {name} must have one value a design ({len(self.name)}), got {shape}"
            )

    def __len__(self) -> int:
        return len(self.name)

    @property
    def peak_flops_per_s(self) -> FloatArray:
        """Dense 16-bit FLOPs per second of the matrix units, [D]."""
        peak: FloatArray = 2.0 * self.cores * self.matrix_macs * self.clock_hz
        return peak

    @property
    def is_held_up_by_cache(self) -> BoolArray:
        """Whether a cache that all cores share gives fewer bytes a second than the main memory behind it, [D]."""
        slower: BoolArray = (self.dram != "none") & (self.l2_bytes > 0) & (self.l2_bytes_per_s < self.dram_bytes_per_s)
        return slower

    def take(self, rows: IntArray) -> "Hardware":
        """Some of the designs."""
        return take_columns(self, rows)


def take_columns(record: Record, rows: IntArray) -> Record:
    """The same record of [D] columns for some of the designs."""
    return type(record)(**{column.name: getattr(record, column.name)[rows] for column in fields(record)})
