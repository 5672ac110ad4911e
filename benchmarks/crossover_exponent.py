"""Which exponent joins computing and loading in the closed form of `roofscape crossover` best (docs/explore.md).

    python benchmarks/crossover_exponent.py

Programs, batches and chips are those of the command. For each exponent p of (compute^p + memory^p)^(1/p): how far the
ratio of both times is from the simulated one, on average and at most, and in how many pairs of program and chip both
name the same as the faster.
"""

from pathlib import Path

import numpy as np

from explorer.crossover import Demand, demand, place
from reports.commands.crossover import AUTOREGRESSION, BATCHES, DIFFUSION
from reports.prepared import prepare_workload
from roofline.chipfile import list_chips, load_chip

FOLDER = Path("out/traces")


def main() -> None:
    chips = [load_chip(name) for name in list_chips()]
    exponents = (1.5, 2.0, 3.0, 4.0, np.inf)
    pairs: list[tuple[float, list[float]]] = []  # simulated ratio, and the closed one for each exponent
    for batch in BATCHES:
        options = {"batch": batch, "prompt_length": 1024, "gen_length": 256}
        decoded, *others = (prepare_workload(name, options, FOLDER) for name in (AUTOREGRESSION, *DIFFUSION))
        demands = {each.name: demand(each) for each in (decoded, *others)}
        for placed in place([(decoded, other) for other in others], chips):
            if np.isfinite(placed.simulated_ratio):
                slow, fast = demands[placed.autoregression], demands[placed.diffusion]
                idle_bytes = placed.kernel_s * placed.bytes_per_s
                closed = [
                    moved(slow, placed.ridge, idle_bytes, p) / moved(fast, placed.ridge, idle_bytes, p)
                    for p in exponents
                ]
                pairs.append((placed.simulated_ratio, closed))
    simulated = np.array([ratio for ratio, _ in pairs])
    for p, ratios in zip(exponents, np.array([closed for _, closed in pairs]).T, strict=True):
        errors = np.abs(ratios / simulated - 1.0)
        agree = int(((ratios > 1.0) == (simulated > 1.0)).sum())
        name = "the longer of both" if np.isinf(p) else f"exponent {p:g}"
        print(
            f"{name}: {errors.mean():.1%} on average, {errors.max():.0%} at most, {agree} of {len(pairs)} pairs agree"
        )


def moved(each: Demand, ridge: float, idle_bytes: float, p: float) -> float:
    """Time of a token in bytes that the chip moves meanwhile."""
    parts = np.stack([each.flops / ridge, each.bytes])
    return float((np.linalg.norm(parts, ord=p, axis=0) + idle_bytes) @ each.calls)


if __name__ == "__main__":
    main()
