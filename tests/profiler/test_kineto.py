"""Rules of the Kineto importer, each on a hand-written trace of a few events."""

import json
from pathlib import Path
from typing import Any

import pytest

from profiler.errors import UnknownOperationError
from profiler.importers.kineto import import_kineto
from profiler.importers.summary import summarize_kernels
from profiler.traces import ATTRIBUTIONS, KERNEL_CATEGORIES, Trace

Event = dict[str, Any]
BF16 = "c10::BFloat16"


def op(
    name: str, ts: float, dur: float, *, id: int = 0, tid: int = 1, inputs: tuple[Any, ...] = (), **args: Any
) -> Event:
    """A cpu_op; inputs are (dims, type[, strides or None[, concrete]])."""
    if inputs:
        padded = [(*entry, *(None, None, "")[len(entry) - 1 :])[:4] if len(entry) < 4 else entry for entry in inputs]
        args["Input Dims"] = [entry[0] for entry in padded]
        args["Input type"] = [entry[1] for entry in padded]
        args["Input Strides"] = [entry[2] or [] for entry in padded]
        args["Concrete Inputs"] = [entry[3] or "" for entry in padded]
    if id:
        args["External id"] = id
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": 7, "tid": tid, "ts": ts, "dur": dur, "args": args}


def launch(ts: float, correlation: int, *, name: str = "cudaLaunchKernel", tid: int = 1) -> Event:
    args = {"correlation": correlation}
    return {"ph": "X", "cat": "cuda_runtime", "name": name, "pid": 7, "tid": tid, "ts": ts, "dur": 1, "args": args}


def kernel(
    name: str, ts: float, dur: float, correlation: int, *, id: int = 0, cat: str = "kernel", **args: Any
) -> Event:
    args = {"device": 0, "stream": 7, "correlation": correlation, "grid": [1, 1, 1], "block": [128, 1, 1], **args}
    if id:
        args["External id"] = id
    return {"ph": "X", "cat": cat, "name": name, "pid": 0, "tid": 7, "ts": ts, "dur": dur, "args": args}


def span(cat: str, name: str, ts: float, dur: float, *, tid: int = 1) -> Event:
    return {"ph": "X", "cat": cat, "name": name, "pid": 7, "tid": tid, "ts": ts, "dur": dur, "args": {}}


def mm(ts: float, dur: float, *, id: int = 0, m: int = 4, k: int = 8, n: int = 2) -> Event:
    return op("aten::mm", ts, dur, id=id, inputs=(([m, k], BF16, [k, 1]), ([k, n], BF16, [1, k])))


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def build(*events: Event, strict: bool = False, **header: Any) -> Trace:
        path = tmp_path / "sample.json"
        path.write_text(json.dumps({"schemaVersion": 1, "traceEvents": list(events), **header}))
        return import_kineto(path, strict=strict)

    return build


def attributions(trace: Trace) -> list[str]:
    return [ATTRIBUTIONS[index] for index in trace.kernels.attribution]


def test_kernel_is_attached_by_external_id_without_a_launch_event(load: Any) -> None:
    trace = load(mm(10, 5, id=3), kernel("gemm", 20, 2, 55, id=3))
    assert attributions(trace) == ["external_id"]
    (only,) = trace.ops
    assert (only.kind, only.matrix_flops) == ("gemm", 2 * 4 * 8 * 2)
    assert only.read_bytes() == 2 * (4 * 8 + 8 * 2)
    assert only.write_bytes() == 2 * 4 * 2


def test_kernel_is_attached_by_correlation_to_the_innermost_op_around_its_launch(load: Any) -> None:
    trace = load(
        op("aten::linear", 9, 10, inputs=(([4, 8], BF16), ([2, 8], BF16))),
        mm(10, 5),
        launch(12, 55),
        kernel("g", 20, 2, 55),
    )
    assert attributions(trace) == ["correlation"]
    assert [entry.name for entry in trace.ops] == ["aten::mm"]


def test_launches_of_another_thread_find_no_op(load: Any) -> None:
    trace = load(mm(10, 5), launch(12, 55, tid=2), kernel("g", 20, 2, 55))
    assert attributions(trace) == ["unexplained"]


