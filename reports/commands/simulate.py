"""`roofscape simulate`: what a trace costs on a chip."""

from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import (
    AsJson,
    Engine,
    EngineOption,
    Mode,
    ModeOption,
    SeveralChips,
    TraceFile,
    View,
    ViewOption,
    chip_for,
    read_trace,
    unique_chips,
)

if TYPE_CHECKING:
    from profiler.traces import Trace
    from roofline.chip import Chip
    from simulator.policy import Policy
    from simulator.result import SimulationResult


def simulate(
    trace_file: TraceFile,
    chip: SeveralChips = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            help="What if: hbm.bandwidth_bytes_per_s*2, or cores=264,matrix*0.5 together; may be repeated, each beside "
            "the chip as it is."
        ),
    ] = None,
    engine: EngineOption = Engine.analytic,
    mode: ModeOption = Mode.graph,
    view: ViewOption = View.eager,
    prefetch: Annotated[
        bool, typer.Option("--prefetch", help="Load the next kernel's weights while one runs, where there is room.")
    ] = False,
    persistent: Annotated[
        bool, typer.Option("--persistent", help="Kernels of a step as one: barriers instead of launches.")
    ] = False,
    streams: Annotated[int, typer.Option(min=1, help="Streams that independent branches are spread over.")] = 1,
    microbatches: Annotated[
        int, typer.Option(min=1, help="Independent batches of this program at once, a kernel behind one another.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Simulate a trace on a chip: time, energy, what each unit did; predicted, not measured.

    Prefetching, persistent kernels, streams and microbatches are played by the event engine (--engine event).

    Several chips, or changes of one, stand side by side:

      roofscape simulate llada.parquet --chip h100-sxm --chip my-chip.toml

      roofscape simulate llada.parquet --chip my-chip.toml --change sram.bandwidth_bytes_per_s*2 --change cores*2
    """
    from reports.chip_variants import chip_variants
    from reports.console import print_json, print_line, progress, remark
    from reports.memory_fit import trace_does_not_fit
    from reports.simulation_table import print_side_by_side
    from reports.trace_summary import unknown_share
    from simulator.policy import Policy

    trace = read_trace(trace_file, view)
    variants = chip_variants(unique_chips(chip or [chip_for((trace,), None)]), change or ())
    whole = trace if view is View.eager else read_trace(trace_file)
    misfits = [trace_does_not_fit(whole, each.chip) for each in variants]
    for misfit in dict.fromkeys(filter(None, misfits)):
        remark(f"note: {misfit}")
    policy = Policy(prefetch=prefetch, persistent=persistent, streams=streams, microbatches=microbatches)
    with progress(f"simulating {trace.name} on {', '.join(each.label for each in variants)}"):
        results = [play(trace, each.chip, engine, mode, policy) for each in variants]
    if as_json:
        told = [
            {**result.to_json(), "does_not_fit": misfit, "parts": result.summary().to_dict("records")}
            for result, misfit in zip(results, misfits, strict=True)
        ]
        changes = [{"change": each.change, **one} for each, one in zip(variants, told, strict=True)]
        print_json(told[0] if len(told) == 1 else {"results": changes})
    elif len(results) == 1:
        _print(results[0])
    else:
        print_side_by_side([each.label for each in variants], results)
    if not as_json and trace.unknown_ops:
        print_line(
            f"unknown FLOPs or bytes: {unknown_share(trace)}; of these a prediction holds what is known, no more"
        )


def play(
    trace: "Trace", chip: "str | Chip", engine: Engine, mode: Mode, policy: "Policy | None" = None
) -> "SimulationResult":
    """Simulate a trace on a chip, or one given by name or file, with one of the engines."""
    from roofline.chipfile import load_chip
    from simulator import analytic
    from simulator.errors import SimulationError
    from simulator.policy import PLAIN

    loaded_chip = load_chip(chip) if isinstance(chip, str) else chip
    if engine is Engine.event:
        from simulator import event

        return event.simulate(trace, loaded_chip, mode=mode.value, policy=policy or PLAIN)
    if (policy or PLAIN) != PLAIN:
        raise SimulationError(
            "--prefetch, --persistent, --streams and --microbatches need the event engine: add --engine event"
        )
    return analytic.simulate(trace, loaded_chip, mode=mode.value)


def _print(result: "SimulationResult") -> None:
    from reports import formatting
    from reports.console import print_line, print_table, remark

    rows = [
        (
            f"{formatting.shorten(row.phase, 80) or '(none)'} / {row.kind}",
            formatting.format_count(row.calls),
            formatting.format_seconds(row.duration_s),
            formatting.format_seconds(row.bound_s),
            formatting.format_ratio(row.efficiency),
            formatting.format_joules(row.dynamic_energy_j),
        )
        for _, row in result.summary().iterrows()
    ]
    columns = ("phase / kind", "calls", "simulated", "roofline bound", "bound / simulated", "dynamic energy")
    print_table(
        f"{result.trace} on {result.chip}: predicted, {result.engine} engine, {result.mode} mode", columns, rows
    )
    band = (
        formatting.low_to_high(result.low_s, result.high_s, formatting.format_seconds)
        if result.low_s is not None
        else result.band_reason
    )
    print_line(
        f"time {formatting.format_seconds(result.makespan_s)} ({band}); "
        f"roofline bound {formatting.format_seconds(result.bound_s)}"
    )
    energy = (
        formatting.format_joules(result.energy_j) if result.energy_j is not None else f"unknown: {result.energy_reason}"
    )
    if result.energy_low_j is not None:
        energy += f" ({formatting.low_to_high(result.energy_low_j, result.energy_high_j, formatting.format_joules)})"
    print_line(f"energy {energy}; average power {formatting.format_watts(result.average_power_w)}")
    busy = ", ".join(f"{name} {formatting.format_ratio(share)}" for name, share in result.utilization if share)
    print_line(f"utilization at peak rates: {busy or 'none'}")
    for note in result.notes:
        remark(f"note: {note}")
