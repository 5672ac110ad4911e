"""Sorts: bytes and passes by hand, and the filters of a sampler that others measured."""

from dataclasses import replace

import pytest
import torch

from profiler.capture import capture
from profiler.traces import Trace
from roofline.chipfile import load_chip
from simulator import analytic
from simulator.plans import plan_ops


def test_a_row_that_fits_a_core_is_sorted_there(build):
    # 200,000 bytes per core hold 20,000 pairs of 2-byte keys and 8-byte indices.
    chip = build.chip(launch_s=1e-6)
    fits, passes = plan_ops(
        [build.rows("sort", 1, 20_000), build.rows("sort", 1, 160_000)], [chip]
    ).columns.reduction_s[:, 0]
    assert fits == 0
    # Indices, counting, its sum, and two passes of 8 bits over 16: four kernels after the first.
    assert passes == pytest.approx(4e-6)


def test_how_a_row_is_sorted_does_not_depend_on_chips_beside(build):
    op, small = build.rows("sort", 4, 30_000), build.chip()
    core, *shared = build.memories()
    large = build.chip(name="large", memories=(replace(core, capacity_bytes=100 * 1e6), *shared))
    alone = plan_ops([op], [small]).duration_s[0, 0]
    assert plan_ops([op], [small, large]).duration_s[0, 0] == alone


@pytest.mark.parametrize(
    ("rows", "bytes_per_key"),
    [
        (1, 8 + 2 + 2 * 2 * 10),  # indices written; keys counted; two passes that read and write pairs of 10 bytes
        (
            100,
            8 + 2 + 2 * 2 * 10 + (8 + 2 * 8) + (8 + 2 + 10),
        ),  # then by row: counted, moved; keys fetched, all written
        (128, 8 + 3 * (2 + 2 * 10)),  # 16 bits by 6 are three passes, each of which counts and moves
    ],
)
def test_radix_passes_move_these_bytes(build, rows, bytes_per_key):
    columns = 1_000_000  # far more than the toy chip's shared cache, so that nearly every pass goes to main memory
    chip = build.chip()
    plan = plan_ops([build.rows("sort", rows, columns)], [chip])
    inside = plan.columns.traffic_bytes[1, 0, 0]
    assert inside == pytest.approx(rows * columns * bytes_per_key)


@pytest.mark.parametrize(
    ("chip", "rows", "top_p", "measured_ms"),
    [
        ("h100-sxm", 256, False, 3.812),
        ("h100-sxm", 512, True, 8.787),
        ("h100-sxm", 1024, True, 16.312),
        ("h200-sxm", 128, True, 2.318),
        ("h200-sxm", 512, True, 6.150),
    ],
)
def test_filters_over_a_vocabulary_take_what_others_measured(chip, rows, top_p, measured_ms):
    """PyTorch's column of the tables in vLLM's pull requests 32558, 33538 and 40376; the chips are inferred."""
    predicted_ms = 1e3 * analytic.simulate(_filter(rows, 131_072, top_p=top_p), load_chip(chip)).makespan_s
    assert predicted_ms == pytest.approx(measured_ms, rel=0.1)


def _filter(rows: int, vocab: int, *, top_p: bool) -> Trace:
    """The kernels of a filter by sorting: top-k by the k-th value, top-p by the sum of probabilities."""
    logits_BV = torch.empty(rows, vocab, device="meta")
    limit_B1 = torch.empty(rows, 1, device="meta")
    with capture(name="filter") as recording, torch.inference_mode():
        sorted_BV, order_BV = logits_BV.sort(dim=-1)
        if top_p:
            below_BV = torch.cumsum(sorted_BV.softmax(dim=-1), dim=-1) <= limit_B1
        else:
            below_BV = sorted_BV < sorted_BV.gather(1, torch.empty(rows, 1, dtype=torch.int64, device="meta"))
        sorted_BV.masked_fill_(below_BV, -torch.inf)
        torch.scatter(sorted_BV, -1, order_BV, sorted_BV)
    return recording.trace
