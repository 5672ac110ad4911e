"""`Chip`: a real or imagined device, from whose microarchitecture every peak and bandwidth is derived."""

from dataclasses import dataclass
from math import isfinite

from profiler.op import DTYPE_BITS
from roofline.errors import ChipError

# Where a chip lists no vector rate for a type, its elements run at the rate of this one: 16-bit floats are
# widened, integers and booleans use the same lanes.
_VECTOR_FALLBACK = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One level of memory.

    Attributes:
        name: `l1`, `l2`, `llc`, `hbm`, `gddr`, `dram`, ...
        capacity_bytes: of the whole chip, all cores' private parts together.
        bandwidth_bytes_per_s: of the whole chip, reading and writing together.
        latency_s: of one dependent access.
        per_core: whether each core has its own part and reaches only that.
    """

    name: str
    capacity_bytes: float
    bandwidth_bytes_per_s: float
    latency_s: float
    per_core: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link to other devices; bandwidth is per direction, of all lanes together."""

    name: str
    bandwidth_bytes_per_s: float
    latency_s: float
    topology: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy constants of a chip.

    Attributes:
        static_w: power drawn while it runs whatever it does (leakage, clocks, idle memory).
        matrix_j_per_flop: (dtype, joules) of one FLOP on the matrix units, operand delivery inside the core included.
        vector_j_per_flop: joules of one 32-bit vector FLOP.
        memory_j_per_byte: (memory name, joules) of one byte through that level.
        core_w: power of one core while a kernel is on it, beyond all others: instruction issue, registers, clocks that
            stop when it has nothing to do.
    """

    static_w: float
    matrix_j_per_flop: tuple[tuple[str, float], ...]
    vector_j_per_flop: float
    memory_j_per_byte: tuple[tuple[str, float], ...]
    core_w: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A device as its TOML file describes it; real and imagined chips are the same type.

    Attributes:
        name: unique name, the stem of its file.
        title: name as people write it.
        family: whose calibration constants it takes until it has its own, for example `nvidia-hopper`.
        clock_hz: clock at which the dense matrix peak is specified.
        cores: streaming multiprocessors, compute units, tensor cores, CPU cores.
        launch_s: least time from one kernel to the next that depends on it, in one stream.
        host_dispatch_s: host time to issue one eager operation; None where nobody measured it.
        matrix_macs: (dtype, multiply-adds per clock per core) of the matrix units, dense.
        matrix_array: (rows along the reduction, columns along the output) of one systolic array, whose weights stay
            while rows stream through; (1, 1) where matrix units take tiles of any size, as those of GPUs do.
        vector_flops: (dtype, FLOPs per clock per core) of the vector units, a fused multiply-add counting 2.
        special_flops: elementary functions (exp, log, ...) per clock per core.
        memories: from the nearest to the cores to the farthest; the last is main memory.
        links: to other devices.
        energy: constants, None where nobody knows them.
        tdp_w: board or package power limit.
        idle_w: power when idle.
        die_area_mm2: of all compute dies.
        process_node: for example `TSMC 4N`.
        price_usd: price of one device.
        calibration: (dotted name, value) of fitted constants of the kernel models: `scope.name` holds for one scope (a
            kernel family, or a dtype of it), a bare name wherever no scope says otherwise.
        throughput: (name, rate or seconds) of single kinds of kernels as they were measured, with the unit in the name;
            no ceilings, and no model reads them.
        sources: (section or key, where its figures come from).
        is_measured: whether the figures were measured on the device itself rather than published.
    """

    name: str
    title: str
    family: str
    clock_hz: float
    cores: int
    launch_s: float
    host_dispatch_s: float | None = None
    matrix_macs: tuple[tuple[str, float], ...] = ()
    matrix_array: tuple[int, int] = (1, 1)
    vector_flops: tuple[tuple[str, float], ...] = ()
    special_flops: float
    memories: tuple[Memory, ...]
    links: tuple[Link, ...] = ()
    energy: Energy | None = None
    tdp_w: float | None = None
    idle_w: float | None = None
    die_area_mm2: float | None = None
    process_node: str = ""
    price_usd: float | None = None
    calibration: tuple[tuple[str, float], ...] = ()
    throughput: tuple[tuple[str, float], ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    is_measured: bool = False

    def __post_init__(self) -> None:
        if not self.memories:
            raise ChipError(f"chip {self.name!r}: needs at least one [memory.<name>] section")
        positive: list[tuple[str, float]] = [("clock_hz", self.clock_hz), ("cores", self.cores)]
        positive += [(f"matrix.macs_per_clock_per_core.{dtype}", rate) for dtype, rate in self.matrix_macs]
        positive += [(f"vector.flops_per_clock_per_core.{dtype}", rate) for dtype, rate in self.vector_flops]
        positive += zip(("matrix.array_rows", "matrix.array_columns"), self.matrix_array, strict=True)
        positive.append(("vector.special_flops_per_clock_per_core", self.special_flops))
        for memory in self.memories:
            positive.append((f"memory.{memory.name}.capacity_bytes", memory.capacity_bytes))
            positive.append((f"memory.{memory.name}.bandwidth_bytes_per_s", memory.bandwidth_bytes_per_s))
        if self.tdp_w is not None:
            positive.append(("power.tdp_w", self.tdp_w))
        for where, value in positive:
            if not (isfinite(value) and value > 0):
                raise ChipError(f"chip {self.name!r}: {where} must be > 0 and finite, got {value}")
        for dtype, _ in (*self.matrix_macs, *self.vector_flops):
            if dtype not in DTYPE_BITS:
                raise ChipError(f"chip {self.name!r}: unknown dtype {dtype!r}; known: {', '.join(DTYPE_BITS)}")
        if _VECTOR_FALLBACK not in dict(self.vector_flops):
            raise ChipError(f"chip {self.name!r}: vector.flops_per_clock_per_core needs a rate for {_VECTOR_FALLBACK}")

    @property
    def main_memory(self) -> Memory:
        """The farthest memory, which holds the model."""
        return self.memories[-1]

    def memory(self, name: str) -> Memory:
        """A memory level by name.

        Raises:
            ChipError: the chip has none of this name.
        """
        for memory in self.memories:
            if memory.name == name:
                return memory
        known = ", ".join(memory.name for memory in self.memories)
        raise ChipError(f"chip {self.name!r}: no memory {name!r}; it has {known}")

    def vector_flops_per_s(self, dtype: str) -> float:
        """Peak of the vector units; a type without a rate of its own runs at the 32-bit rate."""
        rates = dict(self.vector_flops)
        return rates.get(dtype, rates[_VECTOR_FALLBACK]) * self.cores * self.clock_hz

    def matrix_flops_per_s(self, dtype: str) -> float:
        """Dense peak of matrix products of this type: the matrix units' where they take it, else the vector units'."""
        macs = dict(self.matrix_macs).get(dtype)
        if macs is None:
            return self.vector_flops_per_s(dtype)
        return 2.0 * macs * self.cores * self.clock_hz

    @property
    def special_flops_per_s(self) -> float:
        """Elementary functions per second."""
        return self.special_flops * self.cores * self.clock_hz

    def ridge_flops_per_byte(self, dtype: str) -> float:
        """Ridge point: the intensity above which main memory no longer binds."""
        return self.matrix_flops_per_s(dtype) / self.main_memory.bandwidth_bytes_per_s
