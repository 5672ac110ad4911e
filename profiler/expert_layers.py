"""Layers of experts as one kernel each, as serving engines have them, in place of the operations that PyTorch runs."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from profiler.fusion import can_join_layers, join_calls
from profiler.op import Op, Operand, dtype_bits
from profiler.traces import Trace

_EXPERTS, _SCORE = ".experts", ".router.score"  # modules of a layer, behind the path of the layer itself


def merge_expert_layers(trace: Trace) -> Trace:
    """The eager trace with one op of kind `moe` for each layer of experts.

    It stands for what lies between the product that scores the experts and the sum over each token's experts: picking,
    sorting, gathering, the experts' products and that sum (vLLM's `fused_moe`, TensorRT-LLM's and FlashInfer's grouped
    products). FLOPs stay as they are; of the tensors in between none reaches memory. Traces without experts come back
    as they are, and so do layers that are not written as in `workloads.mixture_of_experts`.

    Raises:
        TraceError: the trace holds no dataflow, or is a fused view already.
    """
    spans = _spans(trace)
    if not can_join_layers(trace, spans, "layers of experts"):
        return trace
    groups: list[range] = []
    layers: list[int] = []  # groups that are layers
    call = 0
    for first, end in spans:
        groups += [range(single, single + 1) for single in range(call, first)]
        layers.append(len(groups))
        groups.append(range(first, end))
        call = end
    groups += [range(single, single + 1) for single in range(call, len(trace.calls))]
    joined = join_calls(trace, groups)
    ops = list(joined.ops)
    made: set[int] = set()
    for group in layers:
        index = int(joined.calls.op[group])
        if index not in made:
            members = [trace.ops[trace.calls.op[member]] for member in groups[group]]
            score = trace.ops[trace.calls.op[groups[group][0] - 1]]
            ops[index] = _layer(ops[index], members, experts=score.size("n"))
            made.add(index)
    return replace(joined, view=trace.view, ops=tuple(ops))


def _spans(trace: Trace) -> list[tuple[int, int]]:
    """First call and end of each layer, in the order of the calls."""
    paths = [trace.modules[index] for index in trace.calls.module]
    kinds = [trace.ops[index].kind for index in trace.calls.op]
    spans: list[tuple[int, int]] = []
    call = 0
    while call < len(paths):
        if paths[call].endswith(_EXPERTS):
            layer, first = paths[call].removesuffix(_EXPERTS), call
            while first and paths[first - 1] != layer + _SCORE:
                first -= 1
            while call < len(paths) and (kinds[call] != "scatter" or paths[call] != layer):
                call += 1
            if first <= (spans[-1][1] if spans else 0) or call == len(paths):
                return []  # no product that scores before it, or no sum behind it: another network's experts
            spans.append((first, call + 1))
        call += 1
    return spans


def _layer(joined: Op, members: Sequence[Op], *, experts: int) -> Op:
    """The layer's op: each operand moves once, whole; sizes follow from its products and its sum."""
    products = [op for op in members if op.kind == "gemm"]
    parts = next((len(op.inputs) for op in members if op.name == "aten::cat"), 1)  # experts with equally many rows
    each = len(products) // parts
    tokens, hidden = members[-1].outputs[0].shape
    sizes = {
        "tokens": tokens,
        "hidden": hidden,
        "inter": products[0].size("n"),
        "experts": experts,
        "topk": sum(op.size("batch") * op.size("m") for op in products) // each // tokens,
        "running": sum(op.size("batch") for op in products) // each,
        "gated": int(each == 3),
    }
    return replace(
        joined,
        kind="moe",
        name="roofscape::expert_layer",
        dtype=products[0].dtype,
        inputs=tuple(_read_once(operand, sizes["running"]) for operand in joined.inputs),
        outputs=(*(replace(operand, moved_bytes=0) for operand in joined.outputs[:-1]), joined.outputs[-1]),
        sizes=tuple(sizes.items()),
    )


def _read_once(operand: Operand, running: int) -> Operand:
    """The operand read once: tokens as they are loaded, not gathered before; weights of all experts that run."""
    if operand.role == "weights" and len(operand.shape) == 3:
        operand = replace(operand, shape=(running, *operand.shape[1:]))
    return replace(operand, moved_bytes=prod(operand.shape) * dtype_bits(operand.dtype) // 8)
