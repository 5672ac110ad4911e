"""A toy chip with round numbers, and a builder of synthetic traces."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from profiler.op import Op, Operand
from profiler.provenance import Provenance
from profiler.traces import Calls, Trace
from roofline.chip import Chip, Memory

TraceBuilder = Callable[..., Trace]


@pytest.fixture
def toy_chip() -> Chip:
    """10 TFLOP/s of bfloat16, 0.1 TFLOP/s of vectors, 1 TB/s from 1 MB of L2, 0.1 TB/s from HBM."""
    return Chip(
        name="toy",
        title="Toy",
        family="toy",
        clock_hz=1e9,
        cores=10,
        launch_s=1e-6,
        matrix_macs=(("bfloat16", 500.0),),
        vector_flops=(("float32", 10.0),),
        special_flops=1.0,
        memories=(
            Memory(name="l2", capacity_bytes=1e6, bandwidth_bytes_per_s=1e12, latency_s=1e-7),
            Memory(name="hbm", capacity_bytes=1e10, bandwidth_bytes_per_s=1e11, latency_s=5e-7),
        ),
    )


@pytest.fixture
def gemm() -> Callable[..., Op]:
    """`gemm(m, n, k)`: bfloat16 [m, k] activations times [k, n] weights."""

    def build(m: int, n: int, k: int, **changes: object) -> Op:
        op = Op(
            kind="gemm",
            name="aten::mm",
            dtype="bfloat16",
            inputs=(
                Operand(shape=(m, k), dtype="bfloat16", moved_bytes=2 * m * k),
                Operand(shape=(k, n), dtype="bfloat16", role="weights", moved_bytes=2 * k * n),
            ),
            outputs=(Operand(shape=(m, n), dtype="bfloat16", moved_bytes=2 * m * n),),
            sizes=(("batch", 1), ("m", m), ("n", n), ("k", k)),
            matrix_flops=2 * m * n * k,
        )
        return replace(op, **changes)  # type: ignore[arg-type]

    return build


@pytest.fixture
def softmax_op() -> Op:
    """5e6 vector FLOPs on 8e6 bytes."""
    million = Operand(shape=(1000, 1000), dtype="float32", moved_bytes=4_000_000)
    return Op(
        kind="softmax",
        name="aten::_softmax",
        dtype="float32",
        inputs=(million,),
        outputs=(million,),
        sizes=(("rows", 1000), ("columns", 1000)),
        vector_flops=5_000_000,
    )


@pytest.fixture
def unknown_op() -> Op:
    """Unknown FLOPs on 1e6 bytes."""
    part = Operand(shape=(250_000,), dtype="float32", moved_bytes=1_000_000)
    return Op(
        kind="unknown", name="mylib::secret", dtype="float32", inputs=(part,), matrix_flops=None, vector_flops=None
    )


@pytest.fixture
def build_trace() -> TraceBuilder:
    """`build_trace(ops, [(op, phase, step), ...], durations)`: one call per tuple."""

    def build(
        ops: Sequence[Op],
        calls: Sequence[tuple[int, str, int]],
        duration_s: Sequence[float] | None = None,
        modules: Sequence[str] | None = None,
    ) -> Trace:
        phases = tuple(dict.fromkeys(phase for _, phase, _ in calls))
        module_names = tuple(dict.fromkeys(modules)) if modules else ("",)
        count = len(calls)
        columns = Calls(
            op=np.array([op for op, _, _ in calls], dtype=np.int64),
            phase=np.array([phases.index(phase) for _, phase, _ in calls], dtype=np.int64),
            step=np.array([step for _, _, step in calls], dtype=np.int64),
            module=np.array([module_names.index(m) for m in modules] if modules else [0] * count, dtype=np.int64),
            stream=np.zeros(count, dtype=np.int64),
            start_s=np.full(count, np.nan),
            duration_s=np.full(count, np.nan) if duration_s is None else np.array(duration_s),
            energy_j=np.full(count, np.nan),
        )
        return Trace(
            name="synthetic",
            ops=tuple(ops),
            calls=columns,
            phases=phases,
            modules=module_names,
            provenance=Provenance(source="test"),
        )

    return build
