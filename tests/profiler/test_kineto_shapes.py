"""Inferred output shapes and dtypes equal what torch itself returns on the meta device."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.costs.call import TensorMeta
from profiler.importers.dtypes import promote
from profiler.importers.shapes.inference import infer_outputs

torch = pytest.importorskip("torch")

F32, BF16, I64, BOOL = "float32", "bfloat16", "int64", "bool"
Spec = tuple[tuple[int, ...], str]


def on_meta(value: Any) -> Any:
    """A spec (shape, dtype) as a meta tensor; lists of specs likewise; all else as it is."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str):
        return torch.empty(value[0], dtype=getattr(torch, value[1]), device="meta")
    if isinstance(value, list):
        return [on_meta(item) for item in value]
    return value


def as_argument(value: Any) -> object:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str):
        return TensorMeta(shape=value[0], dtype=value[1])
    if isinstance(value, list):
        return tuple(as_argument(item) for item in value)
    return value


def specs(result: Any) -> list[Spec]:
    results = result if isinstance(result, tuple | list) else [result]
    return [
        (tuple(item.shape), str(item.dtype).removeprefix("torch."))
        for item in results
        if isinstance(item, torch.Tensor)
    ]


A, B, X = ((4, 8), BF16), ((8, 3), BF16), ((2, 5, 8), F32)
IMAGE = ((2, 3, 9, 11), F32)
CASES: list[tuple[str, list[Any]]] = [
    ("mm", [A, B]),
    ("addmm", [((3,), BF16), A, B]),
    ("bmm", [((2, 4, 8), F32), ((2, 8, 3), F32)]),
    ("baddbmm", [((2, 4, 3), F32), ((2, 4, 8), F32), ((2, 8, 3), F32)]),
    ("linear", [X, ((7, 8), F32), ((7,), F32)]),
    ("matmul", [X, ((8, 3), F32)]),
    ("matmul", [((6, 1, 4, 8), F32), ((5, 8, 3), F32)]),
    ("matmul", [X, ((8,), F32)]),
    ("matmul", [((8,), F32), ((2, 8, 3), F32)]),
    ("mv", [A, ((8,), BF16)]),
    ("dot", [((8,), F32), ((8,), F32)]),
    ("convolution", [IMAGE, ((6, 3, 3, 2), F32), None, [2, 1], [1, 0], [1, 2], False, [0, 0], 1]),
    ("convolution", [((2, 4, 9), F32), ((6, 2, 3), F32), None, [1], [0], [1], False, [0], 2]),
    ("convolution", [IMAGE, ((3, 2, 3, 3), F32), None, [2, 2], [1, 1], [1, 1], True, [1, 0], 1]),
    ("scaled_dot_product_attention", [((2, 4, 5, 8), F32), ((2, 4, 7, 8), F32), ((2, 4, 7, 6), F32)]),
    ("add", [X, ((5, 1), F32)]),
    ("mul", [X, 2.0]),
    ("mul", [((3,), I64), 0.5]),
    ("div", [((3,), I64), ((3,), I64)]),
    ("div", [((3,), I64), 2]),
    ("eq", [X, 1]),
    ("lt", [A, A]),
    ("pow", [X, 2]),
    ("rsqrt", [((3,), I64)]),
    ("silu", [A]),
    ("gelu", [A]),
    ("neg", [((3,), I64)]),
    ("where", [((5, 1), BOOL), X, ((), F32)]),
    ("masked_fill", [X, ((5, 1), BOOL), 0.0]),
    ("logical_not", [X]),
    ("bitwise_and", [((3,), BOOL), ((3,), BOOL)]),
    ("clamp", [X, 0.0, 1.0]),
    ("abs", [((3,), "complex64")]),
    ("cat", [[A, ((2, 8), BF16)], 0]),
    ("cat", [[A, ((4, 1), F32)], -1]),
    ("stack", [[A, A, A], 1]),
    ("clone", [A]),
    ("tril", [A]),
    ("flip", [A, [0]]),
    ("embedding", [((50, 8), BF16), ((2, 5), I64)]),
    ("index_select", [X, 1, ((3,), I64)]),
    ("gather", [X, 1, ((2, 3, 8), I64)]),
    ("repeat", [A, [3, 1, 2]]),
    ("constant_pad_nd", [X, [1, 2, 0, 3], 0.0]),
    ("sum", [X]),
    ("sum", [((3, 4), BOOL)]),
    ("sum", [((3, 4), I64), [1], True]),
    ("mean", [X, [-1], True]),
    ("mean", [X, [0, 2], False]),
    ("amax", [X, [1], False]),
    ("max", [X]),
    ("max", [X, 1, True]),
    ("max", [A, ((8,), BF16)]),
    ("argmax", [X, -1, False]),
    ("argmax", [X]),
    ("all", [X]),
    ("any", [X, 1, True]),
    ("var_mean", [X, [2], True]),
    ("logsumexp", [X, [1], True]),
    ("_softmax", [X, -1, False]),
    ("_log_softmax", [X, 1, False]),
    ("native_layer_norm", [X, [8], ((8,), F32), ((8,), F32), 1e-5]),
    ("sort", [X, 1, True]),
    ("argsort", [X]),
    ("topk", [X, 3, 2]),
    ("topk", [X, 2]),
    ("cumsum", [((3, 4), I64), 1]),
    ("cumsum", [X, 1]),
    ("cummax", [X, 1]),
    ("max_pool2d_with_indices", [IMAGE, [3, 2], [2, 2], [1, 1], [1, 1], False]),
    ("max_pool2d_with_indices", [IMAGE, [3]]),
    ("avg_pool2d", [IMAGE, [2, 2], [2, 2], [0, 0], False]),
    ("_adaptive_avg_pool2d", [IMAGE, [4, 5]]),
    ("zeros", [[3, 4]]),
    ("full", [[3], 1]),
    ("full", [[3], 1.5]),
    ("native_dropout", [X, 0.5, True]),
    ("bernoulli", [X]),
    ("scatter", [X, 1, ((2, 3, 8), I64), ((2, 3, 8), F32)]),
]


