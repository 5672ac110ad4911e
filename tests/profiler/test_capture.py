"""Capture of real PyTorch code on CPU and meta: what is recorded, with answers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from profiler.capture import capture, mark_role, phase
from profiler.errors import TraceError, UnknownOperationError

DEVICES = ("cpu", "meta")


class Toy(torch.nn.Module):
    """Embedding, one attention block and a language head: 50 tokens, width 16, 2 heads."""

    def __init__(self, device):
        super().__init__()
        with torch.device(device):
            self.embedding = torch.nn.Embedding(50, 16)
            self.qkv = torch.nn.Linear(16, 48, bias=False)
            self.norm = torch.nn.RMSNorm(16)
            self.head = torch.nn.Linear(16, 50, bias=False)

    def forward(self, tokens):
        x = self.norm(self.embedding(tokens))
        q, k, v = self.qkv(x).view(*tokens.shape, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        x = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(x.transpose(1, 2).reshape(*tokens.shape, 16))


def run_toy(device, context=torch.no_grad):
    model = Toy(device)
    tokens = torch.zeros(2, 6, dtype=torch.long, device=device)
    with context(), capture(name="toy") as recording, phase("forward", step=3):
        model(tokens)
    return recording.trace


@pytest.mark.parametrize("device", DEVICES)
def test_calls_of_a_small_model_have_the_costs_worked_out_by_hand(device):
    frame = run_toy(device).to_frame()
    assert list(frame.kind) == ["gather", "norm", "gemm", "attention", "gemm"]
    # 12 rows x 48 x 16, heads 2 x 2 x 6 x 6 x 8 twice, 12 rows x 50 x 16
    assert list(frame.matrix_flops) == [0, 0, 2 * 12 * 48 * 16, 2 * 2 * (2 * 2) * 6 * 6 * 8, 2 * 12 * 50 * 16]
    assert frame.read_weights_bytes.tolist() == [12 * 16 * 4, 16 * 4, 48 * 16 * 4, 0, 50 * 16 * 4]
    # Q, K, V read once, the output written once; the 6 x 6 scores never reach memory.
    attention = frame.iloc[3]
    assert attention.read_bytes == 3 * 2 * 6 * 16 * 4
    assert attention.write_bytes == 2 * 6 * 16 * 4
    assert frame.write_logits_bytes.tolist() == [0, 0, 0, 0, 12 * 50 * 4]
    assert set(frame.phase) == {"forward"}
    assert set(frame.step) == {3}
    assert list(frame.module) == ["Toy.embedding", "Toy.norm", "Toy.qkv", "Toy", "Toy.head"]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_meta_trace_equals_cpu_trace(context):
    cpu, meta = run_toy("cpu", context), run_toy("meta", context)
    assert cpu.ops == meta.ops
    assert np.array_equal(cpu.calls.op, meta.calls.op)
    assert np.array_equal(cpu.calls.reads, meta.calls.reads)
    assert np.array_equal(cpu.calls.writes, meta.calls.writes)


def test_only_a_real_run_is_timed():
    cpu, meta = run_toy("cpu"), run_toy("meta")
    assert np.isfinite(cpu.calls.duration_s).all()
    assert (cpu.calls.duration_s > 0).all()
    ends = cpu.calls.start_s + cpu.calls.duration_s
    assert (cpu.calls.start_s[1:] >= ends[:-1]).all()
    assert np.isnan(meta.calls.duration_s).all()
    assert not meta.is_measured


def test_capture_changes_no_result():
    model = Toy("cpu")
    tokens = torch.randint(0, 50, (2, 6))
    with torch.no_grad():
        expected = model(tokens)
        with capture():
            recorded = model(tokens)
    assert torch.equal(expected, recorded)


def test_gradients_flow_through_a_captured_program():
    weight = torch.nn.Parameter(torch.randn(4, 4))
    x = torch.randn(3, 4)
    with capture() as recording:
        functional.silu(functional.linear(x, weight)).sum().backward()
    captured = weight.grad.clone()
    weight.grad = None
    functional.silu(functional.linear(x, weight)).sum().backward()
    assert torch.allclose(captured, weight.grad)
    # forward product, and the weight's gradient; x needs none
    assert recording.trace.to_frame().query("kind == 'gemm'").matrix_flops.tolist() == [96, 96]


@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode])
def test_matrix_flops_equal_the_flop_counter_of_torch(grad):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 64, 10)
    ).to("meta")
    x = torch.empty(2, 3, 8, 8, device="meta")
    with grad():
        with FlopCounterMode(display=False) as counter:
            model(x)
        with capture() as recording:
            model(x)
    assert recording.trace.to_frame().matrix_flops.sum() == counter.get_total_flops()


@pytest.mark.parametrize("device", DEVICES)
def test_grouped_queries_read_each_kv_head_once(device):
    q = torch.zeros(1, 8, 4, 16, device=device)
    k = torch.zeros(1, 2, 4, 16, device=device)
    with torch.no_grad(), capture() as recording:
        out = functional.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    (op,) = recording.trace.ops
    assert out.shape == q.shape
    assert (op.size("heads"), op.size("kv_heads")) == (8, 2)
    assert op.read_bytes() == (8 + 2 + 2) * 4 * 16 * 4
    assert op.matrix_flops == 2 * 2 * 8 * 4 * 4 * 16


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("p", "training"), [(0.1, False), (0.0, True)])
def test_dropout_that_drops_nothing_moves_nothing(device, p, training):
    x = torch.ones(4, 8, device=device)

    with torch.inference_mode(), capture() as recording:
        dropped = functional.dropout(x, p, training)

    assert dropped is x
    assert recording.trace.ops == ()


def test_attention_with_more_keys_than_queries_reads_a_kv_cache():
    q, kv = torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 5, 8)
    with torch.no_grad(), capture() as recording:
        functional.scaled_dot_product_attention(q, kv, kv)
        torch.cat([kv, kv[:, :, :1]], 2)
    frame = recording.trace.to_frame()
    assert frame.read_kv_cache_bytes.tolist() == [2 * 2 * 5 * 8 * 4, (5 + 1) * 2 * 8 * 4]
    assert frame.write_kv_cache_bytes.tolist() == [0, 6 * 2 * 8 * 4]


def test_marked_storage_keeps_its_role_through_views():
    cache = mark_role(torch.zeros(4, 8), "kv_cache")
    with torch.inference_mode(), capture() as recording:
        cache[1:3].copy_(torch.ones(2, 8))
        _ = cache[:2] + 1
    frame = recording.trace.to_frame().query("kind != 'copy' or write_kv_cache_bytes > 0")
    assert frame.write_kv_cache_bytes.tolist() == [2 * 8 * 4, 0]
    assert frame.read_kv_cache_bytes.tolist() == [0, 2 * 8 * 4]


def test_tensor_made_while_recording_can_be_marked():
    with torch.no_grad(), capture() as recording:
        cache = mark_role(torch.zeros(2, 4), "kv_cache")
        _ = cache + 1
    assert recording.trace.to_frame().read_kv_cache_bytes.tolist() == [0, 32]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_weight_used_through_a_view_is_still_a_weight(context):
    weight = torch.nn.Parameter(torch.randn(8, 4))
    with context(), capture() as recording:
        torch.randn(3, 8).matmul(weight)
        torch.randn(3, 4) @ weight.t()
    assert recording.trace.to_frame().query("kind == 'gemm'").read_weights_bytes.tolist() == [128, 128]


def test_expanded_tensor_moves_its_distinct_bytes():
    row = torch.ones(1, 8)
    with torch.no_grad(), capture() as recording:
        row.expand(4, 8).exp()
    (op,) = recording.trace.ops
    assert (op.read_bytes(), op.write_bytes()) == (32, 128)


class Caller(torch.nn.Module):
    """Calls chosen parts of a network one by one."""

    def __init__(self, network, parts):
        super().__init__()
        self.network = network
        self.parts_in_turn = parts  # a plain list: not registered as children

    def forward(self):
        for part in self.parts_in_turn:
            part(torch.zeros(1, 4))


def every_way_of_replay(device):
    """Repeated operations that give a new tensor, write in place, and take a list or tensors by name."""
    x, y, weight = (torch.ones(4, 8, device=device) for _ in range(3))
    with torch.no_grad(), capture() as recording:
        for _ in range(3):
            z = x.exp()
            assert z.add_(y) is z
            joined = torch.cat([z, y], dim=-1)
            normed = torch.rms_norm(joined[:, :8], (8,), weight=weight[0])
            x = torch.nn.functional.silu(normed)
    return recording.trace, x


def test_replayed_operations_are_recorded_as_those_that_ran():
    (cpu, on_cpu), (meta, on_meta) = every_way_of_replay("cpu"), every_way_of_replay("meta")
    assert [cpu.ops[op].name for op in cpu.calls.op] == [
        "aten::exp", "aten::add_", "aten::cat", "aten::rms_norm", "aten::silu"
    ] * 3  # fmt: skip
    assert meta.ops == cpu.ops
    for column in ("op", "reads", "writes", "replaces"):
        assert np.array_equal(getattr(meta.calls, column), getattr(cpu.calls, column))
    assert on_meta.is_meta and (on_meta.shape, on_meta.stride()) == (on_cpu.shape, on_cpu.stride())


def test_operation_known_from_meta_still_computes_elsewhere():
    x, y = torch.full((4, 8), 2.0), torch.empty(4, 8, device="meta")
    with torch.no_grad(), capture():
        for _ in range(3):
            assert torch.nn.functional.silu(y).is_meta
        found = torch.nn.functional.silu(x)
    assert found[0, 0].item() == pytest.approx(2 / (1 + math.exp(-2)), rel=1e-6)


def test_views_and_metadata_are_dropped():
    x = torch.zeros(4, 4)
    with torch.no_grad(), capture() as recording:
        x.view(16)[2:].unsqueeze(0).expand(3, 14).transpose(0, 1)
        torch.empty_like(x).size()
        x.detach().chunk(2)
    assert len(recording.trace.calls) == 0


@pytest.fixture
def strange_operation():
    with torch.library._scoped_library("roofscape_test", "DEF") as library:
        library.define("strange(Tensor x) -> Tensor")
        library.impl("strange", lambda x: x * 2, "CompositeExplicitAutograd")
        yield torch.ops.roofscape_test.strange


def test_operation_without_rule_keeps_its_traffic_and_is_named(strange_operation):
    x = torch.zeros(4)
    with torch.no_grad(), capture() as recording:
        strange_operation(x)
    frame = recording.trace.to_frame()
    assert frame.kind.tolist() == ["unknown"]
    assert frame.flops.isna().all()
    assert (frame.read_bytes.tolist(), frame.write_bytes.tolist()) == ([16], [16])
    assert [op.name for op in recording.trace.unknown_ops] == ["roofscape_test::strange"]


def test_strict_capture_raises_at_an_operation_without_rule(strange_operation):
    refused = pytest.raises(UnknownOperationError, match="roofscape_test::strange: no cost rule")
    with refused, torch.no_grad(), capture(strict=True):
        strange_operation(torch.zeros(4))


def test_program_that_raises_is_left_alone_and_hooks_are_removed():
    unwatched = torch.nn.Module.__call__
    with pytest.raises(ZeroDivisionError), capture() as recording:
        raise ZeroDivisionError
    with pytest.raises(TraceError, match="complete only after"):
        _ = recording.trace
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert not torch.nn.modules.module._global_forward_hooks
    assert torch.nn.Module.__call__ is unwatched


def test_dataflow_ids_join_producer_and_consumer():
    with torch.no_grad(), capture() as recording:
        a = torch.ones(4)
        b = a * 2
        b.add_(a)
        _ = b.exp()
    calls = recording.trace.calls
    ones, product, sum_, _ = calls.writes.tolist()
    assert calls.reads.tolist() == [ones, product, ones, sum_]


def test_operation_whose_output_depends_on_values_is_costed_by_what_it_gave():
    x = torch.arange(8.0)
    with torch.no_grad(), capture() as recording:
        for count in (3, 5, 3):
            x[x < count]
    selected = recording.trace.to_frame().query("kind == 'gather'")
    assert selected.write_bytes.tolist() == [12, 20, 12]


def test_repeated_program_adds_calls_but_no_ops():
    model = Toy("meta")
    tokens = torch.zeros(1, 4, dtype=torch.long, device="meta")
    with torch.no_grad(), capture() as recording:
        for step in range(10):
            with phase("denoise", step=step):
                model(tokens)
    trace = recording.trace
    assert (len(trace.ops), len(trace.calls)) == (5, 50)
    assert trace.call_counts.tolist() == [10] * 5
    assert trace.calls.step.tolist() == [step for step in range(10) for _ in range(5)]


def test_nested_phases_join_and_inherit_the_step():
    with torch.no_grad(), capture() as recording, phase("generate", step=2), phase("sample"):
        torch.ones(2).exp()
    frame = recording.trace.to_frame()
    assert set(frame.phase) == {"generate/sample"}
    assert set(frame.step) == {2}


@pytest.mark.gpu
def test_cuda_calls_are_timed_by_events():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, and there is none")
    x = torch.randn(2048, 2048, device="cuda", dtype=torch.bfloat16)
    with torch.no_grad(), capture() as recording:
        for _ in range(5):
            _ = x @ x
    frame = recording.trace.to_frame().query("kind == 'gemm'")
    assert len(frame) == 5
    assert (frame.duration_s > 2 * 2048**3 / 5e15).all()  # no GPU reaches 5 PFLOP/s in bf16
    assert (frame.duration_s < 0.1).all()


@pytest.mark.parametrize("device", DEVICES)
def test_writes_name_the_version_that_stood_in_the_same_storage(device):
    outside = torch.ones(2, 4, device=device)
    with torch.no_grad(), capture() as recording:
        cache = torch.empty(8, 4, device=device)
        cache[:2].copy_(outside)
        doubled = outside * 2
        doubled.add_(1)
        cache[2:4].copy_(doubled)
    trace, calls = recording.trace, recording.trace.calls
    assert [trace.ops[i].name for i in calls.op] == ["aten::copy_", "aten::mul", "aten::add_", "aten::copy_"]
    first, product, _added, _second = calls.writes.tolist()
    assert calls.replaces.tolist() == [trace.allocations.version[0], 0, product, first]
    assert trace.allocations.size_bytes.tolist() == [8 * 4 * 4, 2 * 4 * 4]
    assert trace.allocations.is_outside.tolist() == [0, 1]


def test_allocation_at_the_address_of_a_freed_storage_is_a_new_one():
    with torch.no_grad(), capture() as recording:
        for _ in range(3):
            buffer = torch.empty(1000)
            buffer.fill_(1.0)
            del buffer
    calls = recording.trace.calls
    assert calls.replaces.tolist() == recording.trace.allocations.version.tolist()
    assert len(set(calls.replaces.tolist())) == 3


def test_recording_that_only_counts_differs_in_times_alone():
    model, tokens = Toy("cpu"), torch.zeros(2, 6, dtype=torch.long)
    with torch.no_grad():
        with capture() as timed:
            model(tokens)
        with capture(timing=False) as counted:
            model(tokens)
    assert counted.trace.ops == timed.trace.ops
    for column in ("op", "module", "reads", "writes", "replaces"):
        assert np.array_equal(getattr(counted.trace.calls, column), getattr(timed.trace.calls, column))
    assert not counted.trace.is_measured
    assert np.isnan(counted.trace.calls.start_s).all()
    assert counted.trace.provenance.clock_hz is None


def test_module_paths_are_those_of_named_modules_with_parts_that_stand_in_two_places():
    tied, deep = torch.nn.Linear(4, 4), torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model = torch.nn.Sequential(torch.nn.Sequential(tied, deep), tied, None, deep[1], torch.nn.Linear(4, 4))
    parts = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    with torch.no_grad(), capture() as recording:
        model[0](torch.zeros(1, 4))  # called alone, it is the root
        Caller(model, parts)()
    frame = recording.trace.to_frame().query("kind == 'gemm'")
    assert frame.module.tolist()[:3] == ["Sequential.0", "Sequential.1.0", "Sequential.1.1"]
    names = {id(part): name for name, part in Caller(model, parts).named_modules()}
    assert frame.module.tolist()[3:] == [f"Caller.{names[id(part)]}" for part in parts]


def test_module_paths_follow_a_tree_that_changes_between_calls():
    inner, other = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    model = torch.nn.Sequential(inner)
    with torch.no_grad(), capture() as recording:
        model(torch.zeros(1, 4))
        model.append(other)
        model(torch.zeros(1, 4))
        del model[0]
        model(torch.zeros(1, 4))
    paths = recording.trace.to_frame().query("kind == 'gemm'").module.tolist()
    assert paths == ["Sequential.0", "Sequential.0", "Sequential.1", "Sequential.0"]


def test_overlapping_recordings_leave_module_calls_as_they_were():
    unwatched = torch.nn.Module.__call__
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad(), capture() as outer:
        layer(torch.zeros(1, 2))
        with capture() as inner:
            layer(torch.zeros(1, 2))
    assert torch.nn.Module.__call__ is unwatched
    assert inner.trace.to_frame().query("kind == 'gemm'").module.tolist() == ["Linear"]
    assert len(outer.trace.calls) >= 1


def test_reshape_that_copies_is_recorded_and_one_that_views_is_not():
    x = torch.zeros(4, 6)
    with torch.no_grad(), capture() as recording:
        x.reshape(24)
        x.flatten()
        x.t().reshape(24)
    assert [op.kind for op in recording.trace.ops] == ["copy"]
    assert len(recording.trace.calls) == 1


@pytest.mark.parametrize("device", DEVICES)
def test_layer_norm_copies_rows_that_do_not_lie_one_behind_the_other(device):
    """As its CUDA kernel does inside; what lies in rows is not copied."""
    transposed = torch.ones(2, 4, 6, device=device).transpose(1, 2)
    with torch.no_grad(), capture(name="norms") as recording:
        normed = functional.layer_norm(transposed, (4,))
        functional.layer_norm(normed, (4,))
    assert [recording.trace.ops[i].name for i in recording.trace.calls.op] == [
        "aten::clone",
        "aten::native_layer_norm",
        "aten::native_layer_norm",
    ]
    assert normed.is_contiguous()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("trained", "product"), [(True, ["aten::clone", "aten::mm"]), (False, ["aten::bmm"])])
def test_linear_layer_of_a_slice_is_a_product_and_a_bias(device, trained, product):
    """ATen adds a bias within the product only where rows lie one behind the other (Linear.cpp).

    Else it lays them out anew for weights that want gradients, and multiplies batch by batch for others
    (LinearAlgebra.cpp, should_fold).
    """
    layer = torch.nn.Linear(4, 3, device=device).requires_grad_(trained)
    rows = torch.ones(2, 5, 4, device=device)
    with torch.no_grad(), capture(name="layers") as recording:
        whole, part = layer(rows), layer(rows[:, :2])
    names = [recording.trace.ops[i].name for i in recording.trace.calls.op]
    assert names == ["aten::linear", *product, "aten::add_"]
    assert part.shape == (2, 2, 3)
    if device == "cpu":
        torch.testing.assert_close(part, whole[:, :2])


@pytest.mark.parametrize("grad", [True, False])
def test_attention_of_a_module_hands_its_output_on_and_leaves_its_statistics_out(grad: bool) -> None:
    """Below dispatch attention on a CPU gives two tensors, output and log-sum-exp; only the first is an operand."""
    layer = torch.nn.MultiheadAttention(16, 2, batch_first=True).eval()
    x = torch.randn(2, 8, 16)
    with torch.set_grad_enabled(grad), capture(name="attention") as recording:
        for _ in range(2):
            layer(x, x, x, need_weights=False)
    trace = recording.trace
    ops, calls = trace.ops, trace.calls
    assert len(calls.writes) == sum(len(ops[op].outputs) for op in calls.op)
    reads, writes = iter(calls.reads.tolist()), iter(calls.writes.tolist())
    per_call = [
        ([next(reads) for _ in ops[op].inputs], [next(writes) for _ in ops[op].outputs], ops[op].kind)
        for op in calls.op
    ]
    places = [index for index, (_, _, kind) in enumerate(per_call) if kind == "attention"]
    assert len(places) == 2
    for place in places:  # its projection comes next
        assert per_call[place][1][0] in per_call[place + 1][0]
    known = set(calls.writes.tolist()) | set(trace.allocations.version.tolist())
    assert set(calls.reads.tolist()) <= known  # nothing is read that nobody wrote


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_attention_of_a_module_is_one_operation_on_meta_as_on_cpu(grad: bool, masked: bool) -> None:
    """2 sequences, 2 heads, 8 queries and keys of width 8: 2 x 2 products of 2 x 8 x 8 x 8 FLOPs a head."""
    found = {}
    for device in DEVICES:
        layer = torch.nn.MultiheadAttention(16, 2, batch_first=True, device=device).eval()
        x = torch.randn(2, 8, 16, device=device)
        mask = torch.zeros(8, 8, device=device) if masked else None
        with torch.set_grad_enabled(grad), capture(name="attention") as recording:
            layer(x, x, x, need_weights=False, attn_mask=mask)
        ops = recording.trace.ops
        (attention,) = [op for op in ops if op.kind == "attention"]
        assert attention.matrix_flops == 2 * 2 * 2 * (2 * 8 * 8 * 8)
        # Flash kernels write positions of a sequence behind one another, so that on meta a copy follows.
        found[device] = [(op.kind, op.name, op.sizes) for op in ops if op.kind in ("attention", "gemm")]
    assert found["cpu"] == found["meta"]
    assert functional.scaled_dot_product_attention.__name__ == "scaled_dot_product_attention"


def test_every_call_has_a_version_for_each_of_its_operands() -> None:
    """Operations of one, two and three outputs, in place and not, with operands or without."""
    x, image = torch.randn(4, 8, 16), torch.randn(1, 4, 8, 8)
    encoder = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    for program in (
        lambda: x.topk(2),
        lambda: torch.nn.functional.max_pool2d(image, 2, return_indices=True),
        lambda: torch.nn.functional.group_norm(image, 2),
        lambda: torch.nn.LSTM(16, 8)(x),
        lambda: torch.ops.aten.native_dropout(x, 0.5, True),
        lambda: x.clone().add_(1.0),
        lambda: encoder(x).sum().backward(),
    ):
        with capture(name="any") as recording:
            program()
        calls, ops = recording.trace.calls, recording.trace.ops
        assert len(calls.writes) == len(calls.replaces) == sum(len(ops[op].outputs) for op in calls.op)
        assert len(calls.reads) == sum(len(ops[op].inputs) for op in calls.op)
