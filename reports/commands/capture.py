"""`roofscape capture`: run a program and record what it did."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reports.commands.options import AsJson, ChipName, default_output

if TYPE_CHECKING:
    from profiler.capture.windows import TimingWindow
    from profiler.traces import Trace

_HELP = "Generation"


def capture(
    program: Annotated[
        str,
        typer.Argument(
            help="MODEL (its usual sampler), MODEL@forward, MODEL@SAMPLER or MODEL@file.py, gguf:model.gguf, "
            "antiberty, hf:config.json, py:script.py or py:script.py:function."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to save the trace (default: out/PROGRAM.parquet).")
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, or meta: shapes only, for models that fit nowhere; nothing is timed.")
    ] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16, ... (default: float32 on cpu, else bfloat16).")
    ] = None,
    batch: Annotated[int, typer.Option(help="Sequences at a time.")] = 1,
    seq_len: Annotated[int | None, typer.Option(help="Tokens of a single forward.")] = None,
    prompt_length: Annotated[int | None, typer.Option(help="Tokens of each prompt.", rich_help_panel=_HELP)] = None,
    gen_length: Annotated[int | None, typer.Option(help="Tokens to generate.", rich_help_panel=_HELP)] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.", rich_help_panel=_HELP)] = None,
    block_length: Annotated[int | None, typer.Option(help="Tokens per block.", rich_help_panel=_HELP)] = None,
    sampler: Annotated[str | None, typer.Option(help="A sampler's name or file.", rich_help_panel=_HELP)] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Any further knob of the sampler.", rich_help_panel=_HELP),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, prompt and sampling.")] = 0,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="A local checkpoint: folder in Hugging Face layout (safetensors) or .gguf [default: random weights]."
        ),
    ] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Width of the logits, where it is not found.")] = None,
    energy: Annotated[
        bool, typer.Option("--energy", help="Measure energy (NVML, RAPL), after a second of idle power.")
    ] = False,
    counters: Annotated[
        bool,
        typer.Option(
            "--counters",
            help="Measure bytes: on cpu at main memory (perf, machine-wide), on cuda of each kernel at main memory, L2 "
            "and L1, in a second run under Nsight Compute (ncu).",
        ),
    ] = False,
    kernels: Annotated[
        bool,
        typer.Option("--kernels", help="Attach the device's kernels to their calls (torch.profiler; only on cuda)."),
    ] = False,
    chip: ChipName = "h100-sxm",
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Take the times of calls, or only count.")
    ] = True,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Write calls to OUTPUT.parts while it runs: memory stays flat, a kill loses seconds."
        ),
    ] = False,
    warmup: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Untimed runs first [default: 2 with --repeats; else 1, and 0 for a script].",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=0, help="Time the bare program this often before it is captured once.")
    ] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Fail at the first op without a cost rule.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a program and record every operation: FLOPs, bytes by role, phases, modules, and times where it really ran.

    Nothing is downloaded. Examples:

      roofscape capture llada-8b --device meta --prompt-length 128 --gen-length 256 --steps 256

      roofscape capture ar-100m --gen-length 32

      roofscape capture hf:config.json --device meta --seq-len 1024

      roofscape capture py:my_model.py:generate
    """
    from contextlib import nullcontext

    from profiler.capture import capture as record
    from profiler.capture.uncore import measure_dram, with_dram
    from profiler.capture.windows import measure, window_json, with_window
    from profiler.launch_join import join_launches
    from profiler.storage import save_trace
    from reports.console import print_json, progress, remark
    from reports.counted_capture import count_on_gpu, counters_json, print_counters
    from reports.measured_energy import print_energy
    from reports.memory_fit import weights_do_not_fit
    from roofline.chipfile import load_chip
    from workloads.errors import WorkloadError
    from workloads.programs import resolve_program

    counts_kernels = counters and device.partition(":")[0] == "cuda"
    refused = _refusal(device, counters=counters, repeats=repeats, kernels=kernels, timing=timing, stream=stream)
    if refused:
        raise WorkloadError(refused)
    request: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "batch": batch,
        "seq_len": seq_len,
        "prompt_length": prompt_length,
        "gen_length": gen_length,
        "steps": steps,
        "block_length": block_length,
        "sampler": sampler,
        "seed": seed,
        "sampler_options": _sampler_options(option or []),
        "weights": weights,
    }
    warmup = _warmup_count(program, device, repeats) if warmup is None else warmup
    target = load_chip(chip)  # a name that there is not is told before anything runs
    counted = count_on_gpu(program, request, warmup, strict=strict) if counts_kernels else None
    with progress(f"building {program}"):
        ready = resolve_program(program, **request)
    misfit = weights_do_not_fit(ready.name, ready.parameters_count, ready.dtype, target)
    for note in (*ready.notes, *([misfit] if misfit else [])):
        remark(f"note: {note}")
    with progress(f"timing {ready.description}" if repeats else "warming up"):
        window = measure(ready.run, warmup=warmup, repeats=repeats) if repeats else None
        for _ in range(0 if repeats else warmup):
            ready.run()
    path = output or default_output(ready.name)
    with (
        progress(f"running {ready.description}"),
        record(
            name=ready.name,
            strict=strict,
            vocab_size=vocab_size or ready.vocab,
            seed=seed,
            timing=timing,
            energy=energy,
            stream_to=path if stream else None,
            kernels=kernels or counts_kernels,
        ) as recording,
        measure_dram() if counters and not counts_kernels else nullcontext() as dram,
    ):
        ready.run()
    trace = recording.trace if dram is None else with_dram(recording.trace, dram)
    trace, match = (trace, None) if counted is None else join_launches(trace, counted)
    trace = trace if window is None else with_window(trace, window)
    if trace is not recording.trace or not stream:  # else it is saved already
        save_trace(trace, path)
    if as_json:
        measured = {"window": window and window_json(window), **counters_json(trace, match)}
        print_json({**trace_json(trace, path), **measured})
        return
    show(trace, path)
    if match is not None:
        print_counters(trace, match)
    if window is not None:
        _print_window(window)
    print_energy(trace)
    if dram is not None:
        remark(f"note: {dram.note()}")
    remark(f"next: roofscape roofline {path} --chip {chip}")


