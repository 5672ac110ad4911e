"""Ceilings of this machine: the same ones are found again, real operations stay below them, and large ones come near.

Two calibrations take turns step by step, so that a neighbor disturbs both alike. All of it uses one thread: two threads
that wait for each other measure the neighbors. Where other programs take more than a tenth of a processor, the figures
are told and nothing is judged. A neighbor in the same host that no counter shows can spoil any figure: what the chip
files say did not settle is not judged either, and what is wrong must be wrong in three pairs of calibrations in a row.
`benchmarks/ceilings.py` prints how well all of them repeat.
"""

from collections.abc import Callable, Iterator
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
from roofline.chip import Chip  # noqa: E402

pytestmark = pytest.mark.slow

_QUIET_SHARE = 0.1
_REPEATS_WITHIN = 0.10
_TRIES = 3

Pair = tuple[list[Chip], float]


class Calibrations:
    """Pairs of chips, measured when they are first asked for."""

    def __init__(self) -> None:
        self._pairs: list[Pair] = []

    def __iter__(self) -> Iterator[Pair]:
        """Each pair, and the share of a processor that others used meanwhile."""
        for index in range(_TRIES):
            if index == len(self._pairs):
                before = processor_use()
                runs = [MicrobenchmarkRun(mode="brief") for _ in range(2)]
                for _ in zip_longest(*runs):
                    pass
                chips = [chip_from_measurements(run.result).chip for run in runs]
                self._pairs.append((chips, before.others_share(processor_use()) or 0.0))
            yield self._pairs[index]


@pytest.fixture(scope="module")
def calibrations():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Calibrations()
    torch.set_num_threads(threads)


def judge(calibrations: Calibrations, look: Callable[[list[Chip]], tuple[bool, str]]) -> None:
    """What `look` finds of a pair of chips, and tells, must be right for one of the pairs; an unquiet one ends it."""
    told = []
    for chips, share in calibrations:
        before = processor_use()
        is_right, text = look(chips)
        share = max(share, before.others_share(processor_use()) or 0.0)  # noqa: PLW2901
        if share > _QUIET_SHARE:
            pytest.skip(f"other programs used {100 * share:.0f} % of a processor, so nothing is judged; seen: {text}")
        if is_right:
            return
        told.append(text)
    pytest.fail("\n".join(told))


def test_the_same_ceilings_are_found_again(calibrations):
    def look(chips):
        first, second = ([ceiling.label for ceiling in ceilings(chip)] for chip in chips)
        last = [chip.memories[-1].name for chip in chips]
        return first == second and last == ["dram", "dram"], f"{first}, {second}"

    judge(calibrations, look)


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


def test_settled_ceilings_repeat_within_a_tenth(calibrations):
    def look(chips):
        first, second = (settled_ceilings(chip) for chip in chips)
        ratios = {label: second[label] / first[label] for label in first if label in second}
        most = 1 + _REPEATS_WITHIN
        return bool(ratios) and all(
            1 / most <= ratio <= most for ratio in ratios.values()
        ), f"settled in both: {ratios}"

    judge(calibrations, look)


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


def test_real_operations_land_under_the_roofline(calibrations):
    """Never above a ceiling by more than it repeats to; a product near the peak, a copy near the memory's bandwidth.

    What no schedule can beat is the bound with warm caches. Attention and softmax compute their exponentials with
    vector code of torch's own, far below the products' peak: they must land below the roofline and within 100 times.
    """
    least = {"gemm": 0.5, "copy": 0.4, "attention": 0.01, "softmax": 0.01}  # a copy reads what it overwrites, too

    def look(chips):
        over_bound, efficiency = {}, {}
        for name, run in real_operations():
            bounds = [measured_and_bound(run, chip) for chip in chips]
            over_bound[name] = min(measured / warm for measured, _, warm in bounds)
            efficiency[name] = bounds[0][1] / bounds[0][0]
        is_right = min(over_bound.values()) >= 1 - _REPEATS_WITHIN and all(efficiency[n] > least[n] for n in least)
        return is_right, ", ".join(
            f"{n}: time {over_bound[n]:.2f} x warm bound, {100 * efficiency[n]:.0f} % of cold" for n in least
        )

    judge(calibrations, look)
