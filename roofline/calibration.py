"""From micro-benchmarks of a machine to its `Chip`."""

from collections.abc import Sequence
from dataclasses import dataclass

from profiler.measurements import DOUBTFUL_SPREAD, SETTLED_WITHIN, MachineMeasurements, Measurement
from roofline.chip import Chip, Link, Memory
from roofline.errors import ChipError
from roofline.host_constants import SCOPE, HostConstant, host_constants
from roofline.memory_levels import Level, find_levels

# float32 products run on the vector units of CPUs and GPUs, so their rate is also the vector units' rate; on a CPU
# float64 products do as well.
_VECTOR_DTYPES = {"cpu": ("float32", "float64"), "cuda": ("float32",)}

# Latencies where the machine at hand shows none, with where they come from.
_CPU_CYCLES = {"l1": 5, "l2": 15}
_CPU_CYCLES_SOURCE = "not measured: {cycles} cycles, usual for x86 cores, from memory, unverified"
_CUDA_LATENCY_S = {"l1": 19.4e-9, "l2": 151e-9, "dram": 370e-9}
_CUDA_SOURCE = "not measured: as on H100 PCIe (te42kyfo/gpu-benches@1c36d50 gpu-latency)"
_CPU_LATENCY_S = {"l3": 50e-9, "dram": 100e-9}
_CPU_SOURCE = "not measured: usual for servers, from memory, unverified"
# The chase loop hides what is shorter than this behind the interpreter's own work.
_LEAST_LATENCY_S = 5e-9
_NOMINAL_CLOCK_HZ = 1e9
_FUNCTIONS = ("logarithm", "tanh", "sine")
_UNIT_SUFFIX = {"flops_per_s": "_flops_per_s", "bytes_per_s": "_bytes_per_s", "elements_per_s": "_per_s", "s": "_s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A measured chip, and what makes its figures doubtful or incomplete, one sentence each."""

    chip: Chip
    notes: tuple[str, ...]


def chip_from_measurements(measured: MachineMeasurements, *, name: str = "this-machine") -> Calibration:
    """Build the chip whose derived peaks and bandwidths are the measured ones.

    Rates per clock and core are the measured rates divided by clock and cores, so they hold what software reaches
    here, not what the circuit could do. Of several shapes the fastest median counts, for it is a ceiling.

    Args:
        measured: result of the micro-benchmarks.
        name: of the chip.

    Raises:
        ChipError: where there is nothing to build a chip from.
    """
    peaks = _peaks(measured)
    if "float32" not in peaks or not measured.bandwidth:
        raise ChipError(f"cannot calibrate {measured.device_name}: no float32 product or no bandwidth was measured")
    notes = list(measured.notes)
    levels, level_notes = find_levels(
        measured.bandwidth, measured.caches, cores=measured.cores, main_memory_bytes=measured.main_memory_bytes
    )
    notes += level_notes
    clock_hz = measured.clock_hz or _NOMINAL_CLOCK_HZ
    core_clocks_per_s = measured.cores * clock_hz
    vector_dtypes = _VECTOR_DTYPES[measured.device_type]
    memories, latency_sources = _memories(levels, measured, clock_hz)
    launch = measured.launch or measured.dispatch
    special = _fastest_function(measured)
    constants = host_constants(measured)
    used = [*peaks.values(), special, launch, *(level.bandwidth for level in levels)]
    notes += _doubts(used)
    chip = Chip(
        name=name,
        title=f"{measured.device_name}, {measured.cores} {'threads' if measured.device_type == 'cpu' else 'cores'}",
        family=measured.device_type,
        clock_hz=clock_hz,
        cores=measured.cores,
        launch_s=launch.value,
        host_dispatch_s=measured.dispatch.value if measured.launch is not None else None,
        matrix_macs=tuple(
            (dtype, peak.value / (2 * core_clocks_per_s)) for dtype, peak in peaks.items() if dtype not in vector_dtypes
        ),
        vector_flops=tuple(
            (dtype, peak.value / core_clocks_per_s) for dtype, peak in peaks.items() if dtype in vector_dtypes
        ),
        special_flops=special.value / core_clocks_per_s,
        memories=memories,
        links=_links(measured),
        calibration=tuple((f"{SCOPE}.{each.name}", each.value) for each in constants),
        throughput=tuple((_throughput_name(found), found.value) for found in measured.kernels),
        sources=(*_sources(measured, peaks, levels), *latency_sources, *_host_sources(measured, constants)),
        is_measured=True,
    )
    return Calibration(chip=chip, notes=tuple(notes))


def _peaks(measured: MachineMeasurements) -> dict[str, Measurement]:
    """The fastest product of each dtype, square or thin."""
    peaks: dict[str, Measurement] = {}
    thin = [
        (found.name.partition(" ")[2], found) for found in measured.kernels if found.name.startswith("tall_skinny ")
    ]
    for dtype, measurement in (*measured.matmul, *thin):
        if dtype not in peaks or measurement.value > peaks[dtype].value:
            peaks[dtype] = measurement
    return peaks


def _fastest_function(measured: MachineMeasurements) -> Measurement:
    """The elementary function that runs fastest, for the figure is a ceiling."""
    functions = [measured.exponential, *(found for found in measured.kernels if found.name in _FUNCTIONS)]
    return max(functions, key=lambda found: found.value)


def _throughput_name(found: Measurement) -> str:
    """Key of a figure in the chip file.

    >>> _throughput_name(Measurement(name="gemv float32", value=1.0, unit="bytes_per_s", spread=0.0, runs=5))
    'gemv_float32_bytes_per_s'
    """
    unit = "elements_per_s" if found.name in _FUNCTIONS else found.unit
    return found.name.replace(" ", "_") + _UNIT_SUFFIX[unit]


def _links(measured: MachineMeasurements) -> tuple[Link, ...]:
    """What an all-reduce over several devices showed of the link between them."""
    by_name = {found.name: found for found in measured.kernels}
    if not {"all_reduce bandwidth", "all_reduce latency"} <= by_name.keys():
        return ()
    return (
        Link(
            name="all_reduce",
            bandwidth_bytes_per_s=by_name["all_reduce bandwidth"].value,
            latency_s=by_name["all_reduce latency"].value,
            topology="as a ring",
        ),
    )


def _memories(
    levels: Sequence[Level], measured: MachineMeasurements, clock_hz: float
) -> tuple[tuple[Memory, ...], list[tuple[str, str]]]:
    """The levels with their latencies, and where each latency comes from."""
    memories, sources = [], []
    nearer_bytes, least_s = 0.0, 0.0
    for level in levels:
        reach_bytes = level.capacity_bytes / (measured.cores if level.per_core else 1)
        is_main = level is levels[-1]
        found = _chased(measured, 2 * nearer_bytes, float("inf") if is_main else 0.8 * reach_bytes)
        latency_s, source = found or _assumed_latency(level.name, measured.device_type, clock_hz)
        latency_s = max(latency_s, least_s)
        memories.append(
            Memory(
                name=level.name,
                capacity_bytes=level.capacity_bytes,
                bandwidth_bytes_per_s=level.bandwidth.value,
                latency_s=latency_s,
                per_core=level.per_core,
            )
        )
        sources.append((f"memory.{level.name}.latency_s", source))
        nearer_bytes, least_s = reach_bytes, latency_s
    return tuple(memories), sources


def _chased(measured: MachineMeasurements, least_bytes: float, most_bytes: float) -> tuple[float, str] | None:
    """Latency of the largest chased set in a range beyond that of the smallest set; None where none shows it."""
    inside = [(size, found) for size, found in measured.latency[1:] if least_bytes <= size <= most_bytes]
    if not inside:
        return None
    size, found = inside[-1]
    latency_s = found.value - measured.latency[0][1].value
    if latency_s < _LEAST_LATENCY_S:
        return None
    when = _when(measured, found)
    return latency_s, f"{when}, beyond a loop in the nearest cache, address translation included: {size / 2**20:g} MiB"


def _assumed_latency(name: str, device_type: str, clock_hz: float) -> tuple[float, str]:
    if device_type == "cuda":
        return _CUDA_LATENCY_S.get(name, _CUDA_LATENCY_S["dram"]), _CUDA_SOURCE
    if name in _CPU_CYCLES:
        return _CPU_CYCLES[name] / clock_hz, _CPU_CYCLES_SOURCE.format(cycles=_CPU_CYCLES[name])
    return _CPU_LATENCY_S.get(name, _CPU_LATENCY_S["dram"]), _CPU_SOURCE


def _sources(
    measured: MachineMeasurements, peaks: dict[str, Measurement], levels: Sequence[Level]
) -> list[tuple[str, str]]:
    clock = "as the system tells" if measured.clock_hz else "unknown: 1 GHz is nominal, rates per clock mean nothing"
    launch = measured.launch or measured.dispatch
    sources = [
        ("clock_hz", f"{clock}; {measured.device_name}"),
        ("cores", f"used by the measurement; {measured.device_name}"),
        ("launch_s", _when(measured, launch) + ("" if measured.launch else "; the host is the device")),
        ("vector.special_flops_per_clock_per_core", _when(measured, _fastest_function(measured))),
        *((f"throughput.{_throughput_name(found)}", _when(measured, found)) for found in measured.kernels),
        *((f"link.{link.name}", "measured all-reduce, see throughput") for link in _links(measured)),
    ]
    if measured.launch is not None:
        sources.append(("host_dispatch_s", _when(measured, measured.dispatch)))
    for dtype, peak in peaks.items():
        if dtype in _VECTOR_DTYPES[measured.device_type]:
            key, remark = f"vector.flops_per_clock_per_core.{dtype}", "; such products run on the vector units"
        else:
            key, remark = f"matrix.macs_per_clock_per_core.{dtype}", ""
        sources.append((key, _when(measured, peak) + remark))
    for level in levels:
        sources.append((f"memory.{level.name}.bandwidth_bytes_per_s", _when(measured, level.bandwidth)))
        sources.append(
            (f"memory.{level.name}.capacity_bytes", "as the system tells, held against the bandwidth ladder")
        )
    return sources


def _host_sources(measured: MachineMeasurements, constants: Sequence[HostConstant]) -> list[tuple[str, str]]:
    """Where the constants of eager programs come from, each with its own measurements."""
    sources = []
    for each in constants:
        told = "; ".join(_when(measured, found) for found in each.of)
        sources.append((f"calibration.{SCOPE}.{each.name}", f"{each.how}: {told}" if each.how else told))
    return sources


def _when(measured: MachineMeasurements, found: Measurement) -> str:
    date = measured.provenance.created_utc[:10]
    windows = f", fastest of {_windows(found)}" if found.windows else ""
    return (
        f"measured on {measured.device_name} {date}: {found.name} ({found.conditions}), "
        f"median of {found.runs}, spread {100 * found.spread:.1f} %{windows}"
    )


def _doubts(used: Sequence[Measurement]) -> list[str]:
    spread = [
        f"{found.name}: spread {100 * found.spread:.0f} % over {found.runs} runs is above "
        f"{100 * DOUBTFUL_SPREAD:.0f} %: measure again on a quiet machine"
        for found in used
        if found.is_doubtful
    ]
    unsettled = [f"{found.name} ({_windows(found)})" for found in used if found.is_settled is False]
    if unsettled:
        spread.append(
            f"not settled, as two halves of the windows do not agree within {100 * SETTLED_WITHIN:.0f} %: "
            + "; ".join(dict.fromkeys(unsettled))
        )
    return spread


def _windows(found: Measurement) -> str:
    """How many windows there were, and whether their halves agree."""
    if found.halves_differ is None:
        return f"{found.windows} of one half, not settled"
    settled = "" if found.is_settled else ", not settled"
    return f"{found.windows} windows, halves differ by {100 * found.halves_differ:.1f} %{settled}"
