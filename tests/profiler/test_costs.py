"""Cost rules on calls as recorded, with answers worked out by hand."""

import pytest

from profiler.costs.call import AtenCall, TensorMeta
from profiler.costs.rules import RULES, build_op, is_free
from profiler.errors import UnknownOperationError


def f32(*shape, **more):
    return TensorMeta(shape=shape, dtype="float32", **more)


def op(name, *args, out=None, **kwargs):
    outputs = () if out is None else out if isinstance(out, tuple) else (out,)
    return build_op(AtenCall(name=f"aten::{name}", args=args, kwargs=tuple(kwargs.items()), outputs=outputs))


@pytest.mark.parametrize(
    ("built", "matrix", "vector", "read", "written"),
    [
        (op("mm", f32(2, 3), f32(3, 4), out=f32(2, 4)), 48, 0, 4 * (6 + 12), 4 * 8),
        (op("addmm", f32(4), f32(2, 3), f32(3, 4), out=f32(2, 4)), 48, 8, 4 * (4 + 6 + 12), 4 * 8),
        (op("bmm", f32(5, 2, 3), f32(5, 3, 4), out=f32(5, 2, 4)), 240, 0, 4 * (30 + 60), 4 * 40),
        (op("linear", f32(7, 2, 3), f32(4, 3), f32(4), out=f32(7, 2, 4)), 336, 56, 4 * (42 + 12 + 4), 4 * 56),
        (op("mv", f32(5, 3), f32(3), out=f32(5)), 30, 0, 4 * 18, 4 * 5),
        (op("add", f32(4, 4), f32(4), out=f32(4, 4)), 0, 16, 4 * 20, 4 * 16),
        (op("silu", f32(10), out=f32(10)), 0, 40, 40, 40),
        (op("sum", f32(4, 8), (-1,), out=f32(4)), 0, 32, 128, 16),
        (op("_softmax", f32(4, 8), -1, False, out=f32(4, 8)), 0, 160, 128, 128),
        (op("native_layer_norm", f32(4, 8), (8,), f32(8), f32(8), 1e-5, out=f32(4, 8)), 0, 224, 4 * 48, 128),
        (op("rms_norm", f32(4, 8), (8,), f32(8), out=f32(4, 8)), 0, 128, 4 * 40, 128),
        (op("sort", f32(2, 8), out=(f32(2, 8), f32(2, 8))), 0, 16 * 3, 64, 128),
        (op("topk", f32(2, 8), 3, out=(f32(2, 3), f32(2, 3))), 0, 16, 64, 48),
        (op("cat", (f32(2, 3), f32(2, 5)), 1, out=f32(2, 8)), 0, 0, 64, 64),
        (op("copy_", f32(4), f32(4), out=f32(4)), 0, 0, 16, 16),
        (op("zeros_like", f32(4), out=f32(4)), 0, 0, 0, 16),
        (op("cumsum", f32(2, 4), 1, out=f32(2, 4)), 0, 8, 32, 32),
    ],
)
def test_costs_worked_out_by_hand(built, matrix, vector, read, written):
    assert (built.matrix_flops, built.vector_flops) == (matrix, vector)
    assert (built.read_bytes(), built.write_bytes()) == (read, written)


def test_embedding_reads_the_rows_asked_for():
    index = TensorMeta(shape=(3,), dtype="int64")
    built = op("embedding", f32(1000, 8, role="weights"), index, out=f32(3, 8))
    assert built.read_bytes("weights") == 3 * 8 * 4
    assert built.read_bytes() == 3 * 8 * 4 + 24
    assert (built.size("rows"), built.size("row_bytes")) == (3, 32)


def test_loss_of_labels_reads_one_score_of_each_row_and_its_gradient_is_as_large_as_the_scores():
    scores, labels, one = f32(8, 100), TensorMeta(shape=(8,), dtype="int64"), f32()
    forward = op("nll_loss_forward", scores, labels, None, 1, -100, out=(one, one))
    assert (forward.read_bytes(), forward.write_bytes()) == (8 * 4 + 8 * 8, 4 + 4)
    assert (forward.kind, forward.vector_flops, forward.size("row_bytes")) == ("gather", 8, 4)
    backward = op("nll_loss_backward", one, scores, labels, None, 1, -100, one, out=f32(8, 100))
    assert (backward.read_bytes(), backward.write_bytes()) == (4 + 8 * 8 + 4, 8 * 100 * 4)
    assert (backward.kind, backward.vector_flops) == ("scatter", 0)


