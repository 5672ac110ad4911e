"""Records of micro-benchmarks: what a machine was seen to reach. No torch here."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from profiler.provenance import Provenance

Unit = Literal["flops_per_s", "bytes_per_s", "elements_per_s", "s"]

# Above this spread a measurement is doubtful.
DOUBTFUL_SPREAD = 0.05
# Further apart than this, the best of two halves of the windows have not settled on one figure.
SETTLED_WITHIN = 0.05

# Benchmarks of eager PyTorch: names, and shapes of those whose times say something only together.
EAGER_PREFIX = "eager "
EAGER_ROWS = (1, 16, 128)  # of products with one matrix of weights
EAGER_WEIGHT_SIZE = 1024  # rows and columns of that
EAGER_BLOCK_CALLS = {"layer_norm": 1, "linear": 2, "call": 4}  # of a small block of modules, by kind of call
GRAIN_ELEMENTS = 32768  # of a pointwise operation, from which PyTorch takes another thread (at::internal::GRAIN_SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured figure.

    Attributes:
        name: what was measured, for example `matmul bfloat16` or `read 64 KiB`.
        value: median of the runs; those in which the system kept the process waiting may be left out.
        unit: of the value.
        spread: interquartile range of the same runs over their median.
        runs: number of these runs; each may repeat the operation so that it lasts long enough for the clock.
        conditions: shapes and sizes.
        windows: stretches of runs that were made, far apart; the value is that of the fastest. 0 where nobody tells.
        halves_differ: how much faster the fastest window of one half is than that of the other, every other window
            making a half; None where there is only one half.
    """

    name: str
    value: float
    unit: Unit
    spread: float
    runs: int
    conditions: str = ""
    windows: int = 0
    halves_differ: float | None = None

    @property
    def is_doubtful(self) -> bool:
        """Whether the runs differ so much that the median says little."""
        return self.spread > DOUBTFUL_SPREAD

    @property
    def is_settled(self) -> bool | None:
        """Whether two halves of the windows found the same figure, each for itself; None where nobody tells."""
        if self.halves_differ is None:
            return None if self.windows == 0 else False
        return self.halves_differ <= SETTLED_WITHIN


def measurement_from_times(
    name: str, times_s: NDArray[np.float64], *, amount: float | None = None, unit: Unit = "s", conditions: str = ""
) -> Measurement:
    """Median and spread of timed runs, as seconds or as a rate.

    Args:
        name: what was measured.
        times_s: seconds of each run, [runs].
        amount: FLOPs or bytes of one run; the value is then a rate.
        unit: of the value.
        conditions: shapes and sizes.

    >>> measurement_from_times("x", np.array([1.0, 2.0, 3.0]), amount=10.0, unit="bytes_per_s").value
    5.0
    """
    median_s = float(np.median(times_s))
    low, high = np.percentile(times_s, [25, 75])
    return Measurement(
        name=name,
        value=median_s if amount is None else amount / median_s,
        unit=unit,
        spread=float((high - low) / median_s),
        runs=len(times_s),
        conditions=conditions,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthPoint:
    """Bandwidth of all cores together while they go over one working set again and again.

    Attributes:
        working_set_bytes: of all cores together.
        read: reading only.
        read_write: reading two thirds and writing one third; None where the call's own cost would hide it.
    """

    working_set_bytes: int
    read: Measurement
    read_write: Measurement | None = None

    @property
    def best(self) -> Measurement:
        """The faster of the two."""
        if self.read_write is not None and self.read_write.value > self.read.value:
            return self.read_write
        return self.read


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSize:
    """A cache as the system describes it; virtual machines are known to describe the host's."""

    name: str
    capacity_bytes: int
    per_core: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineMeasurements:
    """Everything that the micro-benchmarks found out about one device.

    Attributes:
        device_type: `cpu` or `cuda`.
        device_name: as the system names it.
        cores: CPU threads that the measurement used, or multiprocessors of the GPU.
        clock_hz: as the system tells it, None where it does not.
        main_memory_bytes: capacity of main memory.
        matmul: (dtype, FLOP/s of a square product), several sizes per dtype.
        exponential: the exponential function, per second, 32-bit.
        eager: what operations of eager programs take on a CPU, see `profiler.capture.eager_benchmarks`; names begin
            with `eager `.
        eager_reaches: bytes that were streamed before calls of those names with `near` and `far`.
        kernels: other figures, each under its own name: `logarithm`, `tanh`, `sine`, `reduction`, `gather`, `sort`,
            `topk`, `tall_skinny <dtype>`, `gemv <dtype>`, and on GPUs `graph_launch`, `all_reduce latency` and
            `all_reduce bandwidth`.
        bandwidth: smallest working set first.
        latency: (working set in bytes, seconds per dependent access, the loop's own time included).
        dispatch: host time from one tiny operation to the next.
        launch: device time from one tiny kernel to the next; None on a CPU, where `dispatch` is both.
        caches: as the system describes them, nearest first.
        notes: what was left out and why, and what makes the figures doubtful.
        provenance: when and with what it was measured.
    """

    device_type: str
    device_name: str
    cores: int
    clock_hz: float | None
    main_memory_bytes: int
    matmul: tuple[tuple[str, Measurement], ...]
    exponential: Measurement
    bandwidth: tuple[BandwidthPoint, ...]
    latency: tuple[tuple[int, Measurement], ...] = ()
    dispatch: Measurement
    launch: Measurement | None = None
    kernels: tuple[Measurement, ...] = ()
    eager: tuple[Measurement, ...] = ()
    eager_reaches: tuple[int, int] = (0, 0)
    caches: tuple[CacheSize, ...] = ()
    notes: tuple[str, ...] = ()
    provenance: Provenance
