"""From the tables of a chip file to a `Chip`: every key is known, every figure is checked and its source is told."""

from roofline.chip import Chip, Energy, Link, Memory
from roofline.chip_table import Table
from roofline.errors import ChipError

SCHEMA_VERSION = 1

_ROOT_KEYS = (
    *("schema", "name", "title", "family", "clock_hz", "cores", "launch_s", "host_dispatch_s", "is_measured"),
    *("matrix", "vector", "memory", "link", "power", "energy", "area", "price", "calibration", "throughput", "sources"),
)
_ARRAY_KEYS = ("array_rows", "array_columns")
_MEMORY_KEYS = (
    *("capacity_bytes", "capacity_bytes_per_core", "per_core", "latency_s"),
    *("bandwidth_bytes_per_s", "bytes_per_clock", "bytes_per_clock_per_core", "bus_bits", "transfers_per_s"),
)

# What a figure without a source carries instead of one; lists of chips and reports show it.
NO_SOURCE = "no source given"
# A chip without [vector] takes the lanes of an NVIDIA SM: 128 float32 multiply-adds and 16 special functions a clock.
_DEFAULT_VECTOR_FLOPS = (("float32", 256.0),)
_DEFAULT_SPECIAL_FLOPS = 16.0
_DEFAULT_VECTOR_SOURCE = "not in the file: 128 float32 lanes and 16 special-function lanes a core, as in an NVIDIA SM"

# Ways to give a memory's capacity and bandwidth, and the name of the figure in the record.
_DERIVED = {
    "capacity_bytes_per_core": "capacity_bytes",
    "bytes_per_clock": "bandwidth_bytes_per_s",
    "bytes_per_clock_per_core": "bandwidth_bytes_per_s",
    "bus_bits": "bandwidth_bytes_per_s",
    "transfers_per_s": "bandwidth_bytes_per_s",
}


def parse_chip(document: dict[str, object], file: str) -> Chip:
    """Turn a parsed chip file into a `Chip`.

    Args:
        document: the file as `tomllib` reads it.
        file: its name, for messages.

    Raises:
        ChipError: at the first thing that is wrong.
    """
    root = Table.root(document, file)
    root.allow(_ROOT_KEYS)
    _check_schema(root)
    clock_hz = root.number("clock_hz")
    cores = root.integer("cores")
    vector = root.table("vector", required=False).allow(
        ["special_flops_per_clock_per_core", "flops_per_clock_per_core"]
    )
    power = root.table("power", required=False).allow(["tdp_w", "idle_w"])
    area = root.table("area", required=False).allow(["die_mm2", "process_node"])
    matrix = root.table("matrix", required=False).allow(["macs_per_clock_per_core", *_ARRAY_KEYS])
    memories = tuple(_memory(table, cores, clock_hz) for table in root.table("memory").tables())
    if not memories:
        raise root.error("memory", "needs at least one [memory.<name>] section, the nearest to the cores first")
    sources = root.table("sources", required=False).strings()
    sources += tuple((path, NO_SOURCE) for path in root.unsourced(sources))
    if "vector" not in root:
        sources += (("vector", _DEFAULT_VECTOR_SOURCE),)
    try:
        return Chip(
            name=root.string("name"),
            title=root.string("title", default=root.string("name")),
            family=root.string("family"),
            clock_hz=clock_hz,
            cores=cores,
            launch_s=root.number("launch_s", zero=True),
            host_dispatch_s=root.optional_number("host_dispatch_s", zero=True),
            matrix_macs=matrix.table("macs_per_clock_per_core", required=False).dtype_numbers(),
            matrix_array=_array(matrix),
            vector_flops=vector.table("flops_per_clock_per_core").dtype_numbers()
            if "vector" in root
            else _DEFAULT_VECTOR_FLOPS,
            special_flops=vector.number("special_flops_per_clock_per_core")
            if "vector" in root
            else _DEFAULT_SPECIAL_FLOPS,
            memories=memories,
            links=tuple(_link(table) for table in root.table("link", required=False).tables()),
            energy=_energy(root, tuple(memory.name for memory in memories)),
            tdp_w=power.optional_number("tdp_w"),
            idle_w=power.optional_number("idle_w", zero=True),
            die_area_mm2=area.optional_number("die_mm2"),
            process_node=area.string("process_node", default=""),
            price_usd=root.table("price", required=False).allow(["usd"]).optional_number("usd"),
            calibration=root.table("calibration", required=False).nested_numbers(),
            throughput=root.table("throughput", required=False).numbers(),
            sources=_record_sources(sources),
            is_measured=root.boolean("is_measured", default=False),
        )
    except ChipError as error:
        message = str(error)
        raise ChipError(message if message.endswith(f"({file})") else f"{message} ({file})") from None


