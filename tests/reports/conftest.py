"""A toy chip and toy traces whose figures are worked out by hand in the tests."""

import numpy as np
import pytest

from profiler.op import Op, Operand
from profiler.provenance import Provenance
from profiler.traces import ATTRIBUTIONS, Calls, Kernels, Trace
from reports.subject import Subject
from reports.tables import Tables, build_tables
from roofline.chip import Chip, Energy, Memory
from simulator.analytic import simulate

HOSTILE_OP = "custom::<script>alert(1)</script>"
HOSTILE_KERNEL = "</script><img src=x onerror=alert(2)>"
HOSTILE_LABEL = "<b>bold</b> & \"quoted\" 'program'"

# 1,024 FLOPs, 448 bytes of which 256 are weights.
GEMM = Op(
    kind="gemm",
    name="aten::mm",
    dtype="bfloat16",
    inputs=(
        Operand(shape=(4, 16), dtype="bfloat16", moved_bytes=128),
        Operand(shape=(16, 8), dtype="bfloat16", role="weights", moved_bytes=256),
    ),
    outputs=(Operand(shape=(4, 8), dtype="bfloat16", role="logits", moved_bytes=64),),
    sizes=(("batch", 1), ("m", 4), ("n", 8), ("k", 16)),
    matrix_flops=1024,
)
# 100 FLOPs, 800 bytes of activations.
ADD = Op(
    kind="pointwise",
    name="aten::add",
    dtype="float32",
    inputs=(Operand(shape=(100,), dtype="float32", moved_bytes=400),),
    outputs=(Operand(shape=(100,), dtype="float32", moved_bytes=400),),
    sizes=(("elements", 100),),
    vector_flops=100,
)
# No FLOPs, 400 bytes of KV cache.
COPY = Op(
    kind="copy",
    name="aten::copy_",
    dtype="bfloat16",
    inputs=(Operand(shape=(100,), dtype="bfloat16", role="kv_cache", moved_bytes=200),),
    outputs=(Operand(shape=(100,), dtype="bfloat16", role="kv_cache", moved_bytes=200),),
    sizes=(("elements", 100),),
)
UNKNOWN = Op(
    kind="unknown",
    name=HOSTILE_OP,
    dtype="float32",
    inputs=(Operand(shape=(2,), dtype="float32", moved_bytes=8),),
    matrix_flops=None,
    vector_flops=None,
)


def make_trace(
    name: str,
    ops: tuple[Op, ...],
    phase: str,
    steps: int,
    *,
    duration_s: float = float("nan"),
    kernels: Kernels | None = None,
    device: str = "toy device",
) -> Trace:
    """Each step calls every op once; every call takes `duration_s`."""
    calls = len(ops) * steps
    return Trace(
        name=name,
        ops=ops,
        calls=Calls(
            op=np.tile(np.arange(len(ops)), steps),
            phase=np.zeros(calls, dtype=np.int64),
            step=np.repeat(np.arange(steps), len(ops)),
            module=np.zeros(calls, dtype=np.int64),
            stream=np.zeros(calls, dtype=np.int64),
            start_s=np.arange(calls) * duration_s,
            duration_s=np.full(calls, duration_s),
            energy_j=np.full(calls, np.nan),
        ),
        phases=(phase,),
        modules=("",),
        provenance=Provenance(source="capture", device=device, seed=7, notes=("made by hand",)),
        kernels=kernels or Kernels(),
        kernel_names=(HOSTILE_KERNEL,) if kernels is not None else (),
    )


@pytest.fixture(scope="session")
def toy_chip() -> Chip:
    """100 GFLOP/s bfloat16 matrix, 10 GFLOP/s vector, 10 GB/s DRAM, 40 GB/s cache."""
    return Chip(
        name="toy",
        title="Toy chip",
        family="toy",
        clock_hz=1e9,
        cores=1,
        launch_s=1e-6,
        matrix_macs=(("bfloat16", 50.0),),
        vector_flops=(("float32", 10.0),),
        special_flops=1.0,
        memories=(
            Memory(name="l2", capacity_bytes=1e6, bandwidth_bytes_per_s=4e10, latency_s=1e-8),
            Memory(name="dram", capacity_bytes=1e9, bandwidth_bytes_per_s=1e10, latency_s=1e-7),
        ),
        energy=Energy(
            static_w=1.0,
            matrix_j_per_flop=(("bfloat16", 1e-12),),
            vector_j_per_flop=1e-11,
            memory_j_per_byte=(("l2", 1e-12), ("dram", 1e-11)),
        ),
        sources=(("cores", "made up for the tests"),),
    )


@pytest.fixture(scope="session")
def decoding(toy_chip: Chip) -> Subject:
    """Three decode steps, measured on the chip at 2 us a call: 9 calls, 18 us."""
    trace = make_trace("toy-ar", (GEMM, ADD, COPY), "decode", 3, duration_s=2e-6)
    return Subject(
        label="Toy decoding",
        trace=trace,
        chip=toy_chip,
        paradigm="autoregressive",
        simulation=simulate(trace, toy_chip),
        measured_on_chip=True,
        tokens=3,
        nfe=3,
    )


@pytest.fixture(scope="session")
def denoising(toy_chip: Chip) -> Subject:
    """Two denoising steps, not measured."""
    trace = make_trace("toy-diffusion", (GEMM, ADD), "denoise", 2)
    return Subject(
        label="Toy denoising",
        trace=trace,
        chip=toy_chip,
        paradigm="diffusion",
        simulation=simulate(trace, toy_chip),
        tokens=8,
        nfe=2,
    )


@pytest.fixture(scope="session")
def hostile(toy_chip: Chip) -> Subject:
    """A trace of another device, not simulated, with an unknown op and an unexplained kernel of hostile names."""
    kernels = Kernels(
        call=np.array([1]),
        name=np.array([0]),
        category=np.array([0]),
        attribution=np.array([ATTRIBUTIONS.index("unexplained")]),
        stream=np.array([0]),
        start_s=np.array([0.0]),
        duration_s=np.array([3e-6]),
    )
    trace = make_trace(HOSTILE_LABEL, (GEMM, UNKNOWN), "<i>phase</i>", 1, duration_s=3e-6, kernels=kernels)
    return Subject(label=HOSTILE_LABEL, trace=trace, chip=toy_chip)


@pytest.fixture(scope="session")
def tables(decoding: Subject, denoising: Subject, hostile: Subject) -> Tables:
    return build_tables([decoding, denoising, hostile])
