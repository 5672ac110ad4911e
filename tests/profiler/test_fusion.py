"""The fused view: what joins, what stays apart, and what is conserved."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from profiler.capture import capture, phase
from profiler.errors import TraceError
from profiler.fusion import fuse
from profiler.traces import Calls, Trace


def record(program):
    with torch.no_grad(), capture() as recording:
        program()
    return recording.trace


def names(trace):
    return [trace.ops[i].name.replace("aten::", "") for i in trace.calls.op]


def moved(trace):
    frame = trace.to_frame()
    return (frame.read_bytes + frame.write_bytes).sum()


def test_pointwise_chain_becomes_one_op_that_moves_its_ends():
    x, y = torch.zeros(8), torch.zeros(8)
    eager = record(lambda: (x + y).exp().mul(2.0))
    fused = fuse(eager)
    assert names(fused) == ["add + exp + mul"]
    assert moved(eager) == (2 + 1 + 1 + 1 + 1 + 1) * 32
    assert moved(fused) == (2 + 1) * 32
    assert fused.to_frame().flops.sum() == eager.to_frame().flops.sum() == 24


def test_activation_joins_its_product():
    x, w = torch.zeros(4, 8), torch.zeros(16, 8)
    fused = fuse(record(lambda: functional.silu(functional.linear(x, w))))
    (op,) = fused.ops
    assert (op.kind, op.name) == ("gemm", "aten::linear + aten::silu")
    assert op.read_bytes() == (4 * 8 + 16 * 8) * 4
    assert op.write_bytes() == 4 * 16 * 4
    assert (op.matrix_flops, op.vector_flops) == (2 * 4 * 16 * 8, 4 * 4 * 16)


def test_an_op_keeps_all_of_its_many_inputs():
    parts = [torch.zeros(4) for _ in range(70)]
    (op,) = fuse(record(lambda: torch.cat(parts).exp())).ops
    assert op.name == "aten::cat + aten::exp"
    assert len(op.inputs) == 70
    assert op.read_bytes() == op.write_bytes() == 70 * 4 * 4


def test_tensor_that_is_read_again_later_is_still_written():
    x, w = torch.zeros(4, 4), torch.zeros(4, 4)

    def program():
        a = functional.linear(x, w)
        b = a.exp()
        c = functional.linear(b, w)
        return c + a

    fused = fuse(record(program))
    assert names(fused) == ["linear + exp", "linear + add"]
    assert fused.ops[0].write_bytes() == 2 * 64


def test_softmax_over_a_product_stays_a_kernel_of_its_own():
    x, w = torch.zeros(4, 4), torch.zeros(4, 4)
    fused = fuse(record(lambda: torch.softmax(functional.linear(x, w), -1)))
    assert names(fused) == ["linear", "softmax"]


def test_row_operation_takes_the_pointwise_op_that_feeds_it_away_from_the_product():
    x, w = torch.zeros(4, 4), torch.zeros(4, 4)

    def rms_norm_after_residual():
        h = functional.linear(x, w) + x
        return h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)

    fused = fuse(record(rms_norm_after_residual))
    assert names(fused) == ["linear + add", "pow + mean + add + rsqrt + mul"]
    assert fused.ops[1].read_bytes() == 64
    assert fused.ops[1].write_bytes() == 64


def test_nothing_fuses_across_phases():
    x = torch.zeros(4)

    def program():
        with phase("a"):
            y = x + 1
        with phase("b"):
            y.exp()

    assert names(fuse(record(program))) == ["add", "exp"]


def test_fusing_conserves_flops_and_never_moves_more():
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    x = torch.zeros(2, 5, 16)
    eager = record(lambda: layer(x))
    fused = fuse(eager)
    assert fused.to_frame().flops.sum() == eager.to_frame().flops.sum()
    assert moved(fused) <= moved(eager)
    assert len(fused.calls) <= len(eager.calls)
    assert fused.view == "fused"
    assert fuse(fused) is fused


def test_trace_without_dataflow_cannot_be_fused():
    eager = record(lambda: torch.zeros(4).exp())
    columns = {name: getattr(eager.calls, name) for name in ("op", "phase", "step", "module", "stream")}
    times = {name: getattr(eager.calls, name) for name in ("start_s", "duration_s", "energy_j")}
    bare = Trace(
        name="imported",
        ops=eager.ops,
        calls=Calls(**columns, **times, reads=np.empty(0, dtype=np.int64), writes=np.empty(0, dtype=np.int64)),
        phases=eager.phases,
        modules=eager.modules,
        provenance=eager.provenance,
    )
    with pytest.raises(TraceError, match="no dataflow"):
        fuse(bare)
