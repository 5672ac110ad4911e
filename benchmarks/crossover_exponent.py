"""Which exponent joins computing and loading in the closed form of `roofscape crossover` best (docs/explore.md).

    python benchmarks/crossover_exponent.py

Programs, batches and chips are those of the command. For each exponent p of (compute^p + memory^p)^(1/p): how far the
ratio of both times is from the simulated one, on average and at most, and in how many pairs of program and chip both
name the same as the faster.
"""

from pathlib import Path

import numpy as np

from explorer.crossover import Demand, Rates, achieved, demand, place
from reports.commands.crossover import AUTOREGRESSION, BATCHES, DIFFUSION
from reports.prepared import prepare_workload
from roofline.chipfile import list_chips, load_chip

FOLDER = Path("out/traces")


def main() -> None:
    chips = [load_chip(name) for name in list_chips()]
    exponents = (1.5, 2.0, 3.0, 4.0, np.inf)
    simulated: list[float] = []
    closed: list[list[float]] = []  # of each pair of programs on a chip, one for each exponent
    for batch in BATCHES:
        options = {"batch": batch, "prompt_length": 1024, "gen_length": 256}
        decoded, *others = (prepare_workload(name, options, FOLDER) for name in (AUTOREGRESSION, *DIFFUSION))
        demands = {each.name: demand(each) for each in (decoded, *others)}
        shapes = [shape for each in demands.values() for shape in each.shapes if shape is not None]
        rates = dict(zip((chip.name for chip in chips), achieved(chips, shapes), strict=True))
        for placed in place([(decoded, other) for other in others], chips):
            if np.isfinite(placed.simulated_ratio):
                slow, fast, chip = demands[placed.autoregression], demands[placed.diffusion], rates[placed.chip]
                simulated.append(placed.simulated_ratio)
                closed.append([token_s(slow, chip, p) / token_s(fast, chip, p) for p in exponents])
    wanted = np.array(simulated)
    for p, ratios in zip(exponents, np.array(closed).T, strict=True):
        errors = np.abs(ratios / wanted - 1.0)
        agree = int(((ratios > 1.0) == (wanted > 1.0)).sum())
        name = "the longer of both" if np.isinf(p) else f"exponent {p:g}"
        print(f"{name}: {errors.mean():.1%} on average, {errors.max():.0%} at most; {agree} of {len(wanted)} agree")


def token_s(each: Demand, chip: Rates, p: float) -> float:
    """The closed form of `explorer.crossover` with another exponent."""
    seconds = np.linalg.norm([each.flops / chip.flops_per_s, each.bytes / chip.bytes_per_s], ord=p, axis=0)
    for kernel, shape in enumerate(each.shapes):
        if shape is not None and shape in chip.attention_flops_per_s:
            seconds[kernel] = each.flops[kernel] / chip.attention_flops_per_s[shape]
    return float((seconds + chip.kernel_s) @ each.calls)


if __name__ == "__main__":
    main()
