"""The view of a trace as serving engines run it."""

from collections.abc import Callable

from profiler.expert_layers import merge_expert_layers
from profiler.fusion import fuse
from profiler.state_layers import merge_state_layers
from profiler.traces import Trace


def serving_view(trace: Trace, *, uncompiled: Callable[[str], bool] = lambda _: False) -> Trace:
    """The eager trace as serving engines run it.

    Layers of experts are one kernel, convolutions along sequences and scans one each with what surrounds them, and all
    else is as a compiler fuses it.

    Args:
        trace: with dataflow.
        uncompiled: whether a compiler does not see the calls of a module, given its path; they stay as they are.

    Raises:
        TraceError: the trace holds no dataflow, or is a fused view already.
    """
    return fuse(merge_state_layers(merge_expert_layers(trace)), uncompiled=uncompiled)
