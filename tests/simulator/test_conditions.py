"""Conditions of a table of ops: filled where rows give none, as benchmarks have them; and the bound under them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from roofline.chipfile import load_chip
from simulator.conditions import with_conditions
from simulator.errors import SimulationError
from simulator.op_frame import ops_from_frame
from simulator.plans import plan_columns
from simulator.prediction import predict
from simulator.validation.scores import predict_s
from simulator.validation.silicon import package_folder, silicon_table

# 50 MiB of last cache.
H100 = load_chip("h100-sxm")
ATTENTION = {"kind": "attention", "dtype": "bfloat16", "batch": 2, "heads": 32, "kv_heads": 8, "head_dim": 128}


def product(n: int, k: int, dtype: str = "bfloat16", **more: object) -> dict[str, object]:
    return {"kind": "gemm", "dtype": dtype, "m": 16, "n": n, "k": k, **more}


@pytest.mark.parametrize(
    ("n", "k", "dtype", "copies"),
    [
        (1024, 1024, "bfloat16", 5),  # 2 MiB each: 25 would fill the cache, five at most
        (4096, 4096, "bfloat16", 2),  # 32 MiB
        (4096, 4096, "float8_e4m3fn", 4),  # 16 MiB
        (8192, 8192, "bfloat16", 1),  # 128 MiB
    ],
)
def test_a_product_goes_through_as_many_copies_of_its_weights_as_fill_the_last_cache(n, k, dtype, copies):
    filled = with_conditions(pd.DataFrame([product(n, k, dtype)]), H100, "benchmark")
    assert filled.weight_copies.tolist() == [copies]


def test_a_chip_without_a_cache_that_cores_share_has_one_copy():
    own_only = replace(H100, memories=(H100.memories[0], H100.memories[-1]))
    assert with_conditions(pd.DataFrame([product(64, 64)]), own_only, "benchmark").weight_copies.tolist() == [1]


def test_products_of_few_bits_quantize_and_causal_attention_stores():
    rows = [
        product(64, 64),
        product(64, 64, "float8_e4m3fn"),
        product(64, 64, "int8"),
        product(64, 64, "bfloat16", weight_dtype="int4"),  # activations stay as they are
        {**ATTENTION, "queries": 512, "keys": 512, "causal": 1},
        {**ATTENTION, "queries": 1, "keys": 512, "causal": 0},
        {**ATTENTION, "queries": 512, "keys": 512, "causal": 0},
        {"kind": "copy", "dtype": "int8", "elements": 10},
    ]
    filled = with_conditions(pd.DataFrame(rows), H100, "benchmark")
    assert filled.quantizes_input.tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert filled.stores_kv.tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
    assert filled.weight_copies.tolist() == [5, 5, 5, 5, 1, 1, 1, 1]


def test_a_row_that_says_its_own_keeps_it():
    frame = pd.DataFrame([product(64, 64, "int8", weight_copies=0, quantizes_input=0), product(64, 64, "int8")])
    filled = with_conditions(frame, H100, "benchmark")
    assert filled.weight_copies.tolist() == [0, 5]
    assert filled.quantizes_input.tolist() == [0, 1]


def test_types_may_be_categories():
    """Of 6 MiB in bfloat16 nine would fill the cache; weights of 4 and 8 bits are smaller still."""
    frame = pd.DataFrame([product(1024, 3072, weight_dtype=dtype) for dtype in ("int4", None, "int8")])
    told = predict(frame.astype({"kind": "category", "dtype": "category", "weight_dtype": "category"}), H100)
    assert told.predicted_s.tolist() == predict(frame, H100).predicted_s.tolist()


def test_unknown_conditions_are_refused():
    with pytest.raises(SimulationError, match="conditions must be one of benchmark, program, got 'engine'"):
        predict(pd.DataFrame([product(64, 64)]), H100, conditions="engine")  # type: ignore[arg-type]


def test_a_program_adds_nothing():
    frame = pd.DataFrame([product(64, 64, "int8")])
    assert with_conditions(frame, H100, "program") is frame
    said = predict(frame.assign(weight_copies=0, quantizes_input=0, stores_kv=0), H100).predicted_s.tolist()
    assert predict(frame, H100, conditions="program").predicted_s.tolist() == said


def test_replayed_data_that_fit_the_last_cache_need_no_main_memory():
    # 2 x 60 MiB move: at least 70 MiB of them through main memory, everything through the cache before it.
    mib = 2**20
    cores_fast = replace(H100, calibration=())
    copy = {"kind": "copy", "dtype": "int8", "elements": 60 * mib}
    frame = pd.DataFrame([{**copy, "weight_copies": copies} for copies in (0, 1)])
    bound_s = plan_columns(ops_from_frame(frame), [cores_fast]).bound_s[:, 0]
    main, cache = cores_fast.memories[-1], cores_fast.memories[-2]
    through_cache_s = 120 * mib / (cache.bandwidth_bytes_per_s)
    assert bound_s[0] == pytest.approx(120 * mib / main.bandwidth_bytes_per_s)
    assert bound_s[1] == pytest.approx(max(70 * mib / main.bandwidth_bytes_per_s, through_cache_s))


@pytest.mark.parametrize("chip", ["h100-sxm", "a100-sxm-80gb", "l40s", "b200-sxm", "mi300x", "tpu-v5e"])
def test_no_prediction_is_below_its_bound_under_either(chip):
    rng = np.random.default_rng(7)

    def sizes(high: float) -> int:
        return int(2 ** rng.uniform(0, high))

    rows = [{**product(sizes(14), sizes(14)), "m": sizes(13)} for _ in range(60)]
    rows += [{"kind": "copy", "dtype": "bfloat16", "elements": sizes(28)} for _ in range(30)]
    rows += [{"kind": "norm", "dtype": "bfloat16", "rows": sizes(14), "columns": sizes(14)} for _ in range(30)]
    rows += [{**ATTENTION, "queries": q, "keys": q + sizes(14), "causal": q % 2} for q in (1, 2, 33, 512) * 8]
    layer = {"kind": "moe", "dtype": "bfloat16", "hidden": 2048, "inter": 768, "experts": 128, "topk": 8}
    rows += [{**layer, "tokens": sizes(12)} for _ in range(10)]
    loaded = load_chip(chip)
    for conditions in ("benchmark", "program"):
        predicted = predict(pd.DataFrame(rows), loaded, conditions=conditions)
        assert (predicted.predicted_s >= predicted.bound_s * (1 - 1e-12)).all(), conditions
        assert np.isfinite(predicted.predicted_s).all()


@pytest.mark.skipif(package_folder() is None, reason="needs roofscape[silicon], which holds the measured tables")
@pytest.mark.parametrize(
    ("op", "dtype", "backend", "sizes"),
    [
        ("gemm", "bfloat16", "trtllm", "m n k"),
        ("gemm", "float8_e4m3fn", "trtllm", "m n k"),
        ("attention_prefill", "bfloat16", "vllm", "batch queries keys heads kv_heads head_dim causal window"),
        ("attention_decode", "bfloat16", "vllm", "batch queries keys heads kv_heads head_dim causal window"),
        ("attention_bidirectional", "bfloat16", "vllm", "batch queries keys heads kv_heads head_dim causal"),
    ],
)
def test_sizes_alone_are_met_as_measured_tables_say_their_conditions(op, dtype, backend, sizes):
    table = silicon_table(H100, op, dtype, backend).half(held_out=True)
    table = table.take(np.arange(0, len(table), 25))
    frame = pd.DataFrame({name: table.ops.size(name)[:, 0] for name in sizes.split()})
    frame = frame.assign(kind=op.partition("_")[0], dtype=dtype)
    np.testing.assert_allclose(predict(frame, H100).predicted_s, predict_s(table, H100), rtol=1e-9)
