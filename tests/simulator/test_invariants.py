"""What holds of every kernel family on every kind of chip: GPUs, systolic arrays, chips of SRAM alone."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_ops import random_ops

from roofline.chipfile import list_chips, load_chip
from simulator.kernels import attention
from simulator.op_formulas import FRAME_SIZES
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns

KINDS = tuple(FRAME_SIZES)
GPU, SYSTOLIC, SRAM_ONLY = "h100-sxm", "tpu-v5e", "groq-lpu-v1"
ANY = {"kind": st.sampled_from(KINDS), "name": st.sampled_from(list_chips()), "seed": st.integers(0, 10**6)}


@settings(max_examples=150, deadline=None)
@given(**ANY)
def test_no_kernel_is_below_the_roofline(kind, name, seed):
    """Of cold caches: what a benchmark repeats is found in them."""
    ops = ops_from_frame(random_ops(kind, 50, seed).assign(weight_copies=0))
    table = plan_columns(ops, [load_chip(name)])
    assert np.isfinite(table.duration_s).all()
    assert (table.duration_s >= table.bound_s * (1 - 1e-12)).all()


def in_half_the_time(chip):
    """The chip on which every second is half as long: rates are doubled, times halved, counts and ratios stay."""
    calibration = tuple(
        (key, 2 * value if key.endswith(("_per_s", "_hz")) else value / 2 if key.endswith("_s") else value)
        for key, value in chip.calibration
    )
    return replace(
        chip,
        clock_hz=2 * chip.clock_hz,
        launch_s=chip.launch_s / 2,
        memories=tuple(
            replace(m, bandwidth_bytes_per_s=2 * m.bandwidth_bytes_per_s, latency_s=m.latency_s / 2)
            for m in chip.memories
        ),
        links=tuple(
            replace(each, bandwidth_bytes_per_s=2 * each.bandwidth_bytes_per_s, latency_s=each.latency_s / 2)
            for each in chip.links
        ),
        calibration=calibration,
    )


@settings(max_examples=150, deadline=None)
@given(**ANY)
def test_units_of_time_are_consistent(kind, name, seed):
    """Halving a unit is exact in binary: one constant of seconds among clocks, or forgotten in a file, shows."""
    ops, chip = ops_from_frame(random_ops(kind, 50, seed)), load_chip(name)
    slow_s = plan_columns(ops, [chip]).duration_s
    # The one time that no chip file gives: how long a power controller takes to react.
    with patch.object(attention, "_POWER_REACTS_S", attention._POWER_REACTS_S / 2):
        fast_s = plan_columns(ops, [in_half_the_time(chip)]).duration_s
    assert (slow_s == 2 * fast_s).all()


@settings(max_examples=100, deadline=None)
@given(**ANY)
def test_a_plan_does_not_depend_on_what_is_planned_beside_it(kind, name, seed):
    others = KINDS[(KINDS.index(kind) + seed) % len(KINDS)]
    ops, chip = ops_from_frame(random_ops(kind, 30, seed)), load_chip(name)
    together_s = plan_columns(ops, [chip, load_chip(GPU)]).duration_s[:, 0]
    order = np.random.default_rng(seed).permutation(len(ops))
    assert (plan_columns(ops.take(order), [chip]).duration_s[:, 0] == together_s[order]).all()
    assert plan_columns(ops.take(order[:1]), [chip]).duration_s[0, 0] == together_s[order[0]]
    mixed = ops_from_frame(pd.concat([random_ops(others, 20, seed), random_ops(kind, 30, seed)], ignore_index=True))
    assert (plan_columns(mixed, [chip]).duration_s[20:, 0] == together_s).all()


def digest() -> str:
    """Of the bytes of all plans of all kinds on a chip of each kind."""
    whole = hashlib.sha256()
    for kind in KINDS:
        ops = ops_from_frame(random_ops(kind, 100, seed=7))
        for name in (GPU, SYSTOLIC, SRAM_ONLY):
            table = plan_columns(ops, [load_chip(name)])
            whole.update(table.duration_s.tobytes() + table.columns.traffic_bytes.tobytes())
    return whole.hexdigest()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_same_ops_give_the_same_bytes_in_another_process(hash_seed):
    here = Path(__file__)
    paths = [str(here.parent), str(here.parents[1] / "samples"), *sys.path]
    command = "import test_invariants; print(test_invariants.digest())"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(paths)}
    told = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == digest()
