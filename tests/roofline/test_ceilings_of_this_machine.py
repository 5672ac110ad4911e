"""Ceilings of this machine: the same ones are found again, real operations stay below them, and large ones come near.

Two calibrations take turns step by step, so that a neighbor disturbs both alike. All of it uses one thread: two threads
that wait for each other measure the neighbors. Where other programs take more than a tenth of a processor, the figures
are told and nothing is judged. A neighbor in the same host that no counter shows can spoil any figure: what the chip
files say did not settle is not judged either. `benchmarks/ceilings.py` prints how well all of them repeat.
"""

import time
from itertools import zip_longest

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="micro-benchmarks need torch")

from profiler.capture import capture  # noqa: E402
from profiler.capture.bench import Bench  # noqa: E402
from profiler.capture.machine import processor_use  # noqa: E402
from profiler.capture.microbenchmarks import MicrobenchmarkRun  # noqa: E402
from roofline.bounds import op_bounds  # noqa: E402
from roofline.calibration import chip_from_measurements  # noqa: E402
from roofline.ceilings import ceilings  # noqa: E402

pytestmark = pytest.mark.slow

_QUIET_SHARE = 0.1
_REPEATS_WITHIN = 0.10


@pytest.fixture(scope="module")
def calibrated():
    """(two chips, share of a processor that others used meanwhile)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        before = processor_use()
        runs = [MicrobenchmarkRun(mode="brief") for _ in range(2)]
        for _ in zip_longest(*runs):
            pass
        share = before.others_share(processor_use()) or 0.0
        yield [chip_from_measurements(run.result).chip for run in runs], share
    finally:
        torch.set_num_threads(threads)


def skip_unless_quiet(share, figures):
    if share > _QUIET_SHARE:
        pytest.skip(f"other programs used {100 * share:.0f} % of a processor, so nothing is judged; seen: {figures}")


def test_the_same_ceilings_are_found_again(calibrated):
    (first, second), share = calibrated
    found = [[ceiling.label for ceiling in ceilings(chip)] for chip in (first, second)]
    skip_unless_quiet(share, str(found))
    assert found[0] == found[1]
    assert [memory.name for memory in first.memories][-1] == "dram"


def settled_ceilings(chip):
    """Rate of each ceiling whose halves agree, by its label."""
    parts = {"vector": "vector.flops_per_clock_per_core.", "compute": "matrix.macs_per_clock_per_core."}
    sources, found = dict(chip.sources), {}
    for ceiling in ceilings(chip):
        part = parts.get(ceiling.resource)
        source = sources[f"{part}{ceiling.dtype}" if part else f"memory.{ceiling.resource}.bandwidth_bytes_per_s"]
        if "not settled" not in source:
            found[ceiling.label] = ceiling.flops_per_s or ceiling.bytes_per_s
    return found


def test_settled_ceilings_repeat_within_a_tenth(calibrated):
    chips, share = calibrated
    first, second = (settled_ceilings(chip) for chip in chips)
    ratios = {label: second[label] / first[label] for label in first if label in second}
    skip_unless_quiet(share, str(ratios))
    assert ratios, "no ceiling settled in both calibrations of a quiet machine"
    assert all(1 / (1 + _REPEATS_WITHIN) <= ratio <= 1 + _REPEATS_WITHIN for ratio in ratios.values()), ratios


def real_operations():
    """(name, what runs), large enough to be bound by a ceiling."""
    a, b = torch.randn(768, 768), torch.randn(768, 768)
    source, target = torch.rand(2**24), torch.empty(2**24)
    query, key, value = (torch.randn(1, 8, 512, 64) for _ in range(3))
    logits = torch.randn(512, 4096)
    return (
        ("gemm", lambda: a @ b),
        ("copy", lambda: target.copy_(source)),
        ("attention", lambda: torch.nn.functional.scaled_dot_product_attention(query, key, value)),
        ("softmax", lambda: torch.softmax(logits, -1)),
    )


def measured_and_bound(run, chip):
    """Median seconds of an operation, and its roofline bounds with cold and with warm caches."""
    with torch.inference_mode():
        with capture() as recording:
            run()
        times = Bench("brief", "cpu").times_s(run, 0.5)
    cold, warm = (
        float(np.nansum(op_bounds(recording.trace.ops, chip, caches=caches).bound_s)) for caches in ("cold", "warm")
    )
    return float(np.median(times)), cold, warm


def test_real_operations_land_under_the_roofline(calibrated):
    """Never above a ceiling by more than it repeats to; a product near the peak, a copy near the memory's bandwidth.

    What no schedule can beat is the bound with warm caches. Attention and softmax compute their exponentials with
    vector code of torch's own, far below the products' peak: they must land below the roofline and within 100 times.
    """
    (first, second), share = calibrated
    figures, before = {}, processor_use()
    start = time.perf_counter()
    for name, run in real_operations():
        bounds = [measured_and_bound(run, chip) for chip in (first, second)]
        figures[name] = min(measured / warm for measured, _, warm in bounds), bounds[0][1] / bounds[0][0]
    assert time.perf_counter() - start < 120
    text = ", ".join(f"{n}: time {t:.2f} x warm bound, {100 * e:.0f} % of cold" for n, (t, e) in figures.items())
    skip_unless_quiet(max(share, before.others_share(processor_use()) or 0.0), text)
    assert all(over_bound >= 1 - _REPEATS_WITHIN for over_bound, _ in figures.values()), text
    assert figures["gemm"][1] > 0.5, text
    assert figures["copy"][1] > 0.4, text  # a plain copy reads what it overwrites, too: 3 of 2 counted bytes
    assert all(figures[name][1] > 0.01 for name in ("attention", "softmax")), text
