"""Collectives by hand: rings with a protocol's latency and rate, and a switch that beats them where it should."""

import pandas as pd
import pytest

from roofline.chip import Link
from roofline.chipfile import load_chip
from simulator.analytic import sweep
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns
from simulator.validation.scores import predict_s, score
from simulator.validation.silicon import package_folder, silicon_table

LINK = Link(name="link", bandwidth_bytes_per_s=1e9, latency_s=1e-3)
PROTOCOLS = (
    ("collective.flagged_hop_s", 1e-4),
    ("collective.flagged_efficiency", 0.25),
    ("collective.bulk_hop_s", 2e-2),
    ("collective.bulk_efficiency", 0.5),
)


def seconds(build, elements, ranks, calibration):
    chip = build.chip(links=(LINK,), calibration=calibration)
    bare = build.chip(links=(), calibration=())
    ops = [build.collective(elements, ranks)]
    return (sweep(ops, [chip]) - sweep(ops, [bare])).item()


def test_a_ring_waits_at_every_step_and_carries_its_share(build):
    # all-reduce of 4 ranks: 6 steps; 2e6 B x 6 / 4 at 1e9 B/s = 3 ms, and 6 ms of latency
    assert seconds(build, 1_000_000, 4, ()) == pytest.approx(6e-3 + 3e-3, rel=0.01)


def test_the_protocol_follows_the_size(build):
    small = seconds(build, 100_000, 4, PROTOCOLS)  # 0.3 MB at 0.25e9 B/s, 6 short hops
    assert small == pytest.approx(6e-4 + 1.2e-3, rel=0.03)
    large = seconds(build, 100_000_000, 4, PROTOCOLS)  # 300 MB at 0.5e9 B/s, 6 long hops
    assert large == pytest.approx(0.12 + 0.6, rel=0.01)


def test_a_switch_does_not_slow_down_with_ranks(build):
    switch = (*PROTOCOLS, ("collective.switch_s", 5e-4), ("collective.switch_efficiency", 0.4))
    times = [seconds(build, 10_000_000, ranks, switch) for ranks in (4, 8, 64)]
    assert times == pytest.approx([5e-4 + 0.02 / 0.4] * 3, rel=0.01)


def test_an_all_to_all_is_one_hop(build):
    frame = pd.DataFrame([{"kind": "collective", "dtype": "bfloat16", "elements": 10**8, "name": "alltoall"}] * 2)
    ops = ops_from_frame(frame.assign(ranks=[2, 8]))
    calibration = (*PROTOCOLS, ("collective.alltoall.bulk_hop_s", 3e-3), ("collective.base_s", 1e-3))
    chips = [build.chip(links=links, calibration=calibration if links else ()) for links in ((LINK,), ())]
    table = plan_columns(ops, chips)
    # 200 MB, of which 1 / 2 and 7 / 8 leave a rank at half of 1 GB/s; the ring's hop of 20 ms does not count.
    beyond = table.duration_s[:, 0] - table.duration_s[:, 1]
    assert beyond == pytest.approx([4e-3 + 0.1 / 0.5, 4e-3 + 0.175 / 0.5], rel=0.01)


@pytest.mark.skipif(package_folder() is None, reason="the extra `silicon` (aiconfigurator-core) is not installed")
def test_measured_all_to_all():
    chip = load_chip("h100-sxm")
    held = silicon_table(chip, "alltoall", "bfloat16", "nccl").half(held_out=True)
    assert len(held) > 25
    assert score(held, predict_s(held, chip)).mape_percent < 12
