"""Real traces, recorded by others: every kernel is counted, and what the H100 did is explained."""

from pathlib import Path

import numpy as np
import pytest

from profiler.importers.kineto import import_kineto
from profiler.importers.summary import KernelSummary, is_gemm_kernel, summarize_kernels
from profiler.op import MATRIX_KINDS
from profiler.traces import ATTRIBUTIONS, Trace

# NVIDIA H100 datasheet, SXM: dense bfloat16 tensor-core peak.
H100_PEAK_FLOPS_PER_S = 989e12


@pytest.fixture(scope="module")
def h100(traces_folder: Path) -> Trace:
    return import_kineto(traces_folder / "kineto_h100_qwen1.5-0.5b-chat.json.gz")


@pytest.fixture(scope="module")
def h100_summary(h100: Trace) -> KernelSummary:
    return summarize_kernels(h100)


def test_h100_kernels_and_their_time_are_all_there(h100: Trace, h100_summary: KernelSummary) -> None:
    assert h100_summary.kernel_count == 1465
    assert h100_summary.kernel_s == pytest.approx(45.4e-3, rel=5e-3)
    assert h100_summary.copy_count == 242
    assert h100.calls.duration_s.sum() == pytest.approx(h100.kernels.duration_s.sum(), rel=1e-12)
    assert h100.provenance.device == "NVIDIA H100 80GB HBM3"
    assert ("torch", "2.6.0") in h100.provenance.packages


def test_h100_gemm_time_is_explained_by_ops_with_shapes(h100: Trace, h100_summary: KernelSummary) -> None:
    assert h100_summary.gemm_explained_ratio is not None
    assert h100_summary.gemm_explained_ratio >= 0.95
    matrix = [op for op in h100.ops if op.kind in MATRIX_KINDS]
    assert all(op.matrix_flops for op in matrix)
    # FlashAttention is built on CUTLASS, so a count by that name alone finds 16.65 ms.
    wide = np.array(["gemm" in name or "cutlass" in name for name in h100.kernel_names])[h100.kernels.name]
    has_flops = np.array([bool(op.matrix_flops) for op in h100.ops])[h100.calls.op[h100.kernels.call]]
    assert h100.kernels.duration_s[wide].sum() == pytest.approx(16.65e-3, rel=1e-3)
    assert h100.kernels.duration_s[wide & has_flops].sum() >= 0.95 * h100.kernels.duration_s[wide].sum()


def test_h100_products_run_at_plausible_rates(h100: Trace) -> None:
    """Every large product stays below the peak, and together they reach what such shapes reach on an H100."""
    flops = np.array([float(op.matrix_flops or 0) for op in h100.ops])[h100.calls.op]
    is_gemm = np.array([op.kind == "gemm" for op in h100.ops])[h100.calls.op]
    large = is_gemm & (flops > 1e9)
    rates = flops[large] / h100.calls.duration_s[large]
    assert rates.max() < H100_PEAK_FLOPS_PER_S
    assert rates.min() > 300e12
    assert 500e12 < flops[large].sum() / h100.calls.duration_s[large].sum() < 750e12


def test_h100_step_counts_the_model_of_24_layers(h100: Trace) -> None:
    """Qwen1.5-0.5B: hidden 1,024, intermediate 2,816, 24 layers, no head; 16 x 559 tokens, causal attention."""
    inside = np.array([ATTRIBUTIONS[index] for index in h100.kernels.attribution]) != "repeat"
    recorded = np.zeros(len(h100.calls), dtype=bool)
    recorded[h100.kernels.call[inside]] = True
    step = h100.select(recorded)
    flops = dict.fromkeys(("gemm", "attention"), 0)
    for op, count in zip(step.ops, step.call_counts, strict=True):
        if op.kind in flops and op.matrix_flops and op.dtype == "bfloat16":
            flops[op.kind] += op.matrix_flops * int(count)
    tokens = 16 * 559
    assert flops["gemm"] == 24 * 2 * tokens * (4 * 1024 * 1024 + 3 * 1024 * 2816)
    assert flops["attention"] == 24 * 4 * 16 * 16 * 559 * 559 * 64
    weights = sum((op.read_bytes("weights") or 0) * int(n) for op, n in zip(step.ops, step.call_counts, strict=True))
    assert weights == 24 * 2 * (4 * 1024 * 1024 + 3 * 1024 * 2816 + 3 * 1024) + tokens * 1024 * 2