@pytest.mark.parametrize(("name", "args"), CASES, ids=[f"{i}-{name}" for i, (name, _) in enumerate(CASES)])
def test_inference_agrees_with_torch(name: str, args: list[Any]) -> None:
    meta_args = [on_meta(value) for value in args]
    creates = {"device": "meta"} if name in ("zeros", "full") else {}
    truth = specs(getattr(torch.ops.aten, name)(*meta_args, **creates))
    inferred = infer_outputs(f"aten::{name}", tuple(as_argument(value) for value in args))
    assert inferred is not None
    found = [(output.shape, output.dtype) for output in inferred]
    assert found == truth[: len(found)]  # statistics of norms beside the result are small and may be left out
    assert len(found) == len(truth) or "norm" in name


@pytest.mark.parametrize(
    ("args", "count"),
    [((5, None, None, None, None), 5), ((2, 9, None, None, None, None), 7), ((2, 9, 2, None, None, None, None), 4)],
)
def test_arange_counts_its_steps(args: tuple[object, ...], count: int) -> None:
    inferred = infer_outputs("aten::arange", args)
    assert inferred == (TensorMeta(shape=(count,), dtype="int64"),)


def test_arange_into_a_given_tensor_takes_its_dtype() -> None:
    given = TensorMeta(shape=(0,), dtype="float32")
    assert infer_outputs("aten::arange", (0, 9, 1, given)) == (TensorMeta(shape=(9,), dtype="float32"),)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("mm", (TensorMeta(shape=(4, 8), dtype=F32), TensorMeta(shape=(7, 3), dtype=F32))),
        ("add", (TensorMeta(shape=(4,), dtype=F32), TensorMeta(shape=(5,), dtype=F32))),
        ("cat", ((TensorMeta(shape=(4, 2), dtype=F32), TensorMeta(shape=(5, 3), dtype=F32)), 0)),
        ("topk", (TensorMeta(shape=(4,), dtype=F32), 9)),
        ("sum", (TensorMeta(shape=(4,), dtype=F32), (3,))),
        ("index", (TensorMeta(shape=(4,), dtype=F32), (TensorMeta(shape=(4,), dtype=BOOL),))),
        ("mm", ()),
        ("zeros", ((-3,),)),
    ],
)
def test_what_is_not_certain_is_not_inferred(name: str, args: tuple[object, ...]) -> None:
    assert infer_outputs(f"aten::{name}", args) is None


def test_in_place_results_are_their_targets() -> None:
    target = TensorMeta(shape=(4, 1), dtype=BF16, strides=(1, 4))
    assert infer_outputs("aten::add_", (target, TensorMeta(shape=(1,), dtype=F32))) == (target,)


dtypes = st.sampled_from(
    ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64"]
)


@given(left=dtypes, right=dtypes, left_rank=st.integers(0, 1), right_rank=st.integers(0, 1))
@settings(max_examples=300, deadline=None)
def test_promotion_of_two_tensors_agrees_with_torch(left: str, right: str, left_rank: int, right_rank: int) -> None:
    pair = [((2,) * left_rank, left), ((2,) * right_rank, right)]
    truth = torch.result_type(on_meta(pair[0]), on_meta(pair[1]))
    found = promote([TensorMeta(shape=shape, dtype=dtype) for shape, dtype in pair])
    assert found == (None if truth == torch.complex32 else str(truth).removeprefix("torch."))


@given(dtype=dtypes, rank=st.integers(0, 1), number=st.sampled_from([True, 3, 0.5]))
@settings(max_examples=100, deadline=None)
def test_promotion_with_a_number_agrees_with_torch(dtype: str, rank: int, number: float) -> None:
    spec = ((2,) * rank, dtype)
    truth = torch.result_type(on_meta(spec), number)
    assert promote([TensorMeta(shape=spec[0], dtype=dtype), number]) == str(truth).removeprefix("torch.")
