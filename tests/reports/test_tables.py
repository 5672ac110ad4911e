import dataclasses

import numpy as np
import pandas as pd
import pytest
from pytest import approx

from reports.errors import ReportError
from reports.frames import MAX_ROWS
from reports.tables import Tables, build_tables
from simulator.analytic import simulate


def row_of(frame: pd.DataFrame, **where: object) -> pd.Series:
    for name, value in where.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1, f"{len(frame)} rows where {where}"
    return frame.iloc[0]


def test_summary_of_hand_worked_trace(tables: Tables):
    row = row_of(tables.summary, subject="Toy decoding")
    assert row["calls"] == 9
    assert row["flops"] == 3 * (1024 + 100)
    assert row["bytes"] == 3 * (448 + 800 + 400)
    assert row["weights_share"] == approx(256 / 1648)
    assert row["kv_cache_share"] == approx(400 / 1648)
    assert row["logits_share"] == approx(64 / 1648)
    # DRAM at 10 GB/s takes longer than 100 GFLOP/s of products and 10 GFLOP/s of additions.
    assert row["bound_s"] == approx(3 * 1648 / 1e10)
    assert row["bound_by"] == "dram"
    assert row["measured_s"] == approx(18e-6)
    assert row["measured_tokens_per_s"] == approx(3 / 18e-6)
    assert row["efficiency"] == approx(3 * 1648 / 1e10 / 18e-6)


def test_summary_takes_simulated_figures_from_the_simulation(tables: Tables, denoising):
    row = row_of(tables.summary, subject="Toy denoising")
    assert row["simulated_s"] == denoising.simulation.makespan_s
    assert row["simulated_tokens_per_s"] == approx(8 / denoising.simulation.makespan_s)
    assert row["j_per_token"] == approx(denoising.simulation.energy_j / 8)
    assert row["simulated_low_s"] == denoising.simulation.low_s < row["simulated_s"]
    assert row["simulated_high_s"] == denoising.simulation.high_s > row["simulated_s"]
    assert row["band"] == ""  # the reason why there is none


def test_unknown_stays_unknown(tables: Tables, hostile):
    row = row_of(tables.summary, subject=hostile.label)
    assert np.isnan(row["simulated_s"])
    assert np.isnan(row["energy_j"])
    assert np.isnan(row["tokens"])
    assert row["energy_reason"] == "not simulated"
    unknown = row_of(tables.unknown, subject=hostile.label)
    assert unknown["missing"] == "FLOPs"
    assert unknown["calls"] == 1
    undrawn = row_of(tables.points, subject=hostile.label, grouping="op", kind="unknown", basis="bound")
    assert undrawn["undrawn"] == "FLOPs unknown"
    assert np.isnan(undrawn["intensity"])


def test_measured_times_of_another_device_stand_under_no_roofline(tables: Tables, hostile):
    mine = tables.points[tables.points["subject"] == hostile.label]
    assert "measured" not in set(mine["basis"])
    kinds = tables.kinds[(tables.kinds["subject"] == hostile.label) & (tables.kinds["basis"] == "measured")]
    assert kinds["duration_s"].sum() == approx(6e-6)
    assert set(kinds["device"]) == {"toy device"}


def test_points_of_every_basis(tables: Tables, decoding):
    where = {"subject": "Toy decoding", "grouping": "op", "kind": "gemm"}
    bound, simulated, measured = (row_of(tables.points, basis=b, **where) for b in ("bound", "simulated", "measured"))
    assert bound["intensity"] == approx(1024 / 448)
    assert bound["flops_per_s"] == approx(1024 / 448 * 1e10)
    assert measured["flops_per_s"] == approx(1024 / 2e-6)
    assert measured["share"] == approx(1 / 3)
    assert simulated["duration_s"] == approx(3 * decoding.simulation.op_duration_s[0])
    assert simulated["efficiency"] == approx(bound["duration_s"] / simulated["duration_s"])