def test_external_ids_that_number_launches_are_not_taken_for_ops(load: Any) -> None:
    """In some files `External id` repeats the correlation, and so names an unrelated op."""
    wrong = op("aten::neg", 1, 2, id=55, inputs=(([4], "float"),))
    trace = load(wrong, mm(10, 5, id=2), launch(12, 55), kernel("g", 20, 2, 55, id=55))
    assert [entry.name for entry in trace.ops] == ["aten::mm"]
    assert attributions(trace) == ["correlation"]


def test_all_kernels_of_one_op_are_one_call_with_their_summed_duration(load: Any) -> None:
    trace = load(
        mm(10, 5),
        launch(11, 1, name="cudaMemsetAsync"),
        launch(12, 2),
        kernel("Memset (Device)", 20, 1.5, 1, cat="gpu_memset", bytes=64),
        kernel("gemm", 25, 2.25, 2),
    )
    assert len(trace.calls) == 1
    assert trace.calls.start_s[0] == 0.0
    assert trace.calls.duration_s[0] == pytest.approx(3.75e-6, rel=1e-12)
    assert trace.kernels.start_s.tolist() == pytest.approx([0.0, 5e-6], rel=1e-12)
    assert [KERNEL_CATEGORIES[index] for index in trace.kernels.category] == ["memset", "kernel"]


def test_attention_with_all_its_parts_is_one_op(load: Any) -> None:
    shape = [2, 4, 16, 8]
    strides = [512, 128, 8, 1]
    qkv = tuple((shape, BF16, strides) for _ in range(3))
    rest = (([], ""), ([], "Scalar", None, "0."), ([], "Scalar", None, "True"))
    trace = load(
        op("aten::scaled_dot_product_attention", 10, 30, inputs=(*qkv, *rest)),
        op("aten::_scaled_dot_product_attention_math", 11, 28, inputs=qkv),
        op("aten::matmul", 12, 6, inputs=((shape, BF16), (shape, BF16))),
        op("aten::bmm", 13, 3, inputs=(([8, 16, 8], BF16), ([8, 8, 16], BF16))),
        launch(14, 1),
        op("aten::_softmax", 20, 3, inputs=(([2, 4, 16, 16], BF16),)),
        launch(21, 2),
        kernel("gemm", 50, 2, 1),
        kernel("softmax", 60, 1, 2),
    )
    (only,) = trace.ops
    assert only.kind == "attention"
    assert (only.size("queries"), only.size("heads"), only.size("causal")) == (16, 4, 1)
    assert only.matrix_flops == 4 * 2 * 4 * 16 * 16 * 8
    assert only.read_bytes() == 3 * 2 * (2 * 4 * 16 * 8)
    assert len(trace.calls) == 1


def test_op_without_a_rule_keeps_its_traffic_and_unknown_flops(load: Any) -> None:
    trace = load(op("mylib::fancy", 10, 5, inputs=(([4, 8], BF16),)), launch(12, 1), kernel("fancy_kernel", 20, 2, 1))
    (only,) = trace.ops
    assert (only.kind, only.name, only.flops) == ("unknown", "mylib::fancy", None)
    assert only.read_bytes() == 64
    assert only.write_bytes() is None


def test_op_without_a_rule_inside_one_with_a_rule_belongs_to_that(load: Any) -> None:
    trace = load(mm(10, 9), op("vendor::gemm_impl", 11, 5), launch(12, 1), kernel("g", 20, 2, 1))
    assert [entry.name for entry in trace.ops] == ["aten::mm"]


def test_ops_without_recorded_shapes_are_unknown_and_never_zero(load: Any) -> None:
    trace = load(op("aten::mm", 10, 5), launch(12, 1), kernel("gemm", 20, 2, 1))
    (only,) = trace.ops
    assert (only.flops, only.read_bytes(), only.write_bytes()) == (None, None, None)
    assert trace.unknown_ops == (only,)
    assert any("No input shapes" in note for note in trace.provenance.notes)


@pytest.mark.parametrize("dims", [[-4, 8], [4.5, 8], [True, 8], [2**60, 8], ["4", 8], "x", None, [[4], [8]], [4, 9]])
def test_senseless_sizes_make_the_op_unknown(load: Any, dims: Any) -> None:
    bad = op("aten::mm", 10, 5, inputs=((dims, BF16), ([8, 2], BF16)))
    trace = load(bad, launch(12, 1), kernel("gemm", 20, 2, 1))
    assert [(entry.kind, entry.flops) for entry in trace.ops] == [("unknown", None)]
    assert len(trace.kernels) == 1