def test_h100_kernels_before_the_window_repeat_the_tail_of_the_step(h100: Trace, h100_summary: KernelSummary) -> None:
    assert h100_summary.repeated_count == 436
    assert h100_summary.repeated_s == pytest.approx(13.7e-3, rel=5e-3)
    assert h100_summary.unexplained_count == 0
    assert any("509 device events" in note and "inferred" in note for note in h100.provenance.notes)
    phases = {h100.phases[index] for index in h100.calls.phase}
    assert phases == {"", "(before the window)"}
    assert set(h100.calls.step.tolist()) == {6, -1}


def test_h100_calls_know_their_modules(h100: Trace) -> None:
    linear = [path for path in h100.modules if path.startswith("Qwen2Model_0/Qwen2DecoderLayer_23/Qwen2Attention_23/")]
    assert len(linear) == 4


def test_alexnet_ignores_external_ids_that_number_launches(traces_folder: Path) -> None:
    trace = import_kineto(traces_folder / "kineto_a100_alexnet.json.gz")
    summary = summarize_kernels(trace)
    assert (summary.kernel_count, summary.copy_count, summary.unexplained_count) == (79, 19, 0)
    assert any("(record_shapes=True) records them." in note for note in trace.provenance.notes)
    assert summary.kernel_s == pytest.approx(10.692e-3, rel=1e-6)
    # Of its 19 events that are no kernels, 16 are called "Memcpy HtoD (Pageable -> Device)".
    assert (summary.host_copy_count, summary.copy_count - summary.host_copy_count) == (16, 3)
    op_of = {
        trace.kernel_names[name]: trace.ops[trace.calls.op[call]].name
        for name, call in zip(trace.kernels.name, trace.kernels.call, strict=True)
    }
    assert op_of["ampere_sgemm_32x32_sliced1x4_tn"] == "aten::addmm"
    assert {op for name, op in op_of.items() if "implicit_gemm" in name} == {"aten::cudnn_convolution"}
    assert summary.gemm_explained_ratio == 0.0
    assert trace.provenance.device == "NVIDIA A100-PG509-200 (39 GiB)"  # of 42,297,524,224 bytes


def test_ddp_training_keeps_collectives_with_their_sizes(traces_folder: Path) -> None:
    trace = import_kineto(traces_folder / "kineto_a100_nccl.json.gz")
    summary = summarize_kernels(trace)
    assert (summary.kernel_count, summary.copy_count) == (2700, 1074)
    assert summary.kernel_s == pytest.approx(162.532e-3, rel=1e-5)
    collectives = [op for op in trace.ops if op.kind == "collective"]
    assert {op.name for op in collectives} == {"c10d::allreduce_", "c10d::broadcast_"}
    assert {op.size("ranks") for op in collectives} == {2}
    assert sum(int(n) for op, n in zip(trace.ops, trace.call_counts, strict=True) if op.kind == "collective") == 21
    assert set(trace.calls.step.tolist()) <= {-1, 4, 5, 6}


def test_graph_replayed_decode_keeps_every_kernel(traces_folder: Path) -> None:
    trace = import_kineto(traces_folder / "kineto_mi300x_sglang_qwen3-8b_decode.json.gz")
    summary = summarize_kernels(trace)
    assert (summary.kernel_count, summary.copy_count) == (555, 3)
    assert summary.kernel_s == pytest.approx(9.77e-3, rel=1e-3)
    assert summary.busy_s == pytest.approx(9.77e-3, rel=1e-3)
    assert summary.unexplained_count == 547
    assert trace.provenance.device == "AMD Instinct MI300X (192 GiB)"
    assert any("544 kernels were replayed from a captured graph" in note for note in trace.provenance.notes)
    assert sum(is_gemm_kernel(name) for name in trace.kernel_names) == 5


def test_no_op_of_any_trace_has_zero_for_unknown(traces_folder: Path) -> None:
    for path in sorted(traces_folder.glob("kineto_*.json.gz")):
        trace = import_kineto(path)
        for op in trace.ops:
            if op.kind == "unknown":
                assert op.flops is None
                assert op.read_bytes() is None or op.write_bytes() is None
        frame = trace.to_frame()
        assert len(frame) == len(trace.calls)
        assert frame.loc[frame.kind == "unknown", "flops"].isna().all()


def test_h100_ops_move_no_more_bytes_than_the_memory_can(h100: Trace) -> None:
    """3.35 TB/s is the SXM datasheet's; the few kernels below 5 us may be served by the second-level cache."""
    frame = h100.to_frame()
    long = frame[frame.duration_s > 5e-6]
    rates = (long.read_bytes + long.write_bytes) / long.duration_s
    assert rates.notna().all()
    assert rates.max() < 3.35e12
    assert rates[long.kind == "pointwise"].max() > 2.5e12
