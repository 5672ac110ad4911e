"""`roofscape memory`: what a program holds while it runs, and whether it fits."""

from typing import TYPE_CHECKING

from reports.commands.options import AsJson, ChipName, TraceFile, read_trace

if TYPE_CHECKING:
    from profiler.memory import MemoryUse


def memory(trace_file: TraceFile, chip: ChipName = "h100-sxm", as_json: AsJson = False) -> None:
    """Show peak and live bytes of a captured trace by role and phase, and say what does not fit on a chip.

    Worked out from which call makes, reads and last uses each storage: the least that the program needs. The
    allocator's rounding, workspaces inside kernels and the device's own context come on top.
    """
    from dataclasses import asdict

    from profiler.memory import memory_use
    from reports.console import print_json, print_line
    from reports.formatting import format_bytes, format_ratio
    from reports.memory_fit import use_does_not_fit
    from roofline.chipfile import load_chip

    loaded_chip = load_chip(chip)
    use = memory_use(read_trace(trace_file))
    misfit = use_does_not_fit(use, loaded_chip)
    if as_json:
        print_json(
            {
                "trace": use.trace,
                "peak_bytes": use.peak_bytes,
                "peak_call": use.peak_call,
                "peak_by_role": dict(use.peak_by_role),
                "storages": use.storages,
                "unknown_storages": use.unknown_storages,
                "chip": loaded_chip.name,
                "main_memory": asdict(loaded_chip.main_memory),
                "fits": not misfit,
                "why_not": misfit,
                "by_phase": use.by_phase().to_dict("records"),
                "over_time": use.over_time().to_dict("records"),
            }
        )
        return
    _print(use)
    if use.unknown_storages:
        print_line(f"left out: {use.unknown_storages} storages whose size is unknown")
    capacity_bytes = loaded_chip.main_memory.capacity_bytes
    share = format_ratio(use.peak_bytes / capacity_bytes)
    print_line(misfit or f"fits {loaded_chip.name}: {share} of its {format_bytes(capacity_bytes)}")


def _print(use: "MemoryUse") -> None:
    from reports.console import print_line, print_table
    from reports.formatting import format_bytes, format_count
    from workloads.roles import ROLES

    rows = [
        (
            str(row["phase"]) or "(none)",
            format_count(row["calls"]),
            format_bytes(row["peak_bytes"]),
            *(format_bytes(row[f"{role}_bytes"]) for role in ROLES),
        )
        for row in use.by_phase().to_dict("records")
    ]
    names = tuple(role.replace("_", " ") for role in ROLES)
    print_table(f"{use.trace}: most bytes held in each phase", ("phase", "calls", "peak", *names), rows)
    parts = ", ".join(f"{role.replace('_', ' ')} {format_bytes(count)}" for role, count in use.peak_by_role if count)
    phase = use.phases[use.phase[use.peak_call]] or "no phase"
    print_line(
        f"peak {format_bytes(use.peak_bytes)} at call {use.peak_call:,} of {use.live_bytes.shape[1]:,} "
        f"({phase}): {parts}"
    )
