"""Builders of ops, traces and toy chips that the tests of the simulator and the explorer share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.op import SIZES, Op, Operand
from profiler.provenance import Provenance
from profiler.traces import Calls, Trace
from roofline.chip import Chip, Link, Memory


@dataclass(frozen=True)
class Build:
    """Builders of ops of every kind, traces and toy chips."""

    def operand(self, elements: int, dtype: str = "bfloat16", role: str = "activations") -> Operand:
        width = 4 if dtype == "float32" else 8 if dtype == "int64" else 2
        return Operand(shape=(elements,), dtype=dtype, role=role, moved_bytes=elements * width)

    def gemm(self, m: int, n: int, k: int, *, batch: int = 1, dtype: str = "bfloat16", kind: str = "gemm") -> Op:
        return Op(
            kind=kind,
            name="aten::mm",
            dtype=dtype,
            inputs=(self.operand(batch * m * k, dtype), self.operand(batch * n * k, dtype, "weights")),
            outputs=(self.operand(batch * m * n, dtype),),
            sizes=(("batch", batch), ("m", m), ("n", n), ("k", k)),
            matrix_flops=2 * batch * m * n * k,
        )

    def attention(
        self, batch: int, heads: int, kv_heads: int, queries: int, keys: int, head_dim: int, causal: bool
    ) -> Op:
        pairs = 4 * batch * heads * head_dim
        rows = min(queries, keys)
        hidden = rows * keys - rows * (rows + 1) // 2 if causal else 0
        return Op(
            kind="attention",
            name="aten::scaled_dot_product_attention",
            dtype="bfloat16",
            inputs=(
                self.operand(batch * heads * queries * head_dim),
                self.operand(batch * kv_heads * keys * head_dim),
                self.operand(batch * kv_heads * keys * head_dim),
            ),
            outputs=(self.operand(batch * heads * queries * head_dim),),
            sizes=(
                *(("batch", batch), ("heads", heads), ("kv_heads", kv_heads), ("queries", queries), ("keys", keys)),
                *(("head_dim", head_dim), ("value_dim", head_dim), ("causal", int(causal))),
            ),
            matrix_flops=pairs * queries * keys,
            skippable_flops=pairs * hidden,
        )

    def pointwise(
        self, elements: int, *, dtype: str = "bfloat16", kind: str = "pointwise", name: str = "aten::add"
    ) -> Op:
        return Op(
            kind=kind,
            name=name,
            dtype=dtype,
            inputs=(self.operand(elements, dtype), self.operand(elements, dtype)),
            outputs=(self.operand(elements, dtype),),
            sizes=(("elements", elements),),
            vector_flops=elements,
        )

    def rows(self, kind: str, rows: int, columns: int, *, k: int = 8) -> Op:
        sizes = (("rows", rows), ("columns", columns)) + ((("k", k),) if kind == "topk" else ())
        return Op(
            kind=kind,
            name=f"aten::{kind}",
            dtype="bfloat16",
            inputs=(self.operand(rows * columns),),
            outputs=(self.operand(rows if kind == "reduction" else rows * columns),),
            sizes=sizes,
            vector_flops=4 * rows * columns,
        )

    def indexed(self, kind: str, rows: int, row_elements: int) -> Op:
        return Op(
            kind=kind,
            name=f"aten::{kind}",
            dtype="bfloat16",
            inputs=(self.operand(rows * row_elements), self.operand(rows, "int64")),
            outputs=(self.operand(rows * row_elements),),
            sizes=(("rows", rows), ("row_bytes", 2 * row_elements)),
        )

    def collective(self, elements: int, ranks: int) -> Op:
        return Op(
            kind="collective",
            name="c10d::allreduce_",
            dtype="bfloat16",
            inputs=(self.operand(elements),),
            outputs=(self.operand(elements),),
            sizes=(("elements", elements), ("ranks", ranks)),
        )

    def unknown(self, elements: int) -> Op:
        data = self.operand(elements)
        return Op(kind="unknown", name="my::op", dtype="bfloat16", inputs=(data,), matrix_flops=None, vector_flops=None)

    def any_op(self, kind: str, a: int, b: int, c: int) -> Op:
        """An op of any kind from three sizes."""
        if kind in ("gemm", "conv"):
            return self.gemm(a, b, c, kind=kind)
        if kind == "attention":
            return self.attention(1 + a % 5, 8, (1, 2, 8)[b % 3], a, b, (64, 72, 128)[c % 3], causal=bool(c % 2))
        if kind in ("pointwise", "copy", "random"):
            return self.pointwise(a * b, kind=kind, name=("aten::add", "aten::silu")[c % 2])
        if "columns" in SIZES[kind]:
            return self.rows(kind, a, b, k=c)
        if kind in ("gather", "scatter"):
            return self.indexed(kind, a, b)
        return self.collective(a * b, 1 + c % 9) if kind == "collective" else self.unknown(a * b)

    def trace(
        self, ops: Sequence[Op], op: Sequence[int], stream: Sequence[int] | None = None, **calls: object
    ) -> Trace:
        n = len(op)
        zeros, missing = np.zeros(n, dtype=np.int64), np.full(n, np.nan)
        return Trace(
            name="toy",
            ops=tuple(ops),
            calls=Calls(
                op=np.array(op, dtype=np.int64),
                phase=zeros,
                step=zeros,
                module=zeros,
                stream=zeros if stream is None else np.array(stream, dtype=np.int64),
                start_s=missing,
                duration_s=missing,
                energy_j=missing,
                **calls,
            ),
            phases=("only",),
            modules=("",),
            provenance=Provenance(source="test"),
        )

    def chip(self, **changes: object) -> Chip:
        """100 cores at 1 GHz: 204.8 TFLOP/s in bfloat16, 1 TB/s of main memory, no overheads unless given."""
        fields: dict[str, object] = {
            "name": "toy",
            "title": "Toy",
            "family": "toy",
            "clock_hz": 1e9,
            "cores": 100,
            "launch_s": 0.0,
            "matrix_macs": (("bfloat16", 1024.0),),
            "vector_flops": (("float32", 256.0),),
            "special_flops": 16.0,
            "memories": self.memories(),
            "links": (Link(name="link", bandwidth_bytes_per_s=1e11, latency_s=0.0),),
        }
        return Chip(**{**fields, **changes})

    def memories(self, *, rate: float = 1.0, latency_s: float = 0.0) -> tuple[Memory, ...]:
        return (
            Memory(
                name="l1",
                capacity_bytes=100 * 200e3,
                bandwidth_bytes_per_s=rate * 12.8e12,
                latency_s=latency_s / 10,
                per_core=True,
            ),
            Memory(name="l2", capacity_bytes=40e6, bandwidth_bytes_per_s=rate * 5e12, latency_s=latency_s / 3),
            Memory(name="hbm", capacity_bytes=40e9, bandwidth_bytes_per_s=rate * 1e12, latency_s=latency_s),
        )