def test_in_place_scatter_moves_what_it_puts():
    index = TensorMeta(shape=(3, 1), dtype="int64")
    target = f32(3, 100)
    in_place = op("scatter_", target, 1, index, f32(3, 1), out=target)
    copied = op("scatter", target, 1, index, f32(3, 1), out=target)
    assert (in_place.read_bytes(), in_place.write_bytes()) == (24 + 12, 12)
    assert (copied.read_bytes(), copied.write_bytes()) == (1200 + 24 + 12, 1200)


@pytest.mark.parametrize(
    ("left", "right", "out", "flops"),
    [
        (f32(10, 4), f32(3, 4, 5), f32(10, 5), 2 * 10 * 4 * 5),
        (f32(3, 2, 4), f32(4, 9), f32(2, 9), 2 * 2 * 4 * 9),
        (f32(2, 12), f32(12, 5), f32(3, 2, 5), 2 * 2 * 12 * 5),
        (f32(3, 2, 4), f32(3, 4, 5), f32(3, 2, 5), 3 * 2 * 2 * 4 * 5),
    ],
)
def test_grouped_product_computes_each_row_with_one_matrix(left, right, out, flops):
    built = op("_grouped_mm", left, right, TensorMeta(shape=(3,), dtype="int32"), out=out)
    assert (built.kind, built.matrix_flops, built.size("batch")) == ("gemm", flops, 3)


def test_convolution_is_an_implicit_product():
    built = op(
        "convolution",
        f32(2, 3, 8, 8),
        f32(16, 3, 3, 3),
        None,
        (1, 1),
        (1, 1),
        (1, 1),
        False,
        (0, 0),
        1,
        out=f32(2, 16, 8, 8),
    )
    assert [built.size(name) for name in ("m", "n", "k")] == [128, 16, 27]
    assert built.matrix_flops == 2 * 128 * 16 * 27


def test_grouped_convolution_divides_its_channels():
    built = op(
        "convolution",
        f32(1, 8, 4, 4),
        f32(8, 1, 3, 3),
        None,
        (1, 1),
        (1, 1),
        (1, 1),
        False,
        (0, 0),
        8,
        out=f32(1, 8, 4, 4),
    )
    assert [built.size(name) for name in ("batch", "m", "n", "k")] == [8, 16, 1, 9]
    assert built.matrix_flops == 2 * 8 * 16 * 9


def test_transposed_convolution_counts_input_positions():
    built = op(
        "convolution",
        f32(1, 4, 5, 5),
        f32(4, 6, 2, 2),
        None,
        (2, 2),
        (0, 0),
        (1, 1),
        True,
        (0, 0),
        1,
        out=f32(1, 6, 10, 10),
    )
    assert built.matrix_flops == 2 * 25 * 4 * 6 * 4


@pytest.mark.parametrize(
    ("name", "source", "arguments", "apart"),
    [
        ("mean", f32(4, 6, 8), ((-1,), True), None),
        ("mean", f32(4, 6, 8), ((1, 2), False), None),
        ("sum", f32(4, 6, 8), ((0,), False), 1),
        ("amax", f32(4, 6, 8), ((1,), False), 1),
        ("amax", TensorMeta(shape=(4, 6), dtype="float32", strides=(1, 4)), ((0,), False), None),
        ("linalg_vector_norm", f32(4, 6), (2, (0,), False), 1),
        ("sum", f32(4, 6), (), None),
        ("argmax", f32(4, 1), (0, False), None),
    ],
)
def test_reductions_say_whether_their_numbers_are_neighbors(name, source, arguments, apart):
    assert dict(op(name, source, *arguments, out=f32(4)).sizes).get("apart") == apart


