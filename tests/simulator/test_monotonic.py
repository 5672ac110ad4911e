"""More of anything never makes a kernel slower, but for the noise of tiles, rounds and rules of splitting."""

from dataclasses import replace

import numpy as np
import pytest
from random_ops import random_ops

from roofline.chipfile import list_chips, load_chip
from simulator.op_formulas import FRAME_SIZES
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns, plan_ops

EXACT = 1.0 + 1e-9
# How much slower a kernel may get, by what there is more of and by kind; everything else not at all.
NOISE = {
    # A choice of tiles is the least of a finite set, and rounds are whole: with a few more cores a tile that filled
    # them no longer does, and a round of rows may begin that fills few of them.
    **{("cores", kind): 1.08 for kind in ("gemm", "moe", "norm", "softmax", "reduction", "scan", "sort")},
    # Attention splits its keys by the rule of the measured library, which counts cores and not seconds: where a split
    # tips over, short kernels take up to twice as long.
    ("cores", "attention"): 2.0,
    # More cores have more rows in work, of which the last cache holds less until they are read again.
    ("cores", "topk"): 1.2,
    # What a repeated kernel finds in the cache comes at that cache's rate alone, where main memory gave a part before.
    ("capacity", "attention"): 1.07,
    # The candidate is chosen by main and innermost shared memory; a level between them may bind.
    **{(what, kind): 1.02 for what in ("capacity", "clock", "matrix") for kind in ("gemm", "moe")},
}


def more_cores(chip):
    """A quarter more of them, and of what belongs to each."""
    cores = max(chip.cores + 1, round(1.25 * chip.cores))
    ratio = cores / chip.cores
    grown = [
        replace(m, capacity_bytes=ratio * m.capacity_bytes, bandwidth_bytes_per_s=ratio * m.bandwidth_bytes_per_s)
        if m.per_core
        else m
        for m in chip.memories
    ]
    return replace(chip, cores=cores, memories=tuple(grown))


def changed(records, **factors):
    return tuple(
        replace(each, **{name: factor * getattr(each, name) for name, factor in factors.items()}) for each in records
    )


MORE = {
    "cores": more_cores,
    "clock": lambda chip: replace(chip, clock_hz=1.2 * chip.clock_hz),
    "matrix": lambda chip: replace(chip, matrix_macs=tuple((dtype, 2 * rate) for dtype, rate in chip.matrix_macs)),
    "vector": lambda chip: replace(chip, vector_flops=tuple((dtype, 2 * rate) for dtype, rate in chip.vector_flops)),
    "special": lambda chip: replace(chip, special_flops=2 * chip.special_flops),
    "main memory": lambda chip: replace(
        chip, memories=(*chip.memories[:-1], *changed(chip.memories[-1:], bandwidth_bytes_per_s=1.3))
    ),
    "bandwidth": lambda chip: replace(
        chip,
        memories=changed(chip.memories, bandwidth_bytes_per_s=1.3),
        links=changed(chip.links, bandwidth_bytes_per_s=1.3),
    ),
    "capacity": lambda chip: replace(chip, memories=changed(chip.memories, capacity_bytes=2.0)),
    "promptness": lambda chip: replace(
        chip,
        launch_s=chip.launch_s / 2,
        memories=changed(chip.memories, latency_s=0.5),
        links=changed(chip.links, latency_s=0.5),
    ),
}


@pytest.mark.parametrize("kind", FRAME_SIZES)
def test_more_is_not_slower(kind):
    ops = ops_from_frame(random_ops(kind, 400, seed=2))
    for name in list_chips():
        chip = load_chip(name)
        duration_s = plan_columns(ops, [chip, *(more(chip) for more in MORE.values())]).duration_s
        for what, after_s in zip(MORE, duration_s.T[1:], strict=True):
            ratio = after_s / duration_s[:, 0]
            limit = NOISE.get((what, kind), EXACT)
            assert ratio.max() <= limit, f"{what} on {name}: {ratio.max():.4f} x"
            assert np.median(ratio) <= EXACT


def test_memory_that_binds_less_than_the_link_does_not_matter(build):
    """What core and memory miss of each other is hidden while the link is still busy."""
    op = build.collective(10_000_000, 2)
    slow, fast = (build.chip(memories=build.memories(rate=rate)) for rate in (1, 1.3))
    slow_s, fast_s = plan_ops([op], [slow, fast]).duration_s[0]
    assert fast_s == slow_s
