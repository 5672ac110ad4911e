"""Collectives by hand: rings with a protocol's latency and rate, and a switch that beats them where it should."""

import pytest

from roofline.chip import Link
from simulator.analytic import sweep

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
