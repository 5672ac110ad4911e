"""`roofscape capture`: run a program and record what it did."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reports.commands.options import AsJson, ChipName, writable

if TYPE_CHECKING:
    from profiler.capture.windows import TimingWindow

_HELP = "Generation"


def capture(
    program: Annotated[
        str,
        typer.Argument(
            help="MODEL (its usual sampler), MODEL@forward, MODEL@SAMPLER or MODEL@file.py; MODEL is a name, or a "
            "checkpoint's folder. gguf:model.gguf, antiberty, image:MODEL, hf:config.json, py:script.py or "
            "py:script.py:function."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", callback=writable, help="Where to save the trace (default: out/PROGRAM.parquet)."
        ),
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
    expert_skew: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Of a mixture of experts on meta: exponent of the power law by which tokens spread over experts "
            "(default: 0, evenly).",
            rich_help_panel=_HELP,
        ),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(
            min=1, help="Put LoRA adapters of this rank beside the projections of attention.", rich_help_panel=_HELP
        ),
    ] = None,
    lora_merged: Annotated[
        bool,
        typer.Option("--lora-merged", help="Add the adapters into the weights first.", rich_help_panel=_HELP),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, prompt and sampling.")] = 0,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="A local checkpoint: folder in Hugging Face layout (safetensors) or .gguf (default: random weights)."
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
    compiled: Annotated[
        bool,
        typer.Option(
            "--compiled",
            help="Let functions of torch.compile run compiled, each graph as one call of unknown FLOPs and bytes; else "
            "they run operation by operation.",
        ),
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
            help="Untimed runs first (default: 2 with --repeats; else 1, and 0 for a script).",
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
    from profiler.capture.windows import window_json
    from reports.console import print_json, print_line, remark
    from reports.counted_capture import counters_json, print_counters
    from reports.generation_figures import generation_json, generation_line
    from reports.measured_energy import print_energy
    from reports.program_capture import CaptureRequest, capture_program
    from reports.trace_summary import show, trace_json
    from roofline.chipfile import load_chip
    from workloads.lora import LoraOptions

    request = CaptureRequest(
        program=program,
        options={
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
            "expert_skew": expert_skew,
            "lora": None if lora_rank is None else LoraOptions(rank=lora_rank),
            "merge_lora": lora_merged,
        },
        output=output,
        warmup=warmup,
        repeats=repeats,
        energy=energy,
        counters=counters,
        kernels=kernels,
        compiled=compiled,
        timing=timing,
        stream=stream,
        strict=strict,
        vocab_size=vocab_size,
    )
    done = capture_program(request, load_chip(chip))  # a name that there is not is told before anything runs
    if as_json:
        measured = {"window": done.window and window_json(done.window), **counters_json(done.trace, done.match)}
        print_json({**trace_json(done.trace, done.path), "generation": generation_json(done.made), **measured})
        return
    show(done.trace, done.path)
    if not len(done.trace.calls):
        remark("warning: the program ran no operation of PyTorch in this process, so there is nothing to look at")
    if line := generation_line(done.made):
        print_line(line)
    if done.match is not None:
        print_counters(done.trace, done.match)
    if done.window is not None:
        _print_window(done.window)
    print_energy(done.trace)
    if done.dram is not None:
        remark(f"note: {done.dram.note()}")
    remark(f"next: roofscape roofline {done.path} --chip {chip}")


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


def _print_window(window: "TimingWindow") -> None:
    from profiler.capture.windows import window_note
    from reports.console import print_line, remark

    print_line(window_note(window))
    for warning in window.warnings:
        remark(f"warning: {warning}")
