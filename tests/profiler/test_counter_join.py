"""Counters of one run beside the ops of another: matched by name and order, explained in a sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
from foreign_samples import KERNEL_EVENT, KINETO_EVENTS, NCU_METRICS, kineto_bytes, ncu_bytes, write_nsys
from typer.testing import CliRunner

from profiler.counter_join import join_counters
from profiler.errors import TraceError
from profiler.importers.kineto import import_kineto
from profiler.importers.ncu import import_ncu
from profiler.importers.nsys import import_nsys
from profiler.traffic import explain_traffic, op_traffic

# A 64 x 128 by 128 x 32 product in bfloat16: what it reads and writes.
MM_BYTES = 2 * (64 * 128 + 128 * 32 + 64 * 32)


def write(path: Path, contents: bytes) -> Path:
    path.write_bytes(contents)
    return path


def test_counters_of_the_file_are_in_base_units(tmp_path: Path) -> None:
    trace = import_ncu(write(tmp_path / "c.csv", ncu_bytes()))
    counters = {name: trace.counted(name)[0] for name in ("dram_bytes", "l2_bytes", "l1_bytes", "spill_bytes")}
    assert counters == {"dram_bytes": 1_001_000.0, "l2_bytes": 2.5e6, "l1_bytes": 4e6, "spill_bytes": 1e6}
    assert trace.counted("tensor_instructions").tolist() == [1024.0]
    assert np.isnan(trace.counted("vector_flops")).all()  # not all of its instructions were counted
    assert np.isnan(trace.calls.duration_s).all()


def test_counters_join_the_op_that_launched_the_kernel_and_its_times_stay(tmp_path: Path) -> None:
    """The two profilers print the kernel differently: `good<int>(int*)` and `good<(int)4>(int *)`."""
    trace = import_kineto(write(tmp_path / "k.json", kineto_bytes()))
    metrics = (("dram__bytes.sum", "byte", str(MM_BYTES // 2)), ("lts__t_bytes.sum", "byte", "99999"))
    joined = join_counters(trace, import_ncu(write(tmp_path / "c.csv", ncu_bytes(metrics=metrics))))
    assert joined.calls == trace.calls
    (row,) = op_traffic(joined)
    assert joined.ops[row.op].name == "aten::mm"
    assert (row.modeled_bytes, row.dram_bytes) == (MM_BYTES, MM_BYTES // 2)
    assert row.explanation == "Cache hits: 50 % of the bytes asked for never reached main memory."
    assert any("Hardware counters of 1 of 1 kernels come from another run" in note for note in joined.provenance.notes)


def test_nth_kernel_of_a_name_gets_the_nth_counters_and_unequal_numbers_get_none(tmp_path: Path) -> None:
    events = [
        {**KERNEL_EVENT, "name": name, "ts": 100 + at, "args": {}} for at, name in enumerate(("a", "b", "a", "c"))
    ]
    trace = import_kineto(write(tmp_path / "k.json", kineto_bytes(*events)))
    parts = [ncu_bytes("a", metrics=(("dram__bytes.sum", "byte", "1"),))]
    for number, (name, value) in enumerate((("a", "2"), ("b", "3"), ("b", "4"), ("c", "5")), start=1):
        rows = ncu_bytes(name, metrics=(("dram__bytes.sum", "byte", value),)).partition(b'Metric Value"\n')[2]
        parts.append(rows.replace(b'"0","43201"', f'"{number}","43201"'.encode()))
    joined = join_counters(trace, import_ncu(write(tmp_path / "c.csv", b"".join(parts))))
    assert joined.kernels.dram_bytes.tolist()[::2] == [1.0, 2.0]
    assert np.isnan(joined.kernels.dram_bytes[1])
    assert joined.kernels.dram_bytes[3] == 5.0
    assert any("launched different numbers of kernels (b...)" in note for note in joined.provenance.notes)


def test_trace_without_kernels_or_counters_is_refused(tmp_path: Path) -> None:
    kineto = import_kineto(write(tmp_path / "k.json", kineto_bytes()))
    counted = import_ncu(write(tmp_path / "c.csv", ncu_bytes()))
    with pytest.raises(TraceError, match="holds no hardware counters to join"):
        join_counters(counted, kineto)
    with pytest.raises(TraceError, match="holds no kernels"):
        join_counters(kineto.select(np.zeros(len(kineto.calls), dtype=bool)), counted)


def test_every_reason_has_its_sentence() -> None:
    assert explain_traffic(100.0, 100.0, 400.0).startswith("Reuse: ")
    assert "4.0 times" in explain_traffic(100.0, 100.0, 400.0)
    assert explain_traffic(None, 5.0) == "Not compared: the bytes asked for are unknown."
    assert explain_traffic(0.0, 5.0) == "Not compared: no bytes are asked for."
    assert explain_traffic(5.0, None) == "Not compared: the bytes at main memory were not counted."


def test_command_line_joins_and_shows_measured_beside_modeled_bytes(tmp_path: Path) -> None:
    from reports.cli import app

    kineto, counters = write(tmp_path / "k.json", kineto_bytes()), write(tmp_path / "c.csv", ncu_bytes())
    plain, both = tmp_path / "k.parquet", tmp_path / "both.parquet"
    assert CliRunner().invoke(app, ["import", "kineto", str(kineto), "-o", str(plain)]).exit_code == 0
    arguments = ["import", "ncu", str(counters), "--onto", str(plain), "-o", str(both)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    shown = CliRunner().invoke(app, ["roofline", str(both), "--chip", "h100-sxm"])
    assert "Spills: 25 % of the first-level caches' bytes" in " ".join(shown.output.split())
    result = CliRunner().invoke(app, ["roofline", str(both), "--chip", "h100-sxm", "--json"])
    (row,) = json.loads(result.stdout)["traffic"]
    assert (row["modeled_bytes"], row["dram_bytes"], row["spill_bytes"]) == (MM_BYTES, 1_001_000.0, 1e6)


def test_report_shows_measured_beside_modeled_bytes_where_there_are_counters(tmp_path: Path) -> None:
    from reports.pages.registry import build_page
    from reports.subject import Subject
    from reports.tables import build_tables
    from roofline.chipfile import load_chip

    trace = import_kineto(write(tmp_path / "k.json", kineto_bytes()))
    joined = join_counters(trace, import_ncu(write(tmp_path / "c.csv", ncu_bytes())))
    titles = []
    for number, subject in enumerate((trace, joined)):
        tables = build_tables([Subject(label=str(number), trace=subject, chip=load_chip("h100-sxm"))])
        views = [view for section in build_page("roofline", tables).sections for view in section.tables]
        titles.append([view for view in views if view.title.startswith("Memory traffic")])
    assert titles[0] == []
    ((cells,),) = [view.texts() for view in titles[1]]
    assert cells[1].startswith("Spills: 25 %")
    assert cells[3:] == ("28.7 kB", "1.00 MB", "2.50 MB", "4.00 MB", "1.00 MB")


def test_cupti_ranges_join_the_launches_in_order_and_their_invented_times_are_left_out(tmp_path: Path) -> None:
    """The profiler spreads the ranges evenly over its window, so 40.5 us and 2.5 us say nothing of the kernel."""
    counters = {"dram__bytes.sum": 5, "lts__t_sectors.sum": 2.0}
    ranged = {**KERNEL_EVENT, "cat": "cuda_profiler_range", "args": counters}
    trace = import_kineto(write(tmp_path / "k.json", kineto_bytes(*KINETO_EVENTS[:3], ranged)))
    assert [op.name for op in trace.ops] == ["aten::mm"]
    assert (trace.counted("dram_bytes")[0], trace.counted("l2_bytes")[0]) == (5.0, 64.0)
    assert np.isnan(trace.calls.duration_s[0]) and np.isnan(trace.kernels.start_s[0])
    assert trace.calls.step.tolist() == [3]
    lonely = import_kineto(write(tmp_path / "l.json", kineto_bytes(*KINETO_EVENTS[:3], ranged, ranged)))
    assert {op.kind for op in lonely.ops} == {"unknown"}  # one launch, two ranges: no order to go by


def test_ranks_of_a_folder_are_on_one_clock_and_keep_their_streams(tmp_path: Path) -> None:
    """Rank 1's file counts from 3 us later, so its kernel starts 3 us after that of rank 0."""
    folder = tmp_path / "run"
    folder.mkdir()
    base = 1_700_000_000_000_000_000
    for rank in (0, 1):
        info = {"backend": "nccl", "rank": rank, "world_size": 2}
        contents = kineto_bytes(KERNEL_EVENT, distributedInfo=info, baseTimeNanoseconds=base + 3000 * rank)
        write(folder / f"rank{rank}.json", contents)
    trace = import_kineto(folder)
    assert trace.kernels.start_s.tolist() == pytest.approx([0.0, 3e-6], abs=1e-12)
    assert trace.kernels.stream.tolist() == [7, 100_007]
    assert [phase.split("/")[0] for phase in trace.phases] == ["rank 0", "rank 1"]
    write(folder / "again.json", contents)
    with pytest.raises(TraceError, match=r"is of rank 1, as is again\.json"):
        import_kineto(folder)
    write(folder / "again.json", kineto_bytes(KERNEL_EVENT, distributedInfo={}))
    with pytest.raises(TraceError, match="names no rank"):
        import_kineto(folder)


