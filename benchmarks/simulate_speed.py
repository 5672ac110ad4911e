"""Measures the simulator's own speed, everything in one run; prints rates and ratios, asserts nothing.

Processor seconds of the best of several runs: other programs on the machine can only slow a run down.

python benchmarks/simulate_speed.py [--json]
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from profiler.capture import capture
from roofline.chip import Chip
from roofline.chipfile import load_chip
from simulator import analytic, event
from simulator.chip_columns import ChipColumns
from simulator.kernels import gemm
from simulator.kernels.gemm_search import CANDIDATES
from simulator.kernels.gemm_tiles import cost_s, far_bytes, main_bytes, tiling
from simulator.op_columns import IntArray, OpColumns
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns
from workloads.programs import resolve_program

ROWS = 20_000
CHIPS = 16
REPEATS = 5


def main() -> None:
    rows = [*pairs(), *engines()]
    if "--json" in sys.argv:
        print(json.dumps([{"what": what, "value": value, "unit": unit} for what, value, unit in rows], indent=2))
        return
    for what, value, unit in rows:
        print(f"{what:<70} {value:>10.3f} {unit}")


def cpu_s(run: Callable[[], object]) -> float:
    """Processor seconds of the best of several runs, one thread."""
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def products(count: int, types: int = 1) -> OpColumns:
    """Matrix products of random sizes, all distinct, of one type or several by turns."""
    draw = np.random.default_rng(0)
    dtype = np.resize(["bfloat16", "float8_e4m3fn", "int8"][:types], count)
    sizes = {name: np.exp2(draw.uniform(low, 14, count)).astype(int) for name, low in (("m", 0), ("n", 7), ("k", 7))}
    return ops_from_frame(pd.DataFrame({"kind": "gemm", "dtype": dtype, **sizes}))


def pairs() -> Iterator[tuple[str, float, str]]:
    """Kernel-chip pairs a minute: many products on one chip, fewer on variants of it, and attention."""
    chip = load_chip("h100-sxm")
    variants = [replace(chip, name=f"variant-{i}", cores=100 + 4 * i) for i in range(CHIPS)]
    sequences = np.exp2(np.random.default_rng(1).uniform(4, 14, ROWS)).astype(int)
    frame = pd.DataFrame({"kind": "attention", "dtype": "bfloat16", "queries": sequences, "keys": sequences})
    attention = ops_from_frame(frame.assign(batch=1, heads=32, head_dim=128, causal=1))
    rates = []
    for what, ops, chips in (
        (f"matrix products, {ROWS:,} on one chip", products(ROWS), [chip]),
        (f"matrix products, {ROWS // CHIPS:,} on {CHIPS} chips", products(ROWS // CHIPS), variants),
        (f"matrix products of three types, {ROWS:,} on one chip", products(ROWS, types=3), [chip]),
        (f"attention, {ROWS:,} on one chip", attention, [chip]),
    ):
        seconds = cpu_s(lambda ops=ops, chips=chips: plan_columns(ops, chips))  # type: ignore[misc]
        rates.append(60e-6 * len(ops) * len(chips) / seconds)
        yield f"{what}: kernel-chip pairs a minute and core", rates[-1], "million"
    few = products(ROWS // 10)
    costed = 60e-6 * len(few) / cpu_s(lambda: every_candidate(few, chip))
    yield f"matrix products, {len(few):,} on one chip, every candidate costed: pairs", costed, "million"
    yield "the search over costing every candidate, which chooses the same", rates[0] / costed, "x"


def every_candidate(ops: OpColumns, chip: Chip) -> IntArray:
    """The fastest candidate of each product, by costing all of them whole: what the search is held against."""
    chips = ChipColumns.from_chips([chip])
    constants = gemm.GemmConstants.from_chips(chips, "bfloat16")
    best = []
    for start in range(0, len(ops), 100):  # so that the arrays of all candidates stay in cache
        some = gemm.products_of(ops.take(np.arange(start, min(start + 100, len(ops)))), chips, constants)
        tile = CANDIDATES.T[..., None, None]
        cost = cost_s(some, tiling(some, *tile), main_bytes(some, far_bytes(some, *tile)))
        best.append(cost.argmin(axis=0))
    return np.concatenate(best)


def engines() -> Iterator[tuple[str, float, str]]:
    """Both engines on one forward and on a whole generation at full size."""
    chip = load_chip("h100-sxm")
    for label, name, options in (
        ("LLaDA-8B, one forward of 1,024 positions", "llada-8b@forward", {"seq_len": 1024}),
        ("LLaDA-8B, 256 steps", "llada-8b", {"prompt_length": 128, "gen_length": 256, "steps": 256}),
    ):
        program = resolve_program(name, device="meta", **options)
        with capture(vocab_size=program.vocab) as recording:
            program.run()
        trace = recording.trace
        yield f"{label}, {len(trace.calls):,} calls: analytic", cpu_s(lambda: analytic.simulate(trace, chip)), "s"  # noqa: B023
        yield f"{label}, {len(trace.calls):,} calls: event", cpu_s(lambda: event.simulate(trace, chip)), "s"  # noqa: B023


if __name__ == "__main__":
    main()
