"""The chip for a mix: which of three hand-made designs is best for which share, ties, nonsense."""

import numpy as np
import pytest

from explorer.errors import ExplorationError
from explorer.mixes import check_both, design_table, mix_rows
from explorer.parameters import Parameter, ParameterSpace
from explorer.result import Result

PARADIGMS = {"ar": "autoregressive", "dlm": "diffusion"}


def table(ar, dlm, violation=None, reason=None):
    """One parameter whose values are the designs; seconds of both workloads are given."""
    count = len(ar)
    space = ParameterSpace(parameters=(Parameter(name="cores", values=tuple(range(1, count + 1))),))
    names = ("area_mm2", "tdp_w", "bill_usd", "dram_bytes_per_s")
    metrics = {
        "ar.seconds_per_unit": np.array(ar, dtype=float),
        "dlm.seconds_per_unit": np.array(dlm, dtype=float),
        "peak_flops_per_s": 100.0 * np.arange(1, count + 1),
        **{name: np.ones(count) for name in names},
    }
    result = Result(
        costs=np.ones((count, 1)),
        violation=np.zeros(count) if violation is None else np.array(violation),
        reason=np.full(count, "") if reason is None else np.array(reason),
        metrics=metrics,
    )
    return design_table(space, np.arange(count), result, PARADIGMS)


def test_the_chip_changes_where_the_shares_say():
    """Scores are p ln 1 + (1-p) ln 4, ln 1.5 and p ln 4: the middle one is best from p = 0.29 to 0.71."""
    rows = mix_rows(table(ar=[1.0, 1.5, 4.0], dlm=[4.0, 1.5, 1.0]), objective="seconds_per_unit", parts=10)
    assert [row["autoregression"] for row in rows] == pytest.approx(np.linspace(0, 1, 11))
    assert [row["design"] for row in rows] == [2, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0]
    assert rows[5]["loss_autoregression"] == rows[5]["loss_denoising"] == pytest.approx(0.5)
    assert rows[0]["loss_denoising"] == 0 and rows[0]["loss_autoregression"] == pytest.approx(3.0)
    assert rows[0]["mean_autoregression"] == pytest.approx(4.0) and rows[0]["ridge"] == 300.0
    assert rows[-1]["cores"] == 1


def test_of_equal_chips_the_better_for_the_other_work_is_taken():
    rows = mix_rows(table(ar=[1.0, 1.0, 2.0], dlm=[8.0, 2.0, 1.0]), objective="seconds_per_unit", parts=1)
    assert [row["design"] for row in rows] == [2, 1]


def test_designs_that_break_a_limit_do_not_count():
    found = table(ar=[1.0, 2.0], dlm=[1.0, 2.0], violation=[0.1, 0.0], reason=["die_mm2 above 858", ""])
    assert mix_rows(found, objective="seconds_per_unit", parts=1)[0]["design"] == 1
    with pytest.raises(ExplorationError, match="none of 2 designs holds all constraints; most often: too large"):
        table(ar=[1.0, 2.0], dlm=[1.0, 2.0], violation=[0.1, 0.1], reason=["too large"] * 2)


def test_nonsense_is_refused():
    found = table(ar=[1.0], dlm=[1.0])
    with pytest.raises(ExplorationError, match="unknown objective 'area_mm2' of a mix"):
        mix_rows(found, objective="area_mm2", parts=2)
    with pytest.raises(ExplorationError, match="parts must be from 1"):
        mix_rows(found, objective="seconds_per_unit", parts=0)
    with pytest.raises(ExplorationError, match="every workload"):
        check_both({"a": "autoregressive", "b": "autoregressive"})
    with pytest.raises(ExplorationError, match="none of the workloads a, b has paradigm"):
        check_both({"a": "", "b": "diffusion"})
    with pytest.raises(ExplorationError, match="fits the memory of every design"):
        mix_rows(table(ar=[np.nan, 1.0], dlm=[1.0, 1.0]), objective="seconds_per_unit", parts=2)