@pytest.mark.parametrize("kind", ["c10::Quaternion", "", None, 5])
def test_unknown_dtypes_make_the_op_unknown(load: Any, kind: Any) -> None:
    trace = load(op("aten::neg", 10, 5, inputs=(([4], kind),)), launch(12, 1), kernel("neg", 20, 2, 1))
    assert [entry.flops for entry in trace.ops] == [None]


def repeated_step(*, first_orphan: int, orphan_names: tuple[str, ...]) -> list[Event]:
    """A recorded step of five products with kernels k0..k4, and orphans before it with the given names."""
    events: list[Event] = []
    for i in range(5):
        events += [mm(100 + 10 * i, 8, m=4 + i), launch(102 + 10 * i, 10 + i), kernel(f"k{i}", 200 + 10 * i, 5, 10 + i)]
    for i, name in enumerate(orphan_names):
        events.append(kernel(name, 10 * i + 1, 4, first_orphan + i))
    return events


def test_kernels_launched_before_the_window_take_the_ops_of_an_equal_run(load: Any) -> None:
    trace = load(*repeated_step(first_orphan=900, orphan_names=("k1", "k2", "k3", "k4")))
    assert attributions(trace)[:4] == ["repeat"] * 4
    assert [trace.phases[index] for index in trace.calls.phase[:5]] == ["(before the window)"] * 4 + [""]
    assert [trace.ops[index].size("m") for index in trace.calls.op] == [5, 6, 7, 8, 4, 5, 6, 7, 8]
    assert any("4 device events (0.016 ms)" in note and "inferred" in note for note in trace.provenance.notes)
    assert summarize_kernels(trace).repeated_count == 4
    assert summarize_kernels(trace).repeated_s == pytest.approx(16e-6, rel=1e-9)


@pytest.mark.parametrize(
    "names",
    [("k1", "k2", "k4", "k3"), ("k1", "k2", "k3", "other"), ("k2", "k3", "k4")],
    ids=["another order", "an unknown kernel", "too short"],
)
def test_kernels_that_repeat_nothing_exactly_stay_unexplained(load: Any, names: tuple[str, ...]) -> None:
    trace = load(*repeated_step(first_orphan=900, orphan_names=names))
    assert attributions(trace)[: len(names)] == ["unexplained"] * len(names)
    assert all(trace.ops[index].flops is None for index in trace.calls.op[: len(names)])
    assert any("cannot be attached" in note for note in trace.provenance.notes)
    assert summarize_kernels(trace).unexplained_count == len(names)


def test_a_run_that_could_mean_two_things_stays_unexplained(load: Any) -> None:
    """The same four kernels ran for two different shapes: nothing says which of them the orphans were."""
    events: list[Event] = []
    for i in range(8):
        start = 100 + 10 * i
        events += [mm(start, 8, m=4 + i), launch(start + 2, 10 + i), kernel(f"k{i % 4}", 300 + 10 * i, 5, 10 + i)]
    events += [kernel(f"k{i}", 10 * i, 4, 900 + i) for i in range(4)]
    assert attributions(load(*events))[:4] == ["unexplained"] * 4


def test_grids_must_agree_for_a_repeat(load: Any) -> None:
    events = repeated_step(first_orphan=900, orphan_names=("k1", "k2", "k3", "k4"))
    events[-1]["args"]["grid"] = [2, 1, 1]
    assert attributions(load(*events))[:4] == ["unexplained"] * 4


def test_a_call_cut_by_the_end_of_the_run_stays_unexplained(load: Any) -> None:
    """The first orphan is the second kernel of its op: the op's FLOPs belong to a kernel that was not seen."""
    events: list[Event] = []
    for i in range(3):
        start = 100 + 10 * i
        events += [mm(start, 8, m=4 + i), launch(start + 2, 10 + 2 * i), launch(start + 4, 11 + 2 * i)]
        events += [kernel(f"a{i}", 200 + 10 * i, 2, 10 + 2 * i), kernel(f"b{i}", 205 + 10 * i, 2, 11 + 2 * i)]
    events += [kernel(name, 10 * i, 4, 900 + i) for i, name in enumerate(("b0", "a1", "b1", "a2", "b2"))]
    trace = load(*events)
    assert attributions(trace)[:5] == ["unexplained"] + ["repeat"] * 4
    assert len(trace.calls) == 1 + 2 + 3


