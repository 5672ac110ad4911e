"""How much faster one GPU is than another on the kernels of a layer: measured, and predicted from the same rows.

Sizes are rounded to what every table holds, and causal attention stands for attention without a mask, which was not
measured on an A100.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from roofline.chipfile import load_chip
from simulator.op_columns import FloatArray
from simulator.validation.scores import predict_s
from simulator.validation.silicon import silicon_table

CHIPS = ("a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm")
# Columns and depth of a layer's products. LLaMA's 14,336 as 12,288.
_LLAMA = ((6144, 4096), (4096, 4096), (12288, 4096), (12288, 4096), (4096, 12288))
_LLADA = ((12288, 4096), (4096, 4096), (12288, 4096), (12288, 4096), (4096, 12288))
_FLUX = ((12288, 3072), (3072, 3072), (12288, 3072), (3072, 12288))
_DECODE, _PREFILL = "attention_decode", "attention_prefill"
_KEYS = {  # the backend whose table counts, and the sizes that find a row of it
    "gemm": ("trtllm", ("m", "n", "k")),
    _DECODE: ("vllm", ("batch", "keys", "heads", "kv_heads")),
    _PREFILL: ("vllm", ("batch", "queries", "heads", "kv_heads")),
}
_HEADS = (32, 8)  # of queries, and of keys and values

Kernel = tuple[str, tuple[int, ...]]  # kind, sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A layer's kernels in one step.

    Attributes:
        title: what the step does.
        products: columns and depth of each product.
        rows: rows of the products.
        attention: kind of its kernel.
        sequences: in the batch.
        length: keys of each sequence in decoding, queries otherwise.
    """

    title: str
    products: tuple[tuple[int, int], ...]
    rows: int
    attention: str
    sequences: int
    length: int = 1024

    def kernels(self) -> list[Kernel]:
        """All kernels of the layer, (kind, sizes)."""
        products: list[Kernel] = [("gemm", (self.rows, *shape)) for shape in self.products]
        return [*products, (self.attention, (self.sequences, self.length, *_HEADS))]


WORK = (
    Work(title="AR, batch 1", products=_LLAMA, rows=1, attention=_DECODE, sequences=1),
    Work(title="AR, batch 8", products=_LLAMA, rows=8, attention=_DECODE, sequences=8),
    Work(title="AR, batch 64", products=_LLAMA, rows=64, attention=_DECODE, sequences=64),
    Work(title="denoising without a cache, batch 1", products=_LLADA, rows=1024, attention=_PREFILL, sequences=1),
    Work(title="denoising without a cache, batch 8", products=_LLADA, rows=8192, attention=_PREFILL, sequences=8),
    Work(title="dual cache, batch 1", products=_LLADA, rows=32, attention=_DECODE, sequences=1),
    Work(title="dual cache, batch 8", products=_LLADA, rows=256, attention=_DECODE, sequences=8),
    Work(title="blocks of 4, batch 1", products=_LLAMA, rows=4, attention=_DECODE, sequences=1),
    Work(title="blocks of 4, batch 8", products=_LLAMA, rows=32, attention=_DECODE, sequences=8),
    Work(title="blocks of 4, batch 64", products=_LLAMA, rows=256, attention=_DECODE, sequences=64),
    Work(title="FLUX.1, batch 1", products=_FLUX, rows=4096, attention=_PREFILL, sequences=1, length=4096),
)


def layer_seconds() -> Iterator[tuple[Work, FloatArray]]:
    """Every work with the (measured, predicted) seconds of its layer on each of `CHIPS`, [chips, 2]."""
    found = _kernel_seconds({kernel for work in WORK for kernel in work.kernels()})
    for work in WORK:
        yield (
            work,
            np.array([np.sum([found[chip, kernel] for kernel in work.kernels()], axis=0) for chip in CHIPS]),
        )


def gains(seconds: FloatArray) -> FloatArray:
    """By how much each chip is faster than the one before it, [chips - 1, 2], from `layer_seconds`.

    >>> gains(np.array([[4.0, 3.0], [2.0, 1.0]])).tolist()
    [[2.0, 3.0]]
    """
    return seconds[:-1] / seconds[1:]


def _kernel_seconds(asked: set[Kernel]) -> dict[tuple[str, Kernel], tuple[float, float]]:
    """(chip, kernel) to its (measured, predicted) seconds; the last row of a table where several hold the sizes."""
    found: dict[tuple[str, Kernel], tuple[float, float]] = {}
    for name in CHIPS:
        chip = load_chip(name)
        for kind, (backend, names) in _KEYS.items():
            table = silicon_table(chip, kind, "bfloat16", backend)
            keys = list(zip(*(table.ops.size(size)[:, 0].astype(int).tolist() for size in names), strict=True))
            rows = np.array([row for row, key in enumerate(keys) if (kind, key) in asked])
            some = table.take(rows)
            for row, measured, predicted in zip(rows, some.measured_s, predict_s(some, chip), strict=True):
                found[name, (kind, keys[row])] = (float(measured), float(predicted))
    return found
