"""Cost of elementwise operations: FLOPs per output element and the traffic of every operand once."""

from profiler.costs.call import AtenCall, base_name
from profiler.costs.layout import single_sizes
from profiler.op import Op

# FLOPs per output element. An addition, product, comparison or selection is 1; a division, root, exponential,
# logarithm or trigonometric function is also 1 operation (hardware has a special-function unit for it);
# compound activations count their parts: silu(x) = x / (1 + exp(-x)) is negate, exp, add, divide.
_ONE = """abs add ceil clamp clamp_max clamp_min clip eq floor fmod ge gt le lt logical_and
logical_not logical_or logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor bitwise_left_shift
bitwise_right_shift __and__ __or__ __xor__ __lshift__ __rshift__ __rshift lshift masked_fill maximum minimum mul ne
neg relu remainder round rsub sign signbit sub threshold trunc where frac hardtanh isfinite isinf isnan nan_to_num
heaviside multiply subtract true_divide negative
acos asin atan atan2 cos cosh div divide erf erfc erfinv exp exp2 expm1 floor_divide lgamma log log10 log1p log2
pow reciprocal rsqrt sin sinh sqrt square tan tanh polar complex angle""".split()
_SEVERAL = {
    "addcmul": 2,
    "addcdiv": 2,
    "lerp": 3,
    "sigmoid": 3,
    "silu": 4,
    "mish": 5,
    "softplus": 3,
    "log_sigmoid_forward": 3,
    "elu": 3,
    "leaky_relu": 2,
    "hardsigmoid": 3,
    "hardswish": 4,
    "gelu": 8,  # tanh form: x^3 term (3), inner sum and scale (2), tanh, 1 + tanh, product
    "glu": 4,
    "logit": 3,
    "logaddexp": 4,
    "xlogy": 2,
    "silu_backward": 8,
    "gelu_backward": 16,
    "threshold_backward": 1,
    "tanh_backward": 3,
    "sigmoid_backward": 3,
    "native_dropout": 2,
    "dropout": 2,
    "feature_dropout": 2,
    "alpha_dropout": 2,
}
FLOPS_PER_ELEMENT: dict[str, int] = {**dict.fromkeys(_ONE, 1), **_SEVERAL}


def pointwise_op(call: AtenCall) -> Op:
    """An elementwise operation: every operand moves once; an in-place operation reads and writes its target."""
    elements = sum(out.elements for out in call.outputs[:1])
    inputs = tuple(tensor.operand() for tensor in call.tensors())
    outputs = tuple(out.operand() for out in call.outputs)
    dtype = outputs[0].dtype if outputs else "float32"
    if dtype == "bool" and inputs:
        dtype = inputs[0].dtype
    tensors = list(call.tensors())
    single = single_sizes(tensors, call.outputs[0]) if call.outputs else {}
    return Op(
        kind="pointwise",
        name=call.name,
        dtype=dtype,
        inputs=inputs,
        outputs=outputs,
        sizes=(("elements", elements), *single.items()),
        vector_flops=FLOPS_PER_ELEMENT[base_name(call.name)] * elements,
    )