def test_causal_attention_may_skip_the_masked_pairs():
    q = f32(1, 2, 4, 8)
    built = op("scaled_dot_product_attention", q, q, q, None, 0.0, True, out=q)
    assert built.flops == 2 * 2 * 2 * 4 * 4 * 8
    assert built.required_flops == 2 * 2 * 2 * (4 * 5 // 2) * 8


def test_causal_flag_of_one_query_masks_nothing_that_decoding_needs():
    q, k = f32(1, 2, 1, 8), f32(1, 2, 9, 8)
    built = op("scaled_dot_product_attention", q, k, k, None, 0.0, False, out=q)
    assert built.required_flops == built.flops == 2 * 2 * 2 * 9 * 8
    assert built.read_bytes("kv_cache") == 2 * 2 * 9 * 8 * 4


def test_unknown_operation_is_unknown_and_never_zero():
    built = op("no_such_operation", f32(4), out=f32(2))
    assert (built.kind, built.flops) == ("unknown", None)
    assert (built.read_bytes(), built.write_bytes()) == (16, 8)


def test_strict_mode_refuses_unknown_operations():
    with pytest.raises(UnknownOperationError, match="aten::no_such_operation: no cost rule"):
        build_op(AtenCall(name="aten::no_such_operation"), strict=True)


def test_no_operation_is_both_free_and_costed():
    assert not [name for name in RULES if is_free(f"aten::{name}") and name not in ("reshape", "to", "contiguous")]


def singles(call):
    return dict(call.sizes).get("single_accesses", 0)


def test_elements_move_one_by_one_where_layouts_or_types_differ():
    """Layouts and what PyTorch did with them in a profile of an H100 (vectorized kernels, and those that index)."""
    half = TensorMeta(shape=(4, 8, 2), dtype="bfloat16")
    swapped = TensorMeta(shape=(4, 8, 2), dtype="bfloat16", strides=(16, 2, 1))
    transposed = TensorMeta(shape=(4, 8, 2), dtype="bfloat16", strides=(16, 1, 8))
    both = {"dtype": "bfloat16", "strides": (16, 1, 8)}
    repeated = TensorMeta(shape=(1, 8, 2), dtype="bfloat16")
    single = f32(4, 8, 2)
    assert singles(op("add", half, swapped, out=half)) == 0
    assert singles(op("add", half, 2.0, out=half)) == 0
    assert singles(op("add", transposed, transposed, out=TensorMeta(shape=(4, 8, 2), **both))) == 0
    assert singles(op("add", half, transposed, out=half)) == 3 * 64
    assert singles(op("mul", half, repeated, out=half)) == 3 * 64
    assert singles(op("mul", half, single, out=single)) == 3 * 64
    assert singles(op("neg", transposed, out=half)) == 2 * 64
    assert singles(op("eq", half, half, out=TensorMeta(shape=(4, 8, 2), dtype="bool"))) == 0


def test_copies_move_elements_one_by_one_unless_they_narrow():
    half = TensorMeta(shape=(4, 8), dtype="bfloat16")
    transposed = TensorMeta(shape=(4, 8), dtype="bfloat16", strides=(1, 4))
    assert singles(op("copy_", half, half, out=half)) == 0
    assert singles(op("copy_", half, transposed, out=half)) == 2 * 32
    assert singles(op("copy_", half, f32(4, 8), out=half)) == 0
    assert singles(op("copy_", f32(4, 8), half, out=f32(4, 8))) == 2 * 32
    joined = TensorMeta(shape=(8, 8), dtype="bfloat16")
    assert singles(op("cat", (half, half), out=joined)) == 0
    assert singles(op("cat", (half, transposed), out=joined)) == 2 * 64
    assert singles(op("clone", transposed, out=half)) == 2 * 32


def scattered(call):
    return dict(call.sizes).get("scattered_bytes", 0)


def test_elements_that_lie_apart_take_a_sector_each():
    """1,600 elements of 2 bytes, neighbors of the output 40 elements (a whole sector) or 4 (8 bytes) apart."""
    rows = TensorMeta(shape=(40, 40), dtype="bfloat16")
    columns = TensorMeta(shape=(40, 40), dtype="bfloat16", strides=(1, 40))
    near = TensorMeta(shape=(40, 40), dtype="bfloat16", strides=(160, 4))
    assert scattered(op("clone", columns, out=rows)) == 1600 * (32 - 2)
    assert scattered(op("clone", near, out=rows)) == 1600 * (8 - 2)
    assert scattered(op("add", rows, columns, out=rows)) == 1600 * 30
    assert scattered(op("add", columns, columns, out=rows)) == 2 * 1600 * 30
    # The output of a sum lies as its first operand does: then the other one is scattered.
    assert scattered(op("add", columns, rows, out=columns)) == 1600 * 30
    assert scattered(op("add", columns, columns, out=columns)) == 0


def test_a_block_of_threads_uses_all_of_a_sector_where_rows_are_short():
    """512 elements a block are 16 rows of 32, and a sector holds 16 numbers of 2 bytes: of as many rows."""
    for length, expected in ((32, 0), (33, 2048 * 33 * 30)):
        rows = TensorMeta(shape=(2048, length), dtype="bfloat16")
        columns = TensorMeta(shape=(2048, length), dtype="bfloat16", strides=(1, 2048))
        assert scattered(op("clone", columns, out=rows)) == expected


def sizes_of(call):
    return {name: size for name, size in dict(call.sizes).items() if name not in ("elements", "scattered_bytes")}


def test_places_are_worked_out_along_dimensions_that_do_not_follow_one_another():
    """Heads of 64 numbers: positions before heads, [2, 5, 4, 64], are seen as heads before positions."""
    swapped, whole = (
        TensorMeta(shape=(2, 4, 5, 64), dtype="bfloat16", strides=strides) for strides in ((1280, 64, 256, 1), None)
    )
    table = TensorMeta(shape=(1, 1, 5, 64), dtype="bfloat16")
    # Of the output, 64 numbers, positions, heads and sequences follow one another; of the source, none do.
    assert sizes_of(op("clone", swapped, out=whole)) == {"single_accesses": 2 * 2560, "single_dimensions": 4}
    # A table of positions: positions and their numbers follow one another, and so do heads and sequences (repeated).
    assert sizes_of(op("mul", whole, table, out=whole)) == {"single_accesses": 3 * 2560, "single_dimensions": 2}
    # Over heads behind positions it is repeated in the middle: nothing follows.
    assert sizes_of(op("mul", swapped, table, out=swapped)) == {"single_accesses": 3 * 2560, "single_dimensions": 4}
    # One number for all: along the output's one dimension.
    one = TensorMeta(shape=(1,), dtype="bfloat16")
    assert sizes_of(op("mul", whole, one, out=whole)) == {"single_accesses": 3 * 2560, "single_dimensions": 1}


def test_elements_of_several_types_are_converted():
    narrow, wide = (TensorMeta(shape=(4, 8), dtype=dtype) for dtype in ("bfloat16", "float32"))
    expected = {"single_accesses": 2 * 32, "single_dimensions": 1, "converts": 1}
    assert sizes_of(op("_to_copy", narrow, out=wide)) == expected
    assert sizes_of(op("_to_copy", wide, out=narrow)) == {}  # a kernel of its own, that goes along memory
    columns = TensorMeta(shape=(4, 8), dtype="float32", strides=(1, 4))
    assert sizes_of(op("_to_copy", columns, out=narrow)) == {"single_accesses": 2 * 32, "single_dimensions": 2}
    assert sizes_of(op("mul", narrow, wide, out=wide)) == {**expected, "single_accesses": 3 * 32}


def test_parts_that_do_not_lie_row_by_row_are_joined_by_a_kernel_of_its_own():
    half = TensorMeta(shape=(4, 8), dtype="bfloat16")
    columns = TensorMeta(shape=(4, 8), dtype="bfloat16", strides=(1, 4))
    whole = TensorMeta(shape=(4, 16), dtype="bfloat16")
    assert sizes_of(op("cat", (half, half), out=whole)) == {}
    assert sizes_of(op("cat", (half, columns), out=whole)) == {"single_accesses": 2 * 64, "joins": 1}
    # Five dimensions: a copy for each part, into places that do not follow one another.
    part, joined = (TensorMeta(shape=(1, 2, width, 2, 2), dtype="bfloat16") for width in (3, 6))
    assert sizes_of(op("cat", (part, part), out=joined)) == {"single_accesses": 2 * 48, "single_dimensions": 2}


def test_repeated_and_swapped_operands_are_not_scattered():
    """A row or a column that is repeated, heads before positions: neighbors stay neighbors, or are one element."""
    rows = TensorMeta(shape=(4, 8), dtype="bfloat16")
    assert scattered(op("mul", rows, TensorMeta(shape=(8,), dtype="bfloat16"), out=rows)) == 0
    assert scattered(op("mul", rows, TensorMeta(shape=(4, 1), dtype="bfloat16", strides=(1, 4)), out=rows)) == 0
    half, swapped = (TensorMeta(shape=(4, 8, 2), dtype="bfloat16", strides=strides) for strides in (None, (2, 8, 1)))
    assert scattered(op("clone", swapped, out=half)) == 0


def test_attention_tells_of_a_mask_that_is_a_tensor():
    q = TensorMeta(shape=(1, 2, 4, 8), dtype="bfloat16")
    mask = TensorMeta(shape=(1, 1, 4, 4), dtype="bfloat16")
    masked, causal = (
        dict(op("scaled_dot_product_attention", q, q, q, *more, out=q).sizes) for more in ((mask,), (None, 0.0, True))
    )
    assert masked["masked"] == 1
    assert "masked" not in causal


@pytest.mark.parametrize(
    "built",
    [
        op("native_group_norm", f32(2, 8, 4, 4), f32(8), f32(8), 2, 8, 16, 4, 1e-5, out=f32(2, 8, 4, 4)),
        op("group_norm", f32(2, 8, 4, 4), 4, f32(8), f32(8), 1e-5, out=f32(2, 8, 4, 4)),
    ],
    ids=["native", "function"],
)
def test_group_norm_has_a_row_for_every_group(built):
    """Two images of four groups: two channels of 4 x 4 each."""
    assert (built.size("rows"), built.size("columns")) == (8, 32)
