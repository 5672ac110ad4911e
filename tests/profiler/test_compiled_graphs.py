"""Compiled functions under capture: run compiled where that is asked for, and what is not seen is told."""

import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

from profiler.capture import capture, phase
from profiler.costs.call import AtenCall, TensorMeta
from profiler.costs.rules import build_op
from profiler.errors import UnknownOperationError

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="Inductor needs a C++ compiler, and there is none"
)


def test_bytes_and_flops_of_a_compiled_graph_are_unknown_and_not_those_of_its_tensors():
    table = TensorMeta(shape=(1000, 64), dtype="float32", strides=(64, 1), role="weights")
    rows = TensorMeta(shape=(4, 64), dtype="float32", strides=(64, 1), role="activations")
    call = AtenCall(name="inductor::graph_0", args=(table,), outputs=(rows,))
    op = build_op(call)
    assert (op.kind, op.flops, op.read_bytes(), op.write_bytes()) == ("unknown", None, None, None)
    assert [operand.shape for operand in (*op.inputs, *op.outputs)] == [(1000, 64), (4, 64)]
    with pytest.raises(UnknownOperationError, match="inductor::graph_0"):
        build_op(call, strict=True)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(16, 16)

    def forward(self, x):
        return torch.relu(self.layer(x)).exp() * 2 + 1


@pytest.fixture(scope="module")
def compiled():
    """(module, the same compiled, a compiled function with a break in its graph)."""
    block = Block()

    def broken(x):
        y = x.exp()
        torch._dynamo.graph_break()
        return y * 2

    return block, torch.compile(block), torch.compile(broken)


@pytest.mark.slow
@needs_compiler
def test_compiled_module_is_one_measured_call_between_the_others(compiled):
    block, fast, _ = compiled
    x = torch.randn(8, 16)
    call_of_modules = torch.nn.Module.__call__
    with torch.no_grad(), capture(compiled=True) as recording:
        for step in range(3):
            with phase("denoise", step=step):
                y = fast(x.neg())
                y.sum()
    assert torch.allclose(y, block(-x), atol=1e-5)
    frame = recording.trace.to_frame()
    assert frame.name.tolist() == ["aten::neg", "inductor::graph_0", "aten::sum"] * 3
    graphs = frame[frame.kind == "unknown"]
    assert (graphs.duration_s > 0).all() and graphs.flops.isna().all() and graphs.read_bytes.isna().all()
    assert graphs.step.tolist() == [0, 1, 2] and set(graphs.phase) == {"denoise"}
    (op,) = recording.trace.unknown_ops
    assert sorted(operand.shape for operand in op.inputs) == [(8, 16), (16,), (16, 16)]
    assert "did beside" not in recording.trace.provenance.notes[-1]
    assert "3 calls of compiled functions, with their gradients, ran 3 graphs" in recording.trace.provenance.notes[-1]
    # the sum reads what the graph wrote
    calls = recording.trace.calls
    assert calls.reads[-1] == calls.writes[-2]
    assert torch.nn.Module.__call__ is call_of_modules
    assert torch.overrides._get_current_function_mode_stack() == []


@pytest.mark.slow
@needs_compiler
def test_without_asking_it_runs_operation_by_operation(compiled):
    _, fast, _ = compiled
    x = torch.randn(8, 16)
    with torch.no_grad(), capture() as recording:
        fast(x)
    names = recording.trace.to_frame().name.tolist()
    assert names == ["aten::linear", "aten::relu", "aten::exp", "aten::mul", "aten::add"]


@pytest.mark.slow
@needs_compiler
def test_function_that_breaks_its_graph_is_told_in_a_note(compiled):
    *_, broken = compiled
    x = torch.randn(8, 16)
    with torch.no_grad(), capture(compiled=True) as recording:
        y = broken(x)
    assert torch.allclose(y, x.exp() * 2)
    assert recording.trace.to_frame().name.tolist() == ["inductor::graph_0", "inductor::graph_1"]
    note = recording.trace.provenance.notes[-1]
    assert "1 calls of compiled functions, with their gradients, ran 2 graphs" in note
    assert "1 of them ran as none or several, and what they did beside these was not seen" in note


@pytest.mark.slow
@needs_compiler
def test_gradients_of_a_compiled_function_are_a_graph_of_their_own():
    layer, x = torch.nn.Linear(16, 16), torch.randn(8, 16)
    fast = torch.compile(lambda given: layer(given).tanh() * 3)
    with capture(compiled=True) as recording:
        fast(x).sum().backward()
    found = layer.weight.grad.clone()
    layer.zero_grad()
    (layer(x).tanh() * 3).sum().backward()
    assert torch.allclose(found, layer.weight.grad, rtol=1e-4, atol=1e-5)
    names = recording.trace.to_frame().name.tolist()
    assert names[0] == "inductor::graph_0" and names.count("inductor::graph_1") == 1
    note = recording.trace.provenance.notes[-1]
    assert "1 calls of compiled functions, with their gradients, ran 2 graphs" in note and "did beside" not in note


@pytest.mark.slow
@needs_compiler
def test_function_that_fails_leaves_the_recording_as_it_was(compiled):
    *_, broken = compiled
    with torch.no_grad(), capture(compiled=True) as recording:
        with pytest.raises(Exception, match="exp"):
            broken("text")
        torch.ones(4).exp()
    assert "aten::exp" in recording.trace.to_frame().name.tolist()
    assert recording.trace.calls.duration_s[-1] > 0


@pytest.mark.slow
@needs_compiler
def test_command_line_runs_a_script_compiled(tmp_path):
    from reports.cli import app

    script = tmp_path / "script.py"
    script.write_text(
        "import torch\nf = torch.compile(lambda x: x.sin() * 2)\ndef main():\n    f(torch.ones(64, 64).neg())\n"
    )
    arguments = ["capture", f"py:{script}", "--compiled", "--warmup", "1", "--json", "-o", str(tmp_path / "t.parquet")]
    answer = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    by_kind = {row["kind"]: row for row in answer["by_kind"]}
    assert by_kind["unknown"]["calls"] == 1 and by_kind["unknown"]["duration_s"] > 0
    assert list(answer["unknown_ops"]) == ["inductor::graph_0"]