def _warmup_count(program: str, device: str, repeats: int) -> int:
    """Untimed runs where nobody says; a script may do things that must be done once only."""
    from profiler.capture.windows import DEFAULT_WARMUP_COUNT

    if repeats:
        return DEFAULT_WARMUP_COUNT
    return 0 if device == "meta" or program.startswith("py:") else 1


def _sampler_options(texts: list[str]) -> dict[str, object]:
    """Further options of the sampler by name."""
    from workloads.errors import WorkloadError

    options: dict[str, object] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise WorkloadError(f"--option must be KEY=VALUE, got {text!r}")
        options[key] = value
    return options


def _refusal(device: str, *, counters: bool, repeats: int, kernels: bool, timing: bool, stream: bool) -> str:
    """Why these options cannot go together, empty where they can."""
    if counters and device == "meta":
        return "--counters: nothing runs on meta, so there is nothing to count; allowed: --device cpu, cuda"
    if counters and device != "cpu" and (stream or not timing):
        return (
            f"--counters: joins what Nsight Compute counted to the kernels of a whole and timed recording, so with "
            f"--device {device} it cannot go with {'--stream' if stream else '--no-timing'}"
        )
    if repeats and device == "meta":
        return "--repeats: nothing runs on meta, so there is nothing to time; allowed: --device cpu, cuda"
    if kernels and device != "cuda":
        return f"--kernels: attaches the kernels of a GPU, got --device {device}; allowed: --device cuda"
    if kernels and not timing:
        return "--kernels: finds the call of each kernel by time, so it cannot go with --no-timing"
    return ""


def _print_window(window: "TimingWindow") -> None:
    from profiler.capture.windows import window_note
    from reports.console import print_line, remark

    print_line(window_note(window))
    for warning in window.warnings:
        remark(f"warning: {warning}")


def show(trace: "Trace", path: Path) -> None:
    """Print the summary of a saved trace."""
    from profiler.summary import summarize, totals_by
    from reports import formatting
    from reports.console import name_counts, print_line, print_table

    summary = summarize(trace)
    by_kind = totals_by(trace, "kind")
    by_phase = totals_by(trace, "phase")
    rows = [
        (
            str(kind),
            formatting.format_count(row.calls),
            formatting.format_flops(row.flops),
            formatting.format_bytes(row.read_bytes),
            formatting.format_bytes(row.write_bytes),
            formatting.format_seconds(row.duration_s) if trace.is_measured else "-",
        )
        for kind, row in by_kind.iterrows()
    ]
    print_table(f"{trace.name} on {summary.device}", ("kind", "calls", "FLOPs", "read", "written", "measured"), rows)
    print_table(
        "by phase",
        ("phase", "calls", "FLOPs", "bytes", "intensity", "measured"),
        [
            (
                str(phase) or "(none)",
                formatting.format_count(row.calls),
                formatting.format_flops(row.flops),
                formatting.format_bytes(row.read_bytes + row.write_bytes),
                formatting.format_intensity(_intensity(row)),
                formatting.format_seconds(row.duration_s) if trace.is_measured else "-",
            )
            for phase, row in by_phase.iterrows()
        ],
    )
    shares = ", ".join(
        f"{role} {formatting.format_ratio(moved / summary.moved_bytes)}" for role, moved in summary.role_bytes if moved
    )
    print_line(f"bytes by role: {shares or 'none'}")
    if summary.unknown_ops:
        print_line(f"unknown FLOPs or bytes, not counted as zero: {name_counts(summary.unknown_ops)}")
    print_line(f"saved {formatting.format_count(summary.calls)} calls of {summary.distinct_ops} distinct ops to {path}")


def _intensity(row: Any) -> float | None:
    moved = float(row.read_bytes + row.write_bytes)
    return float(row.required_flops) / moved if moved > 0 else None


def trace_json(trace: "Trace", path: Path) -> dict[str, Any]:
    """Summary of a saved trace for scripts."""
    from dataclasses import asdict

    from profiler.summary import summarize, totals_by
    from reports.measured_energy import energy_json

    summary = summarize(trace)
    return {
        **asdict(summary),
        "role_bytes": dict(summary.role_bytes),
        "unknown_ops": dict(summary.unknown_ops),
        "by_kind": totals_by(trace, "kind").reset_index().to_dict("records"),
        "by_phase": totals_by(trace, "phase").reset_index().to_dict("records"),
        "energy": energy_json(trace),
        "notes": list(trace.provenance.notes),
        "trace": str(path),
    }
