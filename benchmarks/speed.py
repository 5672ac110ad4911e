"""Measures Roofscape's own speed on this machine, everything in one run; prints ratios and seconds, asserts nothing.

python benchmarks/speed.py [--json]
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from profiler.capture import capture
from profiler.fusion import fuse
from roofline.analysis import analyze
from roofline.chipfile import load_chip
from simulator import analytic, event
from workloads.presets import load_preset
from workloads.programs import resolve_program
from workloads.transformer import Transformer

ROUNDS = 51  # fewer do not decide: a bare run differs from the next one by up to 4 % on a busy machine
WARM_UP_ROUNDS = 2


def main() -> None:
    rows = [*capture_overhead(), *full_size(), *command_line()]
    if "--json" in sys.argv:
        print(json.dumps([{"what": what, "value": value, "unit": unit} for what, value, unit in rows], indent=2))
        return
    for what, value, unit in rows:
        print(f"{what:<78} {value:>10.3f} {unit}")


def capture_overhead() -> Iterator[tuple[str, float, str]]:
    """What watching costs: the same program bare and watched in turn, medians over all rounds."""
    forward = resolve_program("diffusion-100m@forward", seq_len=256)
    for name, run in (("forward of 256 positions", forward.run), ("decode step at context 256", decode_step())):
        seconds = interleaved(run, WAYS)
        bare = seconds["bare"]
        yield f"100M parameters, {name}: bare", 1e3 * statistics.median(bare), "ms"
        for way in WAYS:
            ratio = statistics.median(watched / alone for watched, alone in zip(seconds[way], bare, strict=True))
            yield f"100M parameters, {name}: {way} / bare", ratio, "x"


def decode_step() -> Callable[[], object]:
    model = Transformer(load_preset("ar-100m"))
    cache = model.new_cache(1, 320)
    tokens = torch.zeros(1, 256, dtype=torch.long)
    with torch.inference_mode():
        model(tokens, cache=cache, last_only=True)

    @torch.inference_mode()
    def run() -> object:
        return model(tokens[:, :1], cache=cache, position=256, last_only=True)

    return run


def interleaved(
    run: Callable[[], object], ways: dict[str, Callable[[Callable[[], object]], object]]
) -> dict[str, list[float]]:
    """Seconds of each way of running, a round at a time, so that a slow spell hits all of them.

    Each round starts with another way: none of them always follows the same one.
    """
    runs = {"bare": run, **{name: partial(way, run) for name, way in ways.items()}}
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(WARM_UP_ROUNDS + ROUNDS):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: times[WARM_UP_ROUNDS:] for name, times in seconds.items()}


def captured(run: Callable[[], object]) -> object:
    with capture() as recording:
        run()
    return recording.trace


def counted(run: Callable[[], object]) -> object:
    with FlopCounterMode(display=False):
        return run()


def profiled(run: Callable[[], object]) -> object:
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True):
        return run()


def captured_without_times(run: Callable[[], object]) -> object:
    with capture(timing=False) as recording:
        run()
    return recording.trace


def bare_again(run: Callable[[], object]) -> object:
    return run()


WAYS = {
    "bare again (the noise of this measurement)": bare_again,
    "capture": captured,
    "capture that only counts": captured_without_times,
    "flop counter": counted,
    "torch.profiler": profiled,
}


def full_size() -> Iterator[tuple[str, float, str]]:
    """LLaDA-8B, 256 steps: capture on meta, analysis, both engines."""
    chip = load_chip("h100-sxm")
    program = resolve_program("llada-8b", device="meta", prompt_length=128, gen_length=256, steps=256, block_length=32)
    with timed() as capture_s, capture(vocab_size=program.vocab) as recording:
        program.run()
    trace = recording.trace
    label = f"LLaDA-8B, 256 steps, {len(trace.calls):,} calls"
    yield f"{label}: capture on meta", capture_s(), "s"
    yield f"{label}: peak memory so far", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, "GB"
    with timed() as fuse_s:
        fuse(trace)
    yield f"{label}: fused view", fuse_s(), "s"
    with timed() as analyze_s:
        analyze(trace, chip, by="step")
    yield f"{label}: roofline by step", analyze_s(), "s"
    with timed() as analytic_s:
        closed = analytic.simulate(trace, chip)
    yield f"{label}: analytic simulation", analytic_s(), "s"
    with timed() as event_s:
        played = event.simulate(trace, chip)
    yield f"{label}: event simulation", event_s(), "s"
    yield f"{label}: event / analytic simulated time", played.makespan_s / closed.makespan_s, "x"


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """Seconds that the block took, asked for afterwards."""
    start = time.perf_counter()
    end: list[float] = []
    yield lambda: end[0] - start
    end.append(time.perf_counter())


def command_line() -> Iterator[tuple[str, float, str]]:
    """How soon the command line answers, and whether it loads torch."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "reports.cli", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    yield "roofscape --help", statistics.median(seconds), "s"
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, reports.cli; print(int('torch' in sys.modules))"],
        check=True,
        capture_output=True,
        text=True,
    )
    yield "roofscape --help loads torch", float(loaded.stdout), "(0: no)"


if __name__ == "__main__":
    main()