def _array(matrix: Table) -> tuple[int, int]:
    """Sides of a systolic array: both or none are given."""
    given = [key for key in _ARRAY_KEYS if key in matrix]
    if not given:
        return (1, 1)
    return (matrix.integer(_ARRAY_KEYS[0]), matrix.integer(_ARRAY_KEYS[1]))


def _check_schema(root: Table) -> None:
    version = root.integer("schema")
    if version != SCHEMA_VERSION:
        raise root.error("schema", f"must be {SCHEMA_VERSION}, the only version this program reads, got {version}")


def _memory(table: Table, cores: int, clock_hz: float) -> Memory:
    """One level; capacity and bandwidth may be given for the chip or per core, bandwidth also per clock or per pin."""
    table.allow(_MEMORY_KEYS)
    capacity_key = table.one_of("capacity_bytes", "capacity_bytes_per_core")
    per_core = capacity_key == "capacity_bytes_per_core"
    capacity = table.number(capacity_key) * (cores if per_core else 1)
    rate_key = table.one_of("bandwidth_bytes_per_s", "bytes_per_clock", "bytes_per_clock_per_core", "bus_bits")
    rate = table.number(rate_key)
    if rate_key == "bus_bits":
        rate *= table.number("transfers_per_s") / 8
    elif "transfers_per_s" in table:
        raise table.error("transfers_per_s", f"goes with bus_bits, not with {rate_key}")
    elif rate_key == "bytes_per_clock":
        rate *= clock_hz
    elif rate_key == "bytes_per_clock_per_core":
        rate *= clock_hz * cores
    return Memory(
        name=table.name,
        capacity_bytes=capacity,
        bandwidth_bytes_per_s=rate,
        latency_s=table.number("latency_s", zero=True),
        per_core=table.boolean("per_core", default=per_core),
    )


def _record_sources(sources: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Sources under the names that the record's figures have, for example a bus width's under the bandwidth."""
    renamed: dict[str, str] = {}
    for key, text in sources:
        section, _, figure = key.rpartition(".")
        name = f"{section}.{_DERIVED[figure]}" if key.startswith("memory.") and figure in _DERIVED else key
        renamed[name] = f"{renamed[name]}; {text}" if name in renamed else text
    return tuple(renamed.items())


def _link(table: Table) -> Link:
    table.allow(["bandwidth_bytes_per_s", "latency_s", "topology"])
    return Link(
        name=table.name,
        bandwidth_bytes_per_s=table.number("bandwidth_bytes_per_s"),
        latency_s=table.number("latency_s", zero=True),
        topology=table.string("topology", default=""),
    )


def _energy(root: Table, memory_names: tuple[str, ...]) -> Energy | None:
    if "energy" not in root:
        return None
    table = root.table("energy")
    table.allow(["static_w", "core_w", "vector_j_per_flop", "matrix_j_per_flop", "memory_j_per_byte"])
    memory = table.table("memory_j_per_byte").allow(list(memory_names))
    return Energy(
        static_w=table.number("static_w", zero=True),
        matrix_j_per_flop=table.table("matrix_j_per_flop", required=False).dtype_numbers(),
        vector_j_per_flop=table.number("vector_j_per_flop"),
        memory_j_per_byte=memory.numbers(),
        core_w=table.optional_number("core_w", zero=True) or 0.0,
    )
