"""Error bands: looked up from the most specific, combined over ops, saved, and covering what they promise."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from roofline.chip_families import with_constants_of
from roofline.chipfile import load_chip
from simulator.analytic import simulate
from simulator.bands import Band, OpBands, combine, kernel_families, load_bands, op_bands, save_bands
from simulator.errors import SimulationError
from simulator.op_frame import ops_from_frame
from simulator.validation.bands_from_tables import own_bands
from simulator.validation.scores import predict_s
from simulator.validation.silicon import package_folder, silicon_table
from simulator.validation.table_files import file_tables
from simulator.validation.tables import measured_table


def band(low, high, *, chip="h100-sxm", basis="own", op="gemm", dtype="bfloat16", size_class="all"):
    ends = {"low_ratio": low, "high_ratio": high, "rows": 100}
    return Band(chip=chip, basis=basis, op=op, dtype=dtype, size_class=size_class, **ends)


BANDS = (
    band(0.9, 1.1),
    band(0.8, 1.3, size_class="m 1-16"),
    band(0.7, 1.5, chip="*", basis="family"),
    band(0.5, 2.0, chip="*", basis="foreign"),
    band(0.85, 1.2, op="attention_decode"),
    band(0.95, 1.4, op="attention_bidirectional"),
)
GEMM = {"kind": "gemm", "dtype": "bfloat16", "n": 4096, "k": 4096}
ATTENTION = {"kind": "attention", "dtype": "bfloat16", "batch": 1, "heads": 32, "head_dim": 128}


def ends(row, chip="h100-sxm", **changes):
    loaded = replace(load_chip(chip), **changes)
    found = op_bands(ops_from_frame(pd.DataFrame([row])), loaded, BANDS)
    return found.low_ratio.item(), found.high_ratio.item()


def test_the_most_specific_band_counts():
    assert ends({**GEMM, "m": 8}) == (0.8, 1.3)
    assert ends({**GEMM, "m": 512}) == (0.9, 1.1)
    assert ends({**GEMM, "m": 512, "dtype": "int8"}) == (0.8, 1.3)  # another type: the widest of this chip's
    assert ends({**GEMM, "m": 512}, "h200-sxm") == (0.7, 1.5)  # same family, no band of its own here
    assert ends({**GEMM, "m": 512}, "l40s") == (0.5, 2.0)


@pytest.mark.parametrize(
    ("row", "op"),
    [
        ({**GEMM, "m": 8}, "gemm"),
        ({"kind": "collective", "dtype": "bfloat16", "elements": 4096, "ranks": 8}, "all_reduce"),
    ],
)
def test_a_chip_with_constants_of_another_family_has_no_band_of_its_own(row, op):
    own, moved = load_chip("h100-sxm"), with_constants_of(load_chip("h100-sxm"), load_chip("b200-sxm"))
    ops, bands = ops_from_frame(pd.DataFrame([row])), (*BANDS, band(0.9, 1.1, op=op, size_class="any"))
    assert op_bands(ops, own, bands).low_ratio.item() > 0.5
    assert op_bands(ops, moved, bands).low_ratio.item() == 0.5


def test_a_chip_without_constants_takes_the_band_of_predictions_without_them():
    bands = (*BANDS, band(0.6, 4.0, chip="*", basis="datasheet"), band(0.7, 9.0, chip="*", basis="datasheet", op="moe"))

    def found(chip, **row):
        return op_bands(ops_from_frame(pd.DataFrame([{**GEMM, "m": 64, **row}])), chip, bands)

    bare = replace(load_chip("h100-sxm"), calibration=(("matrix_efficiency", 0.5),))  # of all kernels, not of these
    assert (found(bare).low_ratio.item(), found(bare).high_ratio.item()) == (0.6, 4.0)
    assert found(bare).basis == ("gemm without constants",)
    assert found(load_chip("tpu-v5e")).high_ratio.item() == found(load_chip("mi300x")).high_ratio.item() == 4.0
    assert found(load_chip("h100-sxm")).high_ratio.item() == 1.1
    assert found(replace(bare, is_measured=True)).high_ratio.item() == 1.1  # its rates are measured, not a datasheet's
    layer = {"kind": "moe", "tokens": 64, "hidden": 64, "inter": 64, "experts": 8, "topk": 2}
    assert found(bare, **layer).high_ratio.item() == 9.0


@pytest.mark.skipif(package_folder() is None, reason="the extra `silicon` (aiconfigurator-core) is not installed")
@pytest.mark.parametrize(
    ("op", "dtype", "backend"),
    [
        ("gemm", "bfloat16", "trtllm"),
        ("attention_prefill", "bfloat16", "vllm"),
        ("attention_decode", "bfloat16", "vllm"),
        ("moe", "bfloat16", "trtllm"),
        ("all_reduce", "bfloat16", "nccl"),
    ],
)
def test_bands_without_constants_hold_measured_kernels_of_all_chips(op, dtype, backend):
    """Rows held out, of four GPUs pooled, each as a chip that nobody knows."""
    inside = []
    for name in ("h100-sxm", "b200-sxm", "a100-sxm-80gb", "l40s"):
        table = silicon_table(load_chip(name), op, dtype, backend).half(held_out=True)
        table = table.take(np.arange(0, len(table), max(1, len(table) // 500)))
        unknown = replace(load_chip(name), name="unknown", family="unknown", calibration=())
        bands, ratio = op_bands(table.ops, unknown), table.measured_s / predict_s(table, unknown)
        inside.append(((ratio >= bands.low_ratio) & (ratio <= bands.high_ratio)).mean())
    assert 0.82 < np.mean(inside) < 0.97


def test_a_block_against_a_cache_takes_the_wider_of_its_neighbors():
    assert ends({**ATTENTION, "queries": 1, "keys": 999}) == (0.85, 1.2)
    assert ends({**ATTENTION, "queries": 999, "keys": 999}) == (0.95, 1.4)
    assert ends({**ATTENTION, "queries": 32, "keys": 999}) == (0.85, 1.4)


@pytest.mark.parametrize(
    ("row", "families"),
    [
        ({"kind": "gemm", "m": 1, "n": 1, "k": 1}, ("gemm",)),
        ({"kind": "pointwise", "elements": 9}, ("elementwise",)),
        ({**ATTENTION, "queries": 1, "keys": 99, "causal": 1}, ("attention_decode",)),
        ({**ATTENTION, "queries": 99, "keys": 99, "causal": 1}, ("attention_prefill",)),
        ({**ATTENTION, "queries": 9, "keys": 99, "causal": 1}, ("attention_prefill",)),
        ({**ATTENTION, "queries": 9, "keys": 99}, ("attention_decode", "attention_bidirectional")),
        ({**ATTENTION, "queries": 99, "keys": 99}, ("attention_bidirectional",)),
        # The filters that Mamba-2 was measured with: up to four positions of each channel by itself.
        ({"kind": "conv", "sequences": 1, "positions": 64, "channels": 8, "window": 4}, ("mamba2",)),
        ({"kind": "conv", "sequences": 1, "positions": 64, "channels": 8, "window": 5}, ("conv",)),
        ({"kind": "conv", "sequences": 1, "positions": 64, "channels": 1, "window": 4}, ("conv",)),
        ({"kind": "scan", "rows": 8, "columns": 8}, ("scan",)),
        ({"kind": "scan", "rows": 64, "columns": 64, "state": 64, "head_dim": 64, "delta": 1}, ("delta_rule",)),
        ({"kind": "collective", "elements": 9, "ranks": 8, "name": "all_reduce"}, ("all_reduce",)),
        ({"kind": "collective", "elements": 9, "ranks": 8, "name": "alltoall"}, ("alltoall",)),
        ({"kind": "collective", "elements": 9, "ranks": 8, "name": "all_gather"}, ("all_gather", "reduce_scatter")),
    ],
)
def test_ops_are_validated_as_the_kernels_that_tables_measure(row, families):
    ops = ops_from_frame(pd.DataFrame([{"dtype": "bfloat16", **row}]))
    assert [found for found, chosen in kernel_families(ops) if chosen.any()] == [families]


@pytest.mark.parametrize(
    ("kind", "relative"),
    [
        *((kind, "elementwise") for kind in ("copy", "random", "gather", "scatter")),
        *((kind, "row_scale") for kind in ("reduction", "norm", "softmax")),
    ],
)
def test_kinds_without_a_table_take_the_foreign_band_of_their_relative(kind, relative):
    """Elements go one way, rows another; even where the relative was measured on this very chip."""
    bands = [band(0.9, 1.1, op="elementwise"), band(0.9, 1.1, op="row_scale")]
    bands += [band(0.6, 1.7, chip="*", basis="foreign", op="elementwise")]
    bands += [band(0.4, 2.2, chip="*", basis="foreign", op="row_scale")]
    sizes = {"elements": 9, "rows": 3, "row_bytes": 4, "columns": 4}
    found = op_bands(
        ops_from_frame(pd.DataFrame([{"kind": kind, "dtype": "bfloat16", **sizes}])), load_chip("l40s"), bands
    )
    assert found.low_ratio.item() == {"elementwise": 0.6, "row_scale": 0.4}[relative]
    assert found.basis == (f"{kind} by its nearest relative, {relative}, with constants of another family",)


def test_the_widest_band_is_the_widest_by_its_ratio_of_chips_with_constants_of_another_family():
    """2.2 over 0.4 is wider than 3.9 over 0.8, and chips without constants tell nothing of those that have some."""
    bands = [band(0.4, 2.2, chip="*", basis="foreign"), band(0.8, 3.9, chip="*", basis="foreign", op="moe")]
    bands += [band(0.1, 9.0, chip="*", basis="datasheet")]
    ops = ops_from_frame(pd.DataFrame([{"kind": "softmax", "dtype": "float32", "rows": 3, "columns": 4}]))
    found = op_bands(ops, load_chip("h100-sxm"), bands)
    assert (found.low_ratio.item(), found.high_ratio.item()) == (0.4, 2.2)


def test_what_no_table_holds_takes_the_widest_band_and_says_so():
    ops = ops_from_frame(pd.DataFrame([{"kind": "softmax", "dtype": "float32", "rows": 3, "columns": 4}]))
    found = op_bands(ops, load_chip("h100-sxm"), BANDS)
    assert (found.low_ratio.item(), found.high_ratio.item()) == (0.5, 2.0)
    assert found.basis == ("kinds that no table holds: the widest band taken",)
    assert op_bands(ops, load_chip("h100-sxm"), ()) is None


def test_what_nobody_knows_errs_together():
    rows = [
        {"kind": "softmax", "rows": 3, "columns": 4},
        {"kind": "copy", "elements": 5},
        {**GEMM, "m": 8},
        {**GEMM, "m": 99},
        {**GEMM, "m": 99},
    ]
    ops = ops_from_frame(pd.DataFrame(rows).assign(dtype=["float32", "bfloat16", "bfloat16", "bfloat16", "int8"]))
    found = op_bands(ops, load_chip("h100-sxm"), BANDS)
    first, second, small, large, narrow = found.group
    assert found.basis == ("kinds that no table holds: the widest band taken", "gemm measured on h100-sxm")
    assert first == second != small
    assert small == large  # of two size classes, but by one model
    assert narrow not in (first, small)  # units of another type


def test_deviations_add_within_a_group_and_in_squares_between_groups():
    bands = OpBands(
        low_ratio=np.array([0.7, 0.6]), high_ratio=np.array([1.3, 1.4]), group=np.array([0, 1]), basis=("", "")
    )
    low_s, high_s = combine(np.array([1.0, 1.0]), np.array([1.0, 1.0]), bands)
    assert (low_s, high_s) == pytest.approx((2 - 0.5, 2 + 0.5))  # 0.3 and 0.4 combine to 0.5
    low_s, high_s = combine(np.array([1.0, 0.5]), np.array([1.0, 2.0]), replace(bands, group=np.array([0, 0])))
    assert (low_s, high_s) == pytest.approx((2 - 0.7, 2 + 0.7))


def test_bands_survive_saving_and_damage_is_one_line(tmp_path):
    path = tmp_path / "bands.json"
    save_bands(BANDS, path)
    assert load_bands(path) == BANDS
    document = json.loads(path.read_text())
    for damaged in ({**document, "schema": 9}, {"schema": 1}, {**document, "bands": [{"chip": "x"}]}, []):
        path.write_text(json.dumps(damaged))
        with pytest.raises(SimulationError, match=r"bands\.json: not a file of error bands"):
            load_bands(path)


def test_a_band_from_one_half_covers_the_other(tmp_path):
    generator = np.random.default_rng(7)
    m = np.arange(1, 3001)
    frame = pd.DataFrame({"kind": "gemm", "dtype": "float32", "m": m, "n": 64, "k": 64, "measured_s": 1.0})
    frame["measured_s"] = np.exp(generator.normal(0.0, 0.1, len(m)))
    frame.to_csv(tmp_path / "own.csv", index=False)
    (table,) = file_tables(tmp_path / "own.csv", load_chip("h100-sxm"))
    whole = own_bands(table, np.ones(len(table)))[0]
    # 90 % of a normal distribution lie within 1.645 standard deviations; 1,500 rows know that end to about 4 %.
    assert np.log([whole.low_ratio, whole.high_ratio]) == pytest.approx([-0.1645, 0.1645], abs=0.015)
    assert 0.87 < whole.coverage < 0.93


def test_a_simulation_carries_its_band(build, monkeypatch):
    monkeypatch.setattr("simulator.bands.shipped_bands", lambda: BANDS)
    result = simulate(build.trace([build.gemm(512, 4096, 4096)], [0]), load_chip("h100-sxm"))
    assert result.low_s == pytest.approx(0.9 * result.makespan_s)
    assert result.high_s == pytest.approx(1.1 * result.makespan_s)
    assert (result.band_reason, result.band_basis) == ("", ("gemm measured on h100-sxm",))


def test_every_table_of_a_pooled_band_weighs_alike():
    """900 rows met exactly and 100 measured at twice their prediction: a tenth of all rows, but half of the tables."""

    def table(count, low):
        numbers = np.arange(low, low + count)
        frame = pd.DataFrame({"m": numbers, "n": 1, "k": 1, "kind": "gemm", "dtype": "bfloat16", "measured_s": 1e-3})
        return measured_table(
            frame, chip=load_chip("h100-sxm"), op="gemm", dtype="bfloat16", backend="x", keys=("m",), source=""
        )

    many, few = table(900, 10_000), table(100, 20_000)
    alone = own_bands(many, many.measured_s)[0]
    assert (alone.low_ratio, alone.high_ratio) == (1.0, 1.0)
    pooled = own_bands(many, many.measured_s, [(few, few.measured_s / 2)])[0]
    assert (pooled.low_ratio, pooled.high_ratio) == (1.0, 2.0)
    assert pooled.coverage == 1.0