def test_graph_replay_explains_nothing_but_keeps_kernels_and_phase(load: Any) -> None:
    trace = load(
        span("user_annotation", "decode", 5, 50),
        mm(10, 20, id=3),
        launch(12, 9, name="hipGraphLaunch"),
        kernel("Cijk_Ailk", 60, 4, 9),
        kernel("attn", 70, 6, 9),
    )
    assert attributions(trace) == ["unexplained"] * 2
    assert trace.phases == ("decode",)
    assert trace.calls.duration_s.sum() == pytest.approx(10e-6, rel=1e-12)
    assert any("replayed from a captured graph" in note for note in trace.provenance.notes)


def test_memcpy_counts_its_recorded_bytes_on_the_device_side_only(load: Any) -> None:
    trace = load(
        kernel("Memcpy HtoD (Pinned -> Device)", 1, 1, 1, cat="gpu_memcpy", bytes=100),
        kernel("Memcpy DtoH (Device -> Pinned)", 2, 1, 2, cat="gpu_memcpy", bytes=40),
        kernel("Memcpy DtoD (Device -> Device)", 3, 1, 3, cat="gpu_memcpy", bytes=30),
        kernel("Memset (Device)", 4, 1, 4, cat="gpu_memset", bytes=8),
        kernel("Memcpy PtoP", 5, 1, 5, cat="gpu_memcpy"),
    )
    assert [entry.kind for entry in trace.ops] == ["copy"] * 4 + ["unknown"]
    assert [entry.read_bytes() for entry in trace.ops] == [0, 40, 30, 0, None]
    assert [entry.write_bytes() for entry in trace.ops] == [100, 0, 30, 8, None]


def test_collective_takes_its_sizes_from_the_metadata(load: Any) -> None:
    sizes = {"In msg nelems": 1000, "Out msg nelems": 1000, "Group size": 8, "dtype": "BFloat16"}
    trace = load(
        op("c10d::allreduce_", 10, 20),
        op("record_param_comms", 12, 15, **sizes),
        span("user_annotation", "nccl:all_reduce", 13, 10),
        launch(14, 1, name="cudaLaunchKernelExC"),
        kernel("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgs)", 50, 9, 1),
    )
    (only,) = trace.ops
    assert (only.kind, only.name, only.dtype) == ("collective", "c10d::allreduce_", "bfloat16")
    assert (only.size("elements"), only.size("ranks")) == (1000, 8)
    assert (only.read_bytes(), only.write_bytes()) == (2000, 2000)
    assert trace.phases == ("",)
    assert KERNEL_CATEGORIES[trace.kernels.category[0]] == "collective"


def test_collective_without_recorded_sizes_is_unknown(load: Any) -> None:
    trace = load(kernel("ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgs)", 50, 9, 1))
    assert [(entry.kind, entry.read_bytes()) for entry in trace.ops] == [("unknown", None)]
    assert KERNEL_CATEGORIES[trace.kernels.category[0]] == "collective"


def test_ranges_are_phases_and_profiler_steps_are_steps(load: Any) -> None:
    trace = load(
        span("user_annotation", "ProfilerStep#6", 0, 100),
        span("user_annotation", "generate", 5, 60),
        span("user_annotation", "decode", 20, 20),
        mm(10, 5),
        launch(12, 1),
        mm(25, 5),
        launch(26, 2),
        mm(80, 5),
        launch(81, 3),
        mm(200, 5),
        launch(201, 4),
        *(kernel("g", 300 + i, 1, i) for i in range(1, 5)),
    )
    assert [trace.phases[index] for index in trace.calls.phase] == ["generate", "generate/decode", "", ""]
    assert trace.calls.step.tolist() == [6, 6, 6, -1]


def test_launches_from_the_autograd_thread_take_the_range_of_the_waiting_thread(load: Any) -> None:
    trace = load(
        span("user_annotation", "backward", 0, 100, tid=1),
        op("aten::neg", 10, 5, tid=2),
        launch(11, 1, tid=2),
        kernel("n", 30, 1, 1),
    )
    assert trace.phases == ("backward",)