@pytest.mark.parametrize("properties", [None, [], {}, [None], [{"id": 0}], "x"])
def test_device_properties_may_be_missing_or_anything(tmp_path: Path, properties: object) -> None:
    trace = import_kineto(write(tmp_path / "k.json", kineto_bytes(KERNEL_EVENT, deviceProperties=properties)))
    assert trace.provenance.device == ""
    assert len(trace.kernels) == 1


def test_nsys_names_the_gpu_where_the_export_does(tmp_path: Path) -> None:
    database = write_nsys(tmp_path / "n.sqlite")
    database.executescript(
        "CREATE TABLE TARGET_INFO_GPU (id INTEGER, name TEXT); INSERT INTO TARGET_INFO_GPU VALUES (0, 'A GPU')"
    )
    database.close()
    trace = import_nsys(tmp_path / "n.sqlite")
    assert trace.provenance.device == "A GPU"
    assert trace.ops[trace.calls.op[0]].name == "aten::mm"
    assert trace.phases[trace.calls.phase[0]] == "forward"
    assert trace.kernels.start_s.tolist() == pytest.approx([0.0, 3e-6])
    assert trace.kernels.duration_s.tolist() == pytest.approx([2.5e-6, 1e-6])


def test_sample_metrics_are_all_wanted() -> None:
    from profiler.importers.nvidia_metrics import WANTED_METRICS

    assert {name for name, _, _ in NCU_METRICS} <= set(WANTED_METRICS)
