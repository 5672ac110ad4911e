"""Cost of scaled dot-product attention as one operation, with the traffic of an IO-aware kernel."""

from profiler.costs.call import AtenCall, TensorMeta
from profiler.errors import TraceError
from profiler.op import Op


def attention_flops(batch: int, heads: int, queries: int, keys: int, head_dim: int, value_dim: int) -> int:
    """FLOP of QK^T and PV, dense; softmax and masking are left out (they are O(queries * keys)).

    >>> attention_flops(batch=1, heads=1, queries=2, keys=3, head_dim=4, value_dim=4)
    96
    """
    return 2 * batch * heads * queries * keys * (head_dim + value_dim)


def masked_pairs(queries: int, keys: int) -> int:
    """Query-key pairs that PyTorch's causal mask hides; it aligns the mask at the top left (query i sees keys 0..i).

    >>> masked_pairs(queries=3, keys=3), masked_pairs(queries=2, keys=4), masked_pairs(queries=4, keys=2)
    (3, 5, 1)
    """
    rows = min(queries, keys)
    return rows * keys - rows * (rows + 1) // 2


def attention_op(call: AtenCall) -> Op:
    """`softmax(Q K^T) V` with Q [B, H, S, D], K and V [B, Hkv, T, D].

    Traffic is that of an IO-aware kernel (FlashAttention, arXiv 2205.14135): Q, K, V and the mask are read once and
    the output is written once; the S x T matrix never reaches memory. K and V are read once per KV head (GQA), so
    an expanded view counts its distinct bytes. K and V with more keys than queries, where an earlier call must have
    kept them, are the KV cache. The size `masked` tells of a mask that is given as a tensor.

    Raises:
        TraceError: Q, K or V has another number of axes.
    """
    query, key, value = (call.tensor(i) for i in range(3))
    if not len(query.shape) == len(key.shape) == len(value.shape) >= 3:
        raise TraceError(
            f"{call.name}: Q, K, V must have shapes [..., S, D], got {query.shape}, {key.shape}, {value.shape}"
        )
    heads, queries, head_dim = query.shape[-3:]
    kv_heads, keys, _ = key.shape[-3:]
    value_dim = value.shape[-1]
    batch = query.elements // max(1, heads * queries * head_dim)
    causal = bool(_is_causal(call)) and queries > 1
    mask = next((tensor for tensor in list(call.tensors())[3:]), None)
    pair_flops = 2 * batch * heads * (head_dim + value_dim)
    cached = keys > queries
    inputs = [query.operand(), _kv(key, cached).operand(), _kv(value, cached).operand()]
    if mask is not None:
        inputs.append(mask.operand())
    output = call.outputs[0] if call.outputs else TensorMeta(shape=(*query.shape[:-1], value_dim), dtype=query.dtype)
    return Op(
        kind="attention",
        name="aten::scaled_dot_product_attention",
        dtype=query.dtype,
        inputs=tuple(inputs),
        outputs=(output.operand(),),
        sizes=(
            ("batch", batch),
            ("heads", heads),
            ("kv_heads", _distinct_heads(key, kv_heads)),
            ("queries", queries),
            ("keys", keys),
            ("head_dim", head_dim),
            ("value_dim", value_dim),
            ("causal", int(causal)),
            *((("masked", 1),) if mask is not None else ()),
        ),
        matrix_flops=attention_flops(batch, heads, queries, keys, head_dim, value_dim),
        skippable_flops=pair_flops * masked_pairs(queries, keys) if causal else 0,
    )


def _is_causal(call: AtenCall) -> object:
    """`is_causal` stands at position 5 of sdpa, with a mask before it, and at 4 of the flash variants."""
    if call.name.endswith("scaled_dot_product_attention") or call.name.endswith(("efficient_attention", "math")):
        return call.argument(5, "is_causal", False)
    if call.name.endswith("cudnn_attention"):
        return call.argument(6, "is_causal", False)
    return call.argument(4, "is_causal", False)


def _kv(tensor: TensorMeta, cached: bool) -> TensorMeta:
    if not cached or tensor.role != "activations":
        return tensor
    return TensorMeta(shape=tensor.shape, dtype=tensor.dtype, strides=tensor.strides, role="kv_cache")


def _distinct_heads(key: TensorMeta, kv_heads: int) -> int:
    """KV heads that are stored: an expanded view [B, H, T, D] of one head counts as one."""
    if key.strides is not None and kv_heads > 1 and key.strides[-3] == 0:
        return 1
    return kv_heads