def test_module_path_is_that_of_the_forward_calls_around_the_launch(load: Any) -> None:
    trace = load(
        span("python_function", "nn.Module: Model_0", 0, 100),
        span("python_function", "model.py(3): forward", 1, 90),
        span("python_function", "nn.Module: Linear_3", 5, 20),
        mm(10, 5),
        launch(12, 1),
        mm(50, 5),
        launch(52, 2),
        kernel("g", 200, 1, 1),
        kernel("g", 210, 1, 2),
    )
    assert [trace.modules[index] for index in trace.calls.module] == ["Model_0/Linear_3", "Model_0"]


def test_weights_are_transposed_views_and_embedding_tables(load: Any) -> None:
    embedding = (([50, 8], BF16, [8, 1]), ([4], "long int", [1]))
    select = (([50, 8], BF16, [8, 1]), ([], "Scalar", None, "0"), ([4], "long int", [1]))
    trace = load(
        op("aten::embedding", 1, 8, inputs=embedding),
        op("aten::index_select", 2, 5, inputs=select),
        launch(3, 1),
        mm(10, 5, n=50),
        launch(12, 2),
        op("aten::bmm", 20, 5, inputs=(([2, 4, 8], BF16, [32, 8, 1]), ([2, 8, 4], BF16, [32, 1, 8]))),
        launch(22, 3),
        op("aten::mm", 30, 5, inputs=(([4, 8], BF16, [8, 1]), ([8, 2], BF16, [2, 1]))),
        launch(32, 4),
        *(kernel("k", 100 + 10 * i, 1, i) for i in range(1, 5)),
    )
    gather, logits, batched, product = trace.ops
    assert gather.read_bytes("weights") == 4 * 8 * 2
    assert logits.read_bytes("weights") == 8 * 50 * 2
    assert logits.write_bytes("logits") == 4 * 50 * 2
    assert batched.read_bytes("weights") == product.read_bytes("weights") == 0


def test_tensor_lists_take_the_only_recorded_dtype_as_wide_as_the_kernel_moves(load: Any) -> None:
    cat = op(
        "aten::cat", 10, 5, inputs=(([[2, 3], [2, 5]], "TensorList", [[3, 1], [5, 1]]), ([], "Scalar", None, "-1"))
    )
    copy = "CatArrayBatchedCopy<OpaqueType<2u>, unsigned int, 4>"
    neg = op("aten::neg", 1, 2, inputs=(([4], BF16),))
    half = op("aten::neg", 1, 2, inputs=(([4], "c10::Half"),))
    known = load(neg, cat, launch(12, 1), kernel(copy, 20, 2, 1))
    assert [(entry.kind, entry.write_bytes()) for entry in known.ops] == [("copy", 2 * 8 * 2)]
    ambiguous = load(neg, half, cat, launch(12, 1), kernel(copy, 20, 2, 1))
    assert [entry.write_bytes() for entry in ambiguous.ops] == [None]


def test_python_numbers_move_no_memory(load: Any) -> None:
    trace = load(op("aten::mul", 10, 5, inputs=(([4], BF16), ([], "double"))), launch(12, 1), kernel("m", 20, 2, 1))
    assert (trace.ops[0].read_bytes(), trace.ops[0].write_bytes(), trace.ops[0].dtype) == (8, 8, "bfloat16")


def test_cudnn_convolution_orders_its_arguments_differently(load: Any) -> None:
    inputs = (
        ([1, 3, 8, 8], "float"),
        ([6, 3, 3, 3], "float"),
        *(([], "ScalarList", None, text) for text in ("[1, 1]", "[2, 2]", "[1, 1]")),
        ([], "Scalar", None, "1"),
        *(([], "Scalar", None, "True") for _ in range(3)),
    )
    trace = load(op("aten::cudnn_convolution", 10, 5, inputs=inputs), launch(12, 1), kernel("conv", 20, 2, 1))
    (only,) = trace.ops
    assert only.outputs[0].shape == (1, 6, 4, 4)
    assert only.matrix_flops == 2 * (4 * 4) * 6 * (3 * 3 * 3)
    assert only.read_bytes("weights") == 4 * 6 * 27


