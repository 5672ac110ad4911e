"""Which role an operation's output plays: logits by the vocabulary, KV cache by what it continues."""

from collections.abc import Callable

from profiler.costs.call import AtenCall, base_name
from profiler.op import Op
from workloads.roles import Role

_PRODUCTS = frozenset({"mm", "addmm", "linear", "matmul", "bmm"})


def output_role(call: AtenCall, vocab_size: int | None) -> Callable[[tuple[int, ...]], Role]:
    """A function from an output's shape to its role.

    A product with a weight whose last dimension is the vocabulary gives logits, and so does whatever keeps the last
    dimension of logits. A concatenation that begins with a KV cache continues it.
    """
    tensors = tuple(call.tensors())
    name = base_name(call.name)
    has_weight = any(tensor.role == "weights" for tensor in tensors)
    logits_widths = {tensor.shape[-1] for tensor in tensors if tensor.role == "logits" and tensor.shape}
    continues_cache = name in ("cat", "index_copy", "slice_scatter") and bool(tensors) and tensors[0].role == "kv_cache"

    def role(shape: tuple[int, ...]) -> Role:
        if continues_cache:
            return "kv_cache"
        width = shape[-1] if shape else 0
        if name in _PRODUCTS and has_weight and vocab_size is not None and width == vocab_size:
            return "logits"
        return "logits" if width > 1 and width in logits_widths else "activations"

    return role


def cached_inputs(op: Op) -> tuple[int, ...]:
    """Positions of the inputs that this op shows to be a KV cache: K and V of attention with more keys than queries."""
    if op.kind != "attention" or op.size("keys") <= op.size("queries"):
        return ()
    return (1, 2)
