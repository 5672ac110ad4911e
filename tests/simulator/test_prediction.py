"""`predict`: every row as it would be alone, distinct rows once, what binds, and its energy."""

from dataclasses import replace

import numpy as np
import pandas as pd

from roofline.chipfile import load_chip
from simulator import prediction
from simulator.analytic import sweep


def test_a_row_takes_what_the_simulator_says_of_that_op(build):
    chip = load_chip("h100-sxm")
    frame = pd.DataFrame([{"kind": "gemm", "dtype": "bfloat16", "m": 300, "n": 4096, "k": 4096}])
    predicted = prediction.predict(frame, chip, conditions="program")
    assert predicted.predicted_s.item() == sweep([build.gemm(300, 4096, 4096)], [chip]).item()


def test_equal_rows_are_planned_once_and_all_answered(monkeypatch):
    planned = []
    original = prediction.plan_columns
    monkeypatch.setattr(prediction, "plan_columns", lambda ops, chips: planned.append(len(ops)) or original(ops, chips))
    rows = pd.DataFrame(
        {"kind": "gemm", "dtype": "bfloat16", "m": [1, 2, 1, 1], "n": 64, "k": 64, "note": list("abcd")}
    )
    predicted = prediction.predict(rows, load_chip("h100-sxm"))
    assert planned == [2]
    assert predicted.note.tolist() == list("abcd")
    assert predicted.predicted_s.nunique() <= 2
    assert predicted.predicted_s.iloc[0] == predicted.predicted_s.iloc[2]


def test_a_long_table_is_planned_in_parts(monkeypatch):
    monkeypatch.setattr(prediction, "_CHUNK_ROWS", 2)
    rows = pd.DataFrame({"kind": "gemm", "dtype": "bfloat16", "m": [16, 4096, 256, 8192, 1], "n": 4096, "k": 4096})
    chip = load_chip("h100-sxm")
    alone = [prediction.predict(rows.iloc[[i]], chip).predicted_s.item() for i in range(len(rows))]
    assert prediction.predict(rows, chip).predicted_s.tolist() == alone


def test_what_binds_is_told():
    rows = [
        {"kind": "gemm", "dtype": "bfloat16", "m": 8192, "n": 8192, "k": 8192},
        {"kind": "gemm", "dtype": "bfloat16", "m": 1, "n": 16384, "k": 16384},
        {"kind": "copy", "dtype": "bfloat16", "elements": 10},
    ]
    predicted = prediction.predict(pd.DataFrame(rows), load_chip("h100-sxm"))
    assert predicted.bound_by.tolist() == ["matrix", "hbm", "launch"]
    assert (predicted.predicted_s >= predicted.bound_s).all()
    assert (predicted.joules > 0).all()


def test_a_chip_without_energy_constants_has_unknown_joules(build):
    rows = pd.DataFrame([{"kind": "copy", "dtype": "bfloat16", "elements": 10}])
    assert np.isnan(prediction.predict(rows, build.chip()).joules.item())


def test_a_type_without_energy_leaves_the_joules_of_other_rows():
    chip = load_chip("h100-sxm")
    assert "float64" not in dict(chip.energy.matrix_j_per_flop)
    rows = pd.DataFrame(
        [{"kind": "gemm", "dtype": dtype, "m": 64, "n": 64, "k": 64} for dtype in ("bfloat16", "float64")]
    )
    together, alone = (prediction.predict(some, chip).joules.tolist() for some in (rows, rows[:1]))
    assert together[0] == alone[0] > 0
    assert np.isnan(together[1])


def test_rows_that_differ_in_operand_types_only_are_not_merged():
    # m = k, so 4-byte weights with a 2-byte output move as many bytes as the reverse; the product is another.
    row = {"kind": "gemm", "dtype": "bfloat16", "m": 4096, "n": 4096, "k": 4096}
    wide_weights = {**row, "weight_dtype": "float32", "output_dtype": "bfloat16"}
    wide_output = {**row, "weight_dtype": "bfloat16", "output_dtype": "float32"}
    chip = load_chip("h100-sxm")
    together = prediction.predict(pd.DataFrame([wide_weights, wide_output]), chip).predicted_s.tolist()
    alone = [prediction.predict(pd.DataFrame([each]), chip).predicted_s.item() for each in (wide_weights, wide_output)]
    assert together == alone
    assert alone[0] != alone[1]


def test_a_memory_counts_at_the_bandwidth_that_the_plan_gives_it():
    # Long attention is far from memory-bound at the chip's bandwidth, and bound by it at a thousandth, its own part.
    row = {"kind": "attention", "dtype": "bfloat16", "batch": 8, "queries": 2048, "keys": 2048, "causal": 1}
    frame = pd.DataFrame([{**row, "heads": 32, "head_dim": 128}])
    chip = load_chip("h100-sxm")
    own = "attention.prefill.memory_efficiency"
    slow = replace(chip, calibration=(*(each for each in chip.calibration if each[0] != own), (own, 1e-3)))
    assert prediction.predict(frame, chip, conditions="program").bound_by.item() != "hbm"
    assert prediction.predict(frame, slow, conditions="program").bound_by.item() == "hbm"
