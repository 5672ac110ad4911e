"""Size classes of kernels: what validation splits its errors by, and bands are looked up by."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simulator.op_columns import FloatArray, IntArray

# What a class is cut by, and the least value of each class.
CLASSES: dict[str, tuple[str, tuple[int, ...]]] = {
    "gemm": ("m", (1, 17, 65, 257, 1025, 4353)),
    "attention_prefill": ("queries", (1, 256, 1024, 4096)),
    "attention_bidirectional": ("queries", (1, 256, 1024, 4096)),
    "attention_decode": ("keys", (1, 1025, 16385)),
    "attention_block": ("queries", (2, 9, 33)),
    **dict.fromkeys(("elementwise", "mixing"), ("elements", (1, 65537, 4194305))),
    **dict.fromkeys(("row_scale", "topk"), ("rows", (1, 129, 4097))),
    "moe": ("tokens", (1, 17, 65, 257, 1025, 4353)),
    **dict.fromkeys(("mamba2", "delta_rule"), ("tokens", (1, 257, 4097))),
    **dict.fromkeys(("all_reduce", "all_gather", "reduce_scatter", "alltoall"), ("elements", (1, 65537, 4194305))),
}


def class_names(op: str) -> tuple[str, ...]:
    """Names of an op's classes from the smallest up; one for all where it has none.

    >>> class_names("attention_decode")
    ('keys 1-1024', 'keys 1025-16384', 'keys >=16385')
    """
    column, starts = CLASSES.get(op, ("", ()))
    if not starts:
        return ("all",)
    ends = [f"{start}-{end - 1}" for start, end in pairwise(starts)] + [f">={starts[-1]}"]
    return tuple(f"{column} {text}" for text in ends)


def class_numbers(op: str, values: FloatArray) -> IntArray:
    """Which of `class_names` every row is in, by the size that the classes of this op are cut by, [rows]."""
    starts = np.array(CLASSES.get(op, ("", (0,)))[1], dtype=np.float64)
    return np.clip(np.searchsorted(starts, values, side="right") - 1, 0, len(starts) - 1)


def classes_of(op: str, values: FloatArray) -> NDArray[np.str_]:
    """The class of every row, [rows].

    >>> classes_of("gemm", np.array([64.0])).tolist(), classes_of("softmax", np.array([3.0])).tolist()
    (['m 17-64'], ['all'])
    """
    classes: NDArray[np.str_] = np.array(class_names(op))[class_numbers(op, values)]
    return classes


def in_order(op: str, names: Sequence[str]) -> list[str]:
    """The classes that occur, in their order."""
    return [name for name in class_names(op) if name in set(names)]
