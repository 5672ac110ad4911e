"""Layers that a benchmark ran untuned: by hand from the order of rows, and in the package's own table."""

import numpy as np
import pandas as pd
import pytest

from roofline.chipfile import load_chip
from simulator.validation.silicon import package_folder, silicon_table
from simulator.validation.tuning_files import ran_untuned

RESTART = 53_730  # of the H200's table
ROW = {"framework": "TRTLLM", "version": "1.3.0rc20", "device": "NVIDIA H200", "kernel_source": "cutlass"}
ROW |= {"moe_dtype": "bfloat16", "hidden_size": 4096}
ONE = {"inter_size": 1024, "moe_tp_size": 2, "num_experts": 256, "moe_ep_size": 16, "topk": 8}  # 512 wide, 16 experts
SAME_NAME = {"inter_size": 512, "moe_tp_size": 1, "num_experts": 512, "moe_ep_size": 32, "topk": 10}
PREFIX = {"inter_size": 512, "moe_tp_size": 1, "num_experts": 8, "moe_ep_size": 8, "topk": 2}  # 1 expert begins "16"


def table(*sweeps, start=0, **changes):
    """Sweeps of two rows each, (layer, distribution), one after another."""
    rows = [{**ROW, **layer, "distribution": name, **changes} for layer, name in sweeps for _ in range(2)]
    return pd.DataFrame(rows, index=range(start, start + len(rows)))


def test_the_first_layer_of_a_name_is_tuned_and_others_of_that_name_are_not():
    rows = table((ONE, "balanced"), (SAME_NAME, "balanced"), (ONE, "power_law_1.2"), (SAME_NAME, "power_law_1.2"))
    assert ran_untuned(rows).tolist() == [False, False, True, True, False, False, True, True]


def test_a_name_that_begins_another_finds_its_file_but_not_the_other_way_round():
    assert ran_untuned(table((ONE, "balanced"), (PREFIX, "balanced"))).tolist() == [False, False, True, True]
    assert not ran_untuned(table((PREFIX, "balanced"), (ONE, "balanced"))).any()


def test_files_are_new_after_the_restart():
    order = ((ONE, "balanced"), (SAME_NAME, "balanced"), (SAME_NAME, "power_law_1.2"), (ONE, "power_law_1.2"))
    rows = table(*order, start=RESTART - 4)
    assert ran_untuned(rows).tolist() == [False, False, True, True, False, False, True, True]


@pytest.mark.parametrize("changes", [{"framework": "VLLM"}, {"device": "NVIDIA L40S"}])
def test_other_benchmarks_have_no_such_rows(changes):
    assert not ran_untuned(table((ONE, "balanced"), (SAME_NAME, "balanced"), **changes)).any()


def test_the_same_kernels_in_other_libraries_are_untuned_on_hopper():
    layers = ((ONE, "balanced"), (SAME_NAME, "balanced"))
    assert ran_untuned(table(*layers, framework="VLLM", kernel_source="vllm_fp8_flashinfer_cutlass_experts")).all()
    assert not ran_untuned(table(*layers, framework="VLLM", kernel_source="vllm_triton_experts")).any()


@pytest.mark.skipif(package_folder() is None, reason="the extra `silicon` (aiconfigurator-core) is not installed")
def test_what_the_order_of_rows_tells_is_what_was_slow():
    """Where another routing of a layer was tuned, an untuned one takes twice as long and more; two tuned are alike."""
    measured = silicon_table(load_chip("h100-sxm"), "moe", "bfloat16", "trtllm")
    sizes = ("tokens", "hidden", "inter", "experts", "topk", "expert_ranks", "gated")
    frame = pd.DataFrame({name: measured.ops.size(name)[:, 0] for name in (*sizes, "skew", "untuned")})
    frame = frame.assign(s=measured.measured_s)[frame["tokens"].between(32, 1024)]
    by_skew = frame.pivot_table(index=list(sizes), columns="skew", values=["s", "untuned"])
    mild, steep = by_skew.xs(1.01, level="skew", axis=1), by_skew.xs(1.2, level="skew", axis=1)
    ratio = (mild["s"] / steep["s"]).to_numpy()
    differs = (mild["untuned"] == 1) & (steep["untuned"] == 0)
    alike = (mild["untuned"] == 0) & (steep["untuned"] == 0)
    assert differs.sum() > 300
    assert np.median(ratio[differs]) > 2.0
    assert 0.95 < np.median(ratio[alike]) < 1.1
    assert np.mean(ratio[alike] > 1.5) < 0.02
    assert np.mean(ratio[differs] > 1.5) > 0.85