def test_op_without_flops_has_no_place_on_logarithmic_axes(tables: Tables):
    row = row_of(tables.points, subject="Toy decoding", grouping="op", kind="copy", basis="simulated")
    assert row["undrawn"] == "no FLOPs: it only moves data"
    assert np.isnan(row["flops_per_s"])
    assert row["intensity"] == 0


def test_phase_figures_are_per_step(tables: Tables):
    row = row_of(tables.phases, subject="Toy decoding")
    assert row["phase"] == "decode"
    assert row["steps"] == 3
    assert row["flops_per_step"] == 1124
    assert row["bytes_per_step"] == 1648
    assert row["measured_s_per_step"] == approx(6e-6)


def test_comparison_divides_by_forwards_and_tokens(tables: Tables):
    where = {"subject": "Toy denoising", "metric": "flops"}
    assert row_of(tables.comparison, per="forward", **where)["value"] == 1124
    assert row_of(tables.comparison, per="token", **where)["value"] == 2 * 1124 / 8


def test_comparison_without_counts_is_unknown(tables: Tables, hostile):
    assert tables.comparison[tables.comparison["subject"] == hostile.label]["value"].isna().all()


def test_bytes_of_roles_add_up(tables: Tables):
    per_subject = tables.roles.groupby("subject")["bytes"].sum()
    assert per_subject["Toy decoding"] == 3 * 1648
    assert per_subject["Toy denoising"] == 2 * 1248


def test_simulated_time_by_kind_adds_up(tables: Tables, decoding):
    rows = tables.kinds[(tables.kinds["subject"] == "Toy decoding") & (tables.kinds["basis"] == "simulated")]
    assert rows["duration_s"].sum() == approx(decoding.simulation.duration_s.sum())


def test_timeline_shows_the_middle_step_from_zero(tables: Tables):
    rows = tables.timeline[tables.timeline["subject"] == "Toy decoding"]
    assert set(rows["step"]) == {1.0}
    assert rows["start_s"].min() == 0
    assert rows["kind"].tolist() == ["gemm", "pointwise", "copy"]
    assert (rows["end_s"] - rows["start_s"]).tolist() == approx(rows["duration_s"].tolist())


def test_long_step_is_merged_and_cut_to_the_limit(decoding, toy_chip):
    one_step = dataclasses.replace(
        decoding.trace.calls,
        **{
            name: np.tile(getattr(decoding.trace.calls, name), 1000)
            for name in ("op", "phase", "module", "stream", "start_s", "duration_s", "energy_j")
        },
        step=np.zeros(9000, dtype=np.int64),
    )
    trace = dataclasses.replace(decoding.trace, calls=one_step)
    subject = dataclasses.replace(decoding, trace=trace, simulation=simulate(trace, toy_chip))
    assert 0 < len(build_tables([subject]).timeline) <= MAX_ROWS


def test_unexplained_kernels_are_listed(tables: Tables, hostile):
    kernel = row_of(tables.kernels, subject=hostile.label)
    assert kernel["attribution"] == "unexplained"
    assert kernel["duration_s"] == approx(3e-6)
    totals = row_of(tables.kernel_totals, subject=hostile.label)
    assert totals["unexplained_count"] == 1


def test_provenance_is_kept(tables: Tables):
    items = tables.provenance[tables.provenance["subject"] == "Toy decoding"]
    assert ("trace", "seed", "7") in set(zip(items["stage"], items["item"], items["value"], strict=True))
    assert "made by hand" in set(items["value"])


def test_equal_labels_are_refused(decoding):
    with pytest.raises(ReportError, match="must be unique, got 'Toy decoding' more than once"):
        build_tables([decoding, decoding])


def test_no_subject_is_refused():
    with pytest.raises(ReportError, match="at least one subject"):
        build_tables([])


def test_building_twice_gives_the_same(tables: Tables, decoding, denoising, hostile):
    again = build_tables([decoding, denoising, hostile])
    for field in dataclasses.fields(Tables):
        pd.testing.assert_frame_equal(getattr(tables, field.name), getattr(again, field.name))
