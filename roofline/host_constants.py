"""From benchmarks of eager PyTorch to constants of a chip that is its own host: `[calibration.eager.host]`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf

from profiler.measurements import (
    EAGER_BLOCK_CALLS,
    EAGER_PREFIX,
    EAGER_ROWS,
    EAGER_WEIGHT_SIZE,
    BandwidthPoint,
    MachineMeasurements,
    Measurement,
)
from profiler.op import dtype_bits

SCOPE = "eager.host"
_CALLS = ("linear", "convolution", "norm", "layer_norm", "gelu", "attention")  # beside `call`, for all others
_LEAST_S = 1e-9  # of a difference of two times, which noise could turn around


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConstant:
    """A constant, and the measurements that it comes from.

    Attributes:
        name: below `SCOPE`, a scope of its own before it where it holds for some ops alone.
        value: in the unit that the name ends in.
        of: what was measured.
        how: how it follows from that, empty where it is the figure itself.
    """

    name: str
    value: float
    of: tuple[Measurement, ...]
    how: str = ""

    @property
    def scope(self) -> str:
        """Ops that it holds for, empty for all."""
        return self.name.rpartition(".")[0]


def host_constants(measured: MachineMeasurements) -> tuple[HostConstant, ...]:
    """Constants of eager programs on a CPU; empty where nothing of them was measured.

    Args:
        measured: result of the micro-benchmarks.
    """
    found = {each.name.removeprefix(EAGER_PREFIX): each for each in measured.eager}
    if not found:
        return ()
    others = {each.name: each for each in measured.kernels}
    peaks: dict[str, float] = {}
    for dtype, product in measured.matmul:
        peaks[dtype] = max(peaks.get(dtype, 0.0), product.value)
    constants = [
        *_calls(found),
        *_products(found, peaks, max(point.best.value for point in measured.bandwidth)),
        *_rates(found, others),
        *_streams(measured.bandwidth, measured),
    ]
    near, far = measured.eager_reaches
    constants.append(HostConstant(name="near_bytes", value=float(near), of=(found["near call"],), how="its stream"))
    constants.append(HostConstant(name="far_bytes", value=float(far), of=(found["far call"],), how="its stream"))
    scopes = list(dict.fromkeys(["", *(each.scope for each in constants)]))
    return tuple(sorted(constants, key=lambda each: scopes.index(each.scope)))  # as a chip file has them


def _calls(found: Mapping[str, Measurement]) -> Iterator[HostConstant]:
    """What calls cost before they compute, and the Python between them."""
    for reach in ("near", "far"):
        yield HostConstant(name=f"{reach}_s", value=found[f"{reach} call"].value, of=(found[f"{reach} call"],))
    for call in _CALLS:
        yield HostConstant(name=f"{call}.near_s", value=found[f"near {call}"].value, of=(found[f"near {call}"],))
    block = found["near module"]
    calls = {call: found[f"near {call}"] for call in EAGER_BLOCK_CALLS}
    alone_s = sum(EAGER_BLOCK_CALLS[call] * one.value for call, one in calls.items())
    python_s = max(0.0, block.value - alone_s) / sum(EAGER_BLOCK_CALLS.values())
    how = "what modules and views add to the calls inside, per call"
    yield HostConstant(name="python_s", value=python_s, of=(block, *calls.values()), how=how)
    alone, together = found["alone"], found["together"]
    how = "what as much work in each thread takes beyond that of one"
    yield HostConstant(name="fork_s", value=max(0.0, together.value - alone.value), of=(alone, together), how=how)


def _products(
    found: Mapping[str, Measurement], peaks: Mapping[str, float], most_bytes_per_s: float
) -> Iterator[HostConstant]:
    """Rates of products: what each row adds, and what the weights take beside it, from main memory or a cache.

    Differences of two times hold the noise of both; so no rate is beyond a ceiling that was measured directly.
    """
    size, (first, few_rows, many_rows) = EAGER_WEIGHT_SIZE, EAGER_ROWS
    for dtype in sorted(name.split()[-1] for name in found if name.startswith(f"{first} rows ")):
        few, many = found[f"{few_rows} rows {dtype}"], found[f"{many_rows} rows {dtype}"]
        row_s = max(many.value - few.value, _LEAST_S) / (many_rows - few_rows)
        how = "by what a row adds"
        rate = min(2.0 * size**2 / row_s, peaks.get(dtype, inf))
        yield HostConstant(name=f"gemm.{dtype}.flops_per_s", value=rate, of=(few, many), how=how)
        for where in ("", "held "):
            scope = f"gemm.{dtype}.{where.replace(' ', '_')}"
            one, some = found[f"{first} {where}rows {dtype}"], found[f"{few_rows} {where}rows {dtype}"]
            weights_bytes = size**2 * dtype_bits(dtype) / 8
            yield HostConstant(name=f"{scope}row_bytes_per_s", value=weights_bytes / one.value, of=(one,))
            weights_s = max(some.value - few_rows * row_s, weights_bytes / most_bytes_per_s)
            how = "by what remains without the rows"
            yield HostConstant(name=f"{scope}weight_bytes_per_s", value=weights_bytes / weights_s, of=(some,), how=how)


def _rates(found: Mapping[str, Measurement], others: Mapping[str, Measurement]) -> Iterator[HostConstant]:
    """Rates of what is no product with weights."""
    for name, source in (
        ("attention.flops_per_s", "many queries"),
        ("attention.bytes_per_s", "one query"),
        ("norm.elements_per_s", "norm elements"),
        ("function.elements_per_s", "function elements"),
        ("argmax.elements_per_s", "argmax elements"),
        ("fresh_bytes_per_s", "fresh"),
    ):
        yield HostConstant(name=name, value=found[source].value, of=(found[source],))
    for name in ("sort", "topk"):
        yield HostConstant(name=f"{name}.elements_per_s", value=others[name].value, of=(others[name],))
    large, small = found["convolution 3"], found["convolution 1"]
    rate = 2.0 / (1.0 / large.value + 1.0 / small.value)
    yield HostConstant(name="conv.flops_per_s", value=rate, of=(large, small), how="as many FLOPs in each of them")


def _streams(ladder: tuple[BandwidthPoint, ...], measured: MachineMeasurements) -> Iterator[HostConstant]:
    """Reading two thirds and writing one, within the last cache and beyond it."""
    near, far = measured.eager_reaches
    known = [(point.working_set_bytes, point.read_write or point.read) for point in ladder]
    inside = [one for size, one in known if size <= near] or [known[0][1]]
    outside = [one for size, one in known if size >= far] or [known[-1][1]]
    yield HostConstant(name="near_bytes_per_s", value=inside[-1].value, of=(inside[-1],))
    usual = sorted(outside, key=lambda one: one.value)[(len(outside) - 1) // 2]  # the fastest of several may be noise
    yield HostConstant(name="far_bytes_per_s", value=usual.value, of=(usual,))