def test_times_keep_their_nanoseconds_at_absolute_dates(load: Any, tmp_path: Path) -> None:
    """A float64 holds 1695835542514261.125 only to a quarter of a microsecond."""
    path = tmp_path / "late.json"
    first, second = (json.dumps(kernel("k", 0, 0, i)) for i in (1, 2))
    first = first.replace('"ts": 0, "dur": 0', '"ts": 1695835542514261.125, "dur": 0.001')
    second = second.replace('"ts": 0, "dur": 0', '"ts": 1695835542514262.126, "dur": 2.003')
    path.write_text(f'{{"traceEvents": [{first}, {second}]}}')
    trace = import_kineto(path)
    assert trace.kernels.start_s.tolist() == pytest.approx([0.0, 1.001e-6], rel=1e-12)
    assert trace.kernels.duration_s.tolist() == pytest.approx([1e-9, 2.003e-6], rel=1e-12)


def test_older_spellings_are_understood(load: Any) -> None:
    old_op = op("aten::neg", 10, 5)
    old_op["cat"] = "Operator"
    old_op["args"] = {"External id": "3", "Input dims": [[4]], "Input type": ["float"]}
    old_launch = launch(12, 1)
    old_launch["cat"] = "Runtime"
    old_kernel = kernel("n", 20, 2, 1, cat="Kernel")
    old_kernel["args"] = {"stream": 7, "correlation": 1, "external id": 3}
    trace = load(old_op, old_launch, old_kernel, kernel("Memcpy HtoD", 30, 1, 4, cat="Memcpy", bytes=16))
    assert [entry.name for entry in trace.ops] == ["aten::neg", "Memcpy HtoD"]
    assert trace.ops[0].read_bytes() == 16
    assert attributions(trace) == ["external_id", "unexplained"]


def test_device_and_versions_come_from_the_header(load: Any) -> None:
    devices = [{"id": 0, "name": "NVIDIA H100 80GB HBM3"}, {"id": 1, "name": "NVIDIA H100 80GB HBM3"}]
    trace = load(kernel("k", 1, 1, 1), deviceProperties=devices, cuda_runtime_version=12040)
    assert trace.provenance.device == "NVIDIA H100 80GB HBM3"
    assert trace.provenance.packages == (("cuda_runtime", "12.4"),)
    assert trace.provenance.source == "import kineto"


@pytest.mark.parametrize("properties", [None, [], [{}], "x", [{"id": 0, "name": 5}]])
def test_device_may_be_unknown(load: Any, properties: Any) -> None:
    assert load(kernel("k", 1, 1, 1), deviceProperties=properties).provenance.device == ""


def test_streams_of_several_devices_are_kept_apart(load: Any) -> None:
    trace = load(kernel("k", 1, 1, 1), kernel("k", 2, 1, 2, device=1))
    assert trace.kernels.stream.tolist() == [7, 100_007]


def test_overlapping_kernels_count_once_as_busy_time(load: Any) -> None:
    summary = summarize_kernels(load(kernel("a", 0, 10, 1), kernel("b", 5, 10, 2, stream=8), kernel("c", 20, 1, 3)))
    assert summary.kernel_s == pytest.approx(21e-6, rel=1e-9)
    assert summary.busy_s == pytest.approx(16e-6, rel=1e-9)
    assert summary.span_s == pytest.approx(21e-6, rel=1e-9)


def test_copies_between_host_and_device_are_counted_apart(load: Any) -> None:
    names = ("Memcpy HtoD (Pinned -> Device)", "Memcpy DtoD (Device -> Device)", "Memcpy DtoH (Device -> Host)")
    copies = [kernel(name, 10 * i, 2**i, i + 1, cat="gpu_memcpy", bytes=8) for i, name in enumerate(names)]
    summary = summarize_kernels(load(*copies, kernel("dtoh_kernel", 90, 5, 9)))
    assert (summary.copy_count, summary.host_copy_count) == (3, 2)
    assert summary.host_copy_s == pytest.approx((1 + 4) * 1e-6, rel=1e-9)


def test_strict_mode_names_what_is_unknown(load: Any) -> None:
    known = (mm(10, 5), launch(12, 1), kernel("gemm", 20, 2, 1))
    assert len(load(*known, strict=True).calls) == 1
    with pytest.raises(UnknownOperationError, match=r"1 of 2 ops.*'mystery'"):
        load(*known, kernel("mystery", 30, 1, 2), strict=True)


def test_same_file_gives_the_same_trace(load: Any) -> None:
    events = repeated_step(first_orphan=900, orphan_names=("k1", "k2", "k3", "k4"))
    assert load(*events) == load(*events)
