"""The kernels that a chunked scan runs one after another: what each moves, multiplies and waits for.

Mamba-2's state-space dual form (Dao and Gu, arXiv:2405.21060, section 6) in five kernels: cumulative decays, the state
that each chunk adds, passing states on from chunk to chunk, products of `out` and `in` within chunks, and the outputs.
The gated delta rule (Yang et al., arXiv:2412.06464) in six: it solves a triangular system per chunk besides, and passes
states on with matrix products, since what a chunk adds depends on the state that it finds.

Letters: T positions times heads, of all sequences; U positions times groups; Q positions of a chunk; P width of a
head; N state.
"""

from dataclasses import dataclass, fields

import numpy as np

from simulator.op_columns import FloatArray, OpColumns

_MASK_TILE = 64.0  # a causal chunk is cut into square tiles of this side; those above the diagonal are left out
_STATE_COLUMNS = 32.0  # state columns of one block that passes states on with products
_PASSED_PER_BLOCK = 256.0  # states of one block that passes them on elementwise


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phase:
    """One kernel of a chunked scan, every column [O, 1].

    Attributes:
        moved_bytes: read and written, what lies between two of the kernels included.
        flops: on the matrix units, whole tiles.
        pairs: of positions in a chunk, whose products are decayed one by one between two products of matrices.
        blocks: independent pieces of work.
        product_steps: chunks that follow one another with matrix products in each.
        load_steps: chunks that follow one another with a load in each.
    """

    moved_bytes: FloatArray
    flops: FloatArray
    pairs: FloatArray
    blocks: FloatArray
    product_steps: FloatArray
    load_steps: FloatArray


_COLUMNS = tuple(column.name for column in fields(Phase))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sizes:
    """Sizes of a chunked scan, [O, 1] each."""

    heads: FloatArray  # of all sequences
    sequences: FloatArray
    chunks: FloatArray  # of one sequence
    length: FloatArray  # Q
    width: FloatArray  # P
    state: FloatArray  # N
    by_head: FloatArray  # T
    by_group: FloatArray  # U
    groups: FloatArray
    element: FloatArray  # bytes

    @classmethod
    def from_ops(cls, ops: OpColumns) -> "_Sizes":
        """Sizes of every op; a sequence shorter than a chunk is one chunk of a power of two, 16 at least."""
        sequences, width = np.maximum(1.0, ops.size("sequences")), np.maximum(1.0, ops.size("head_dim"))
        positions = np.maximum(1.0, ops.size("columns"))
        short = np.maximum(16.0, np.exp2(np.ceil(np.log2(positions))))
        length = np.where(ops.size("delta") > 0, ops.size("chunk"), np.minimum(ops.size("chunk"), short))
        heads = ops.size("rows") / width
        groups = np.maximum(1.0, ops.size("groups"))
        return cls(
            heads=heads,
            sequences=sequences,
            chunks=np.ceil(positions / np.maximum(length, 1.0)),
            length=np.maximum(length, 1.0),
            width=width,
            state=ops.size("state"),
            by_head=heads * positions,
            by_group=sequences * groups * positions,
            groups=groups,
            element=ops.input_element_bytes,
        )


def chunked_phases(ops: OpColumns) -> list[Phase]:
    """The kernels of every chunked scan, those of the gated delta rule where `delta` is set."""
    sizes = _Sizes.from_ops(ops)
    is_delta = ops.size("delta") > 0
    kinds = [_dual_form(sizes), _delta_rule(sizes)]
    count = max(len(kind) for kind in kinds)
    nothing = _phase(sizes, moved=0.0 * sizes.by_head, flops=0.0 * sizes.by_head, blocks=0.0 * sizes.by_head)
    dual, delta = ([*kind, *[nothing] * (count - len(kind))] for kind in kinds)
    return [
        Phase(**{name: np.where(is_delta, getattr(second, name), getattr(first, name)) for name in _COLUMNS})
        for first, second in zip(dual, delta, strict=True)
    ]


