"""Layers with a state (Mamba) as engines write them: one kernel for the convolution, one for all around the scan.

PyTorch runs a layer's convolution as joining, copying, filtering and an activation, and step sizes, decays and the skip
connection around a scan as operations of their own. Engines have `causal_conv1d` and `selective_state_update`, or the
kernels of a chunked scan, which do all of that on their way.
"""

from collections.abc import Sequence
from dataclasses import replace

from profiler.fusion import can_join_layers, join_calls
from profiler.op import Op
from profiler.traces import Trace

_FILTER = ".conv"  # module of a layer's convolution, behind the path of the layer
_BEFORE_FILTER = ("copy",)  # kept inputs are joined to new ones, and copied
_AROUND_SCAN = ("pointwise", "copy")  # step sizes, decays, skip; the last state is copied


def state_layers(trace: Trace) -> frozenset[str]:
    """Module paths of the layers that have a convolution along the sequence and a scan."""
    scans = {trace.modules[m] for m, op in _calls(trace) if trace.ops[op].kind == "scan"}
    filters = {trace.modules[m] for m, op in _calls(trace) if trace.ops[op].kind == "conv"}
    return frozenset(path for path in scans if path + _FILTER in filters)


def merge_state_layers(trace: Trace) -> Trace:
    """The eager trace with one op for each convolution along a sequence, and one for each scan of a state.

    The convolution takes along what joins and copies its inputs, and the activation behind it; the scan what its layer
    makes of step sizes and decays before it, and the skip connection behind. Of the tensors in between none reaches
    memory. Traces without such layers come back as they are.

    Raises:
        TraceError: the trace holds no dataflow, or is a fused view already.
    """
    layers = state_layers(trace)
    if not can_join_layers(trace, layers, "layers with a state"):
        return trace
    paths = [trace.modules[index] for index in trace.calls.module]
    ops = [trace.ops[index] for index in trace.calls.op]
    groups: list[range] = []
    for call, (path, op) in enumerate(zip(paths, ops, strict=True)):
        if groups and call < groups[-1].stop:
            continue
        span = range(call, call + 1)
        if op.kind == "conv" and path.endswith(_FILTER) and path.removesuffix(_FILTER) in layers:
            span = _filter_span(call, path.removesuffix(_FILTER), paths, ops)
        elif op.kind == "scan" and path in layers:
            span = _scan_span(call, paths, ops)
        while groups and groups[-1].start >= span.start:
            groups.pop()
        groups.append(span)
    return replace(join_calls(trace, groups), view=trace.view)


def _calls(trace: Trace) -> list[tuple[int, int]]:
    """(module, op) of every call."""
    return list(zip(trace.calls.module.tolist(), trace.calls.op.tolist(), strict=True))


def _filter_span(call: int, layer: str, paths: Sequence[str], ops: Sequence[Op]) -> range:
    first, end = call, call + 1
    while first and paths[first - 1] == layer and ops[first - 1].kind in _BEFORE_FILTER:
        first -= 1
    if end < len(ops) and paths[end] == layer and ops[end].name == "aten::silu":
        end += 1
    return range(first, end)


def _scan_span(call: int, paths: Sequence[str], ops: Sequence[Op]) -> range:
    first, end = call, call + 1
    while first and paths[first - 1] == paths[call] and _surrounds_scan(ops[first - 1]):
        first -= 1
    while end < len(ops) and paths[end] == paths[call] and ops[end].name in ("aten::copy_", "aten::addcmul"):
        end += 1
    return range(first, end)


def _surrounds_scan(op: Op) -> bool:
    return op.kind in _AROUND_SCAN and op.name != "aten::silu"  # the convolution's activation stays with it
