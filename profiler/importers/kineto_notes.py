"""What a reader of an imported trace must know: device, versions, and what could and could not be explained."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from profiler.importers.assembly import LaunchedCall
from profiler.importers.kineto_arguments import has_shapes
from profiler.importers.kineto_file import KinetoFile, as_integer
from profiler.importers.kineto_links import is_graph_launch
from profiler.importers.summary import union_ps
from profiler.provenance import TRACKED_PACKAGES

_SECONDS_PER_PICOSECOND = 1e-12
_PACKAGES = (*TRACKED_PACKAGES, "triton", "vllm", "sglang")


def recorded_device(file: KinetoFile) -> str:
    """Name of the device that ran the kernels, empty where the file does not say or names several.

    Its memory stands behind the name where that does not hold it, since it tells boards of one name apart.
    """
    properties = file.header.get("deviceProperties")
    found: dict[int | None, str] = {}
    for entry in properties if isinstance(properties, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            memory_gib = (as_integer(entry.get("totalGlobalMem")) or 0) / 2**30
            is_told = memory_gib < 1 or "GB" in entry["name"]
            found[as_integer(entry.get("id"))] = entry["name"] + ("" if is_told else f" ({memory_gib:.0f} GiB)")
    used = {found[kernel.device] for kernel in file.kernels if kernel.device in found}
    names = used or set(found.values())
    return names.pop() if len(names) == 1 else ""


def recorded_versions(header: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """(name, version) of the driver, runtime and packages that a file names."""
    versions = []
    for key in ("cuda_runtime_version", "cuda_driver_version", "hip_runtime_version", "hip_driver_version"):
        number = as_integer(header.get(key))
        if number is not None and number >= 0:
            versions.append((key.removesuffix("_version"), _dotted(key, number)))
    for key in ("pytorch_version", "torch_version"):
        if isinstance(header.get(key), str):
            versions.append(("torch", header[key]))
    metadata = header.get("metadata")
    system = metadata.get("system") if isinstance(metadata, dict) else None
    installed = system.get("pip_packages") if isinstance(system, dict) else None
    for entry in installed if isinstance(installed, list) else []:
        package, _, version = str(entry).partition("==")
        if package in _PACKAGES and version:
            versions.append((package, version))
    return tuple(versions)


def _dotted(key: str, number: int) -> str:
    """CUDA writes 12.4 as 12040, HIP writes 7.2 (patch 53211) as 70253211."""
    if key.startswith("cuda"):
        return f"{number // 1000}.{number % 1000 // 10}"
    return f"{number // 10_000_000}.{number // 100_000 % 100}.{number % 100_000}"


def describe_import(file: KinetoFile, calls: Sequence[LaunchedCall]) -> tuple[str, ...]:
    """One sentence each: what was kept, how it was explained, what is unknown, what was skipped."""
    notes = _describe_times(file)
    notes += _describe_distribution(file)
    notes += _describe_attribution(file, calls)
    replayed = _replayed(file)
    if replayed:
        notes.append(f"{replayed} kernels were replayed from a captured graph, which records no ops.")
    if file.ops and not any(has_shapes(op.args) for op in file.ops):
        remedy = "" if "nsys_version" in file.header else "; torch.profiler.profile(record_shapes=True) records them"
        notes.append(f"No input shapes were recorded, so FLOPs and bytes of the ops are unknown{remedy}.")
    if len({kernel.device for kernel in file.kernels}) > 1:
        notes.append("Several devices are in this file; stream numbers are 100000 x device + stream.")
    if any(operand.role == "weights" for call in calls for operand in call.op.inputs):
        notes.append("Which tensors are weights is guessed from strides and use; a trace names no parameters.")
    notes += [f"Skipped {count} event{'s' if count > 1 else ''}: {reason}." for reason, count in file.skipped]
    return tuple(notes)


def _describe_times(file: KinetoFile) -> list[str]:
    notes = []
    spans = [(k.start_ps, k.start_ps + (k.duration_ps or 0)) for k in file.kernels if not k.is_range]
    if spans:
        span_ps = max(end for _, end in spans) - min(start for start, _ in spans)
        notes.append(
            f"{len(spans)} device events took {_ms(sum(end - start for start, end in spans))} in sum and kept the "
            f"device busy for {_ms(union_ps(spans))} of the {_ms(span_ps)} from the first start to the last end."
        )
    ranges = sum(kernel.is_range for kernel in file.kernels)
    if ranges:
        notes.append(
            f"{ranges} kernels were replayed to read hardware counters (CUPTI ranges). Their counters are kept; their "
            "times are not, for the profiler only spreads the ranges evenly over its window."
        )
    return notes


def _describe_distribution(file: KinetoFile) -> list[str]:
    info = file.header.get("distributedInfo")
    info = info if isinstance(info, dict) else {}
    rank, ranks = as_integer(info.get("rank")), as_integer(info.get("world_size"))
    if rank is None or ranks is None or ranks < 2:
        return []
    backend, version = info.get("backend"), info.get("nccl_version")
    words = " ".join(str(word)[:40] for word in (backend, version) if isinstance(word, str))
    return [f"This is rank {rank} of {ranks}{f' ({words})' if words else ''}; the other ranks' time is not in it."]


def _describe_attribution(file: KinetoFile, calls: Sequence[LaunchedCall]) -> list[str]:
    counts: dict[str, int] = defaultdict(int)
    busy_ps: dict[str, int] = defaultdict(int)
    for call in calls:
        counts[call.attribution] += len(call.kernels)
        busy_ps[call.attribution] += sum(file.kernels[index].duration_ps or 0 for index in call.kernels)
    notes = []
    if counts["repeat"]:
        notes.append(
            f"{counts['repeat']} device events ({_ms(busy_ps['repeat'])}) were launched outside the recorded window; "
            "their ops are inferred from an equal run of kernels inside it."
        )
    if counts["unexplained"]:
        notes.append(
            f"{counts['unexplained']} device events ({_ms(busy_ps['unexplained'])}) cannot be attached to any op; they "
            "are kept as calls of their own."
        )
    return notes


def _replayed(file: KinetoFile) -> int:
    graphs = {launch.correlation for launch in file.launches if is_graph_launch(launch)} - {None}
    return sum(kernel.correlation in graphs for kernel in file.kernels)


def _ms(picoseconds: int) -> str:
    return f"{picoseconds * _SECONDS_PER_PICOSECOND * 1e3:.3f} ms"