def _phase(
    s: _Sizes,
    *,
    moved: FloatArray,
    flops: FloatArray,
    blocks: FloatArray,
    pairs: FloatArray | None = None,
    product_steps: FloatArray | None = None,
    load_steps: FloatArray | None = None,
) -> Phase:
    none = np.zeros_like(s.by_head)
    return Phase(
        moved_bytes=moved + none,
        flops=flops + none,
        pairs=none if pairs is None else pairs + none,
        blocks=blocks + none,
        product_steps=none if product_steps is None else product_steps + none,
        load_steps=none if load_steps is None else load_steps + none,
    )


def _dual_form(s: _Sizes) -> list[Phase]:
    """Mamba-2. Decays, sums and products between kernels are float32, states that outputs read are as the inputs."""
    e, chunk_heads = s.element, s.heads * s.chunks
    states = chunk_heads * s.width * s.state
    last = s.heads * s.width * s.state
    tiles = np.ceil(s.length / _MASK_TILE)
    visible = s.length * np.minimum(s.length, (tiles + 1.0) / 2.0 * np.minimum(s.length, _MASK_TILE))
    square = s.sequences * s.groups * s.chunks * s.length
    padded = chunk_heads * s.length
    no_flops = 0.0 * padded
    return [
        _phase(s, moved=(e + 8.0) * s.by_head, flops=no_flops, blocks=chunk_heads),
        _phase(
            s,
            moved=(e * s.width + 8.0) * s.by_head + e * s.state * s.by_group + 4.0 * states,
            flops=2.0 * padded * s.width * s.state,
            blocks=chunk_heads,
        ),
        _phase(
            s,
            moved=(4.0 + e) * states + 4.0 * last,
            flops=no_flops,
            blocks=np.ceil(last / _PASSED_PER_BLOCK),
            load_steps=s.chunks,
        ),
        _phase(
            s,
            moved=(2.0 * e * s.state + 4.0 * s.length) * s.by_group,
            flops=2.0 * square * s.length * s.state,
            blocks=s.sequences * s.groups * s.chunks * tiles * tiles,
        ),
        _phase(
            s,
            moved=(2.0 * e * s.width + 8.0) * s.by_head + (4.0 * s.length + e * s.state) * s.by_group + e * states,
            flops=2.0 * s.width * (chunk_heads * visible + padded * s.state),
            pairs=chunk_heads * visible,
            blocks=chunk_heads * tiles,
        ),
    ]


def _delta_rule(s: _Sizes) -> list[Phase]:
    """The gated delta rule: `in` and `out` are keys and queries, shared by the heads of a group."""
    e, chunk_heads = s.element, s.heads * s.chunks
    states = chunk_heads * s.width * s.state
    last = s.heads * s.width * s.state
    padded = chunk_heads * s.length
    q, p, n = s.length, s.width, s.state
    keys = e * n * s.by_group
    return [
        _phase(s, moved=(e + 4.0) * s.by_head, flops=0.0 * padded, blocks=chunk_heads),
        _phase(s, moved=keys + (e + 4.0 + 4.0 * q) * s.by_head, flops=2.0 * padded * q * n, blocks=chunk_heads),
        _phase(s, moved=(4.0 + e) * q * s.by_head, flops=padded * q * q, blocks=chunk_heads),
        _phase(
            s,
            moved=keys + e * (2.0 * p + n + q) * s.by_head,
            flops=2.0 * padded * q * (n + p),
            blocks=chunk_heads,
        ),
        _phase(
            s,
            moved=keys + e * (n + 2.0 * p) * s.by_head + e * states + 4.0 * last,
            flops=4.0 * padded * n * p,
            blocks=s.heads * np.ceil(p / _STATE_COLUMNS),
            product_steps=s.chunks,
        ),
        _phase(
            s,
            moved=2.0 * keys + 2.0 * e * p * s.by_head + e * states,
            flops=2.0 * padded * (q * n + q * p + n * p),
            blocks=chunk_heads,
        ),
    ]
