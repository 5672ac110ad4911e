"""`Parameter` and `ParameterSpace`: what may vary in a design, and designs as whole numbers of a mixed-radix system."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explorer.errors import ExplorationError
from workloads.hints import known_names

Value = bool | int | float | str
IntArray = NDArray[np.int64]
Columns = dict[str, NDArray[Any]]

FULL_GRID_LIMIT = 5_000_000
BLOCK_DESIGNS = 4096
_LARGEST_SPACE = 2**62  # a design is one 64-bit number


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One thing that varies, and the values it may take, in order.

    Attributes:
        name: as designs, constraints and reports call it.
        values: all numbers, all text or all booleans; no value twice.
        positive: whether each value must be above zero (bandwidths, clocks, sizes).
    """

    name: str
    values: tuple[Value, ...]
    positive: bool = False

    def __post_init__(self) -> None:
        where = f"parameter {self.name!r}"
        if not self.name:
            raise ExplorationError("a parameter has no name")
        if not self.values:
            raise ExplorationError(f"{where} has no values; give a list of at least one, or low, high and steps")
        kinds = {_kind(value, where) for value in self.values}
        if len(kinds) > 1:
            raise ExplorationError(f"{where} mixes {' and '.join(sorted(kinds))}; all values must be of one kind")
        for value in self.values:
            if isinstance(value, float) and not math.isfinite(value):
                raise ExplorationError(f"{where} has the value {value}; only finite numbers are allowed")
            if self.positive and not (_kind(value, where) == "numbers" and float(value) > 0):
                raise ExplorationError(f"{where} must be > 0, got {value!r}")
        if len(set(self.values)) < len(self.values):
            twice = next(value for value in self.values if self.values.count(value) > 1)
            raise ExplorationError(f"{where} has the value {twice!r} twice; each value may stand once")

    @classmethod
    def range(
        cls,
        name: str,
        low: float,
        high: float,
        *,
        steps: int | None = None,
        step: float | None = None,
        log: bool = False,
        positive: bool = False,
    ) -> "Parameter":
        """Values from `low` to `high`, both included where `steps` is given; whole numbers where both ends are.

        Args:
            name: of the parameter.
            low: the first value.
            high: the last; with `step`, no value is above it.
            steps: how many values.
            step: the difference of neighbors, or with `log` their ratio.
            log: equal ratios instead of equal differences.
            positive: whether values must be above zero.

        Raises:
            ExplorationError: low above high, a bound that is no number, zero with `log`, or values that coincide.

        >>> Parameter.range("cores", 64, 256, steps=3, log=True).values
        (64, 128, 256)
        >>> Parameter.range("clock_hz", 1.0e9, 2.0e9, step=4e8).values
        (1000000000.0, 1400000000.0, 1800000000.0)
        """
        _check_range(name, low, high, steps, step, log)
        points: NDArray[Any]
        if steps is not None:
            points = np.geomspace(low, high, steps) if log else np.linspace(low, high, steps)
        elif step is not None and log:
            points = low * step ** np.arange(math.floor(math.log(high / low, step) + 1e-9) + 1)
        else:
            points = low + float(step or 1) * np.arange(math.floor((high - low) / float(step or 1) + 1e-9) + 1)
        whole = all(isinstance(bound, int) for bound in (low, high, 1 if step is None else step))
        values = tuple(round(point) if whole else float(point) for point in points)
        if len(set(values)) < len(values):
            raise ExplorationError(
                f"parameter {name!r}: {len(values)} whole numbers do not fit between {low} and {high}; "
                f"give fewer steps, or write {float(low)} for fractions"
            )
        return cls(name=name, values=values, positive=positive)

    @property
    def is_ordered(self) -> bool:
        """Whether neighbors in the list are near each other: numbers are, names are not."""
        return not isinstance(self.values[0], str | bool)

    def column(self) -> NDArray[Any]:
        """The values as one array `[values]`: 64-bit integers, floats, text or booleans."""
        if self.is_ordered and not all(isinstance(value, int) for value in self.values):
            return np.array([float(value) for value in self.values])
        return np.array(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpace:
    """All combinations of the parameters' values; design `i` is number `i`, the last parameter counting fastest.

    >>> space = ParameterSpace(
    ...     parameters=(Parameter(name="cores", values=(64, 128)), Parameter(name="dram", values=("hbm3", "gddr6")))
    ... )
    >>> space.size
    4
    >>> {name: values.tolist() for name, values in space.decode(np.array([0, 3])).items()}
    {'cores': [64, 128], 'dram': ['hbm3', 'gddr6']}
    """

    parameters: tuple[Parameter, ...]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ExplorationError("the space is empty: it has no parameters; give at least one with its values")
        names = self.names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ExplorationError(f"parameter {twice!r} is given twice")
        size = math.prod(len(parameter.values) for parameter in self.parameters)
        if size > _LARGEST_SPACE:
            raise ExplorationError(
                f"the space has {size:.1e} designs, more than 2**62 can be told apart; give fewer values"
            )
        object.__setattr__(self, "size", size)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def lengths(self) -> IntArray:
        """How many values each parameter has, [P]."""
        return np.array([len(parameter.values) for parameter in self.parameters], dtype=np.int64)

    def check_names(self, names: Sequence[str], where: str) -> None:
        """Refuse names that are no parameter of this space.

        Raises:
            ExplorationError: with the nearest known name.
        """
        for name in names:
            if name not in self.names:
                raise ExplorationError(
                    f"{where}: {name!r} is not a parameter of the space; {known_names(name, self.names)}"
                )

    def digits(self, index: IntArray) -> IntArray:
        """Which value of each parameter the designs take, [D, P].

        Raises:
            ExplorationError: a design that the space does not have.
        """
        index = np.asarray(index, dtype=np.int64)
        outside = (index < 0) | (index >= self.size)
        if outside.any():
            raise ExplorationError(f"design {index[outside][0]} is not in the space; allowed: 0 to {self.size - 1}")
        return index[:, None] // self._weights() % self.lengths

    def encode(self, digits: IntArray) -> IntArray:
        """The designs' numbers, [D], from their digits [D, P]."""
        encoded: IntArray = (np.asarray(digits, dtype=np.int64) * self._weights()).sum(axis=1)
        return encoded

    def decode(self, index: IntArray) -> Columns:
        """The values of designs `index` [D]: one column [D] a parameter."""
        digits = self.digits(index)
        return {parameter.name: parameter.column()[digits[:, p]] for p, parameter in enumerate(self.parameters)}

    def index_of(self, design: Mapping[str, Value]) -> int:
        """The number of a design that is given by its values.

        Raises:
            ExplorationError: a name or a value that the space does not have.
        """
        self.check_names(tuple(design), "design")
        digits = []
        for parameter in self.parameters:
            if design.get(parameter.name) not in parameter.values:
                shown = [str(value) for value in parameter.values]
                allowed = ", ".join(shown if len(shown) <= 12 else [*shown[:6], "...", *shown[-5:]])
                raise ExplorationError(
                    f"design: {parameter.name} = {design.get(parameter.name)!r} is not in the space; allowed: {allowed}"
                )
            digits.append(parameter.values.index(design[parameter.name]))
        return int(self.encode(np.array([digits]))[0])

    def grid(self, start: int = 0, stop: int | None = None, *, block: int = BLOCK_DESIGNS) -> Iterator[IntArray]:
        """Numbers of designs from `start` to before `stop`, in blocks.

        Raises:
            ExplorationError: more designs than a full grid may have.
        """
        stop = self.size if stop is None else min(stop, self.size)
        if stop - start > FULL_GRID_LIMIT:
            raise ExplorationError(
                f"a full grid of this space has {stop - start:,} designs, more than {FULL_GRID_LIMIT:,}; "
                "sample it (--sampling sobol --designs N) or search it (--sampling nsga2 --designs N)"
            )
        return (np.arange(at, min(at + block, stop), dtype=np.int64) for at in range(start, stop, block))

    def sobol(self, count: int, seed: int) -> IntArray:
        """Numbers of `count` different designs, spread evenly (scrambled Sobol points, rounded to the values).

        Points that fall on one design count once; a space of at most `count` designs is returned whole.

        Raises:
            ExplorationError: `count` below one.
        """
        from scipy.stats import qmc  # noqa: PLC0415 - takes most of a second to import

        if count < 1:
            raise ExplorationError(f"the number of designs must be at least 1, got {count}")
        if count > FULL_GRID_LIMIT:
            raise ExplorationError(f"{count:,} designs are more than one run may have, {FULL_GRID_LIMIT:,}")
        if self.size <= count:
            return np.arange(self.size, dtype=np.int64)
        points = qmc.Sobol(d=len(self.parameters), scramble=True, rng=np.random.default_rng(seed))
        found = np.empty(0, dtype=np.int64)
        drawn = 1 << (count - 1).bit_length()
        while len(found) < count and points.num_generated + drawn <= points.maxn:
            digits = np.minimum((points.random(drawn) * self.lengths).astype(np.int64), self.lengths - 1)
            found = _first_of_each(np.concatenate([found, self.encode(digits)]))
            if points.num_generated > 16 * count:
                break  # rounding meets few of the designs that are left: take those in random order
            drawn = points.num_generated
        if len(found) < count:
            rest = np.setdiff1d(np.arange(self.size, dtype=np.int64), found)
            found = np.concatenate([found, np.random.default_rng(seed).permutation(rest)])
        return found[:count]

    def neighbors(self, index: IntArray) -> IntArray:
        """Designs that differ from one of `index` in one parameter: by one step, or for names by any other value.

        Those in `index` are left out; a design stands there as often as it is a neighbor.
        """
        digits = self.digits(index)
        found = []
        for p, parameter in enumerate(self.parameters):
            count = len(parameter.values)
            for move in (-1, 1) if parameter.is_ordered else range(1, count):
                moved = digits.copy()
                moved[:, p] = moved[:, p] + move if parameter.is_ordered else (moved[:, p] + move) % count
                found.append(self.encode(moved[(moved[:, p] >= 0) & (moved[:, p] < count)]))
        all_found = np.concatenate(found)
        return all_found[~np.isin(all_found, index)]

    def fingerprint(self) -> str:
        """A hash of names and values: equal for equal spaces, on every machine."""
        content = [[parameter.name, list(parameter.values)] for parameter in self.parameters]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _weights(self) -> IntArray:
        """What one step of each parameter adds to a design's number, [P]."""
        lengths = [len(parameter.values) for parameter in self.parameters]
        return np.array([math.prod(lengths[p + 1 :]) for p in range(len(lengths))], dtype=np.int64)


def _kind(value: object, where: str) -> str:
    if isinstance(value, bool):
        return "booleans"
    if isinstance(value, int | float):
        return "numbers"
    if isinstance(value, str):
        return "text"
    raise ExplorationError(f"{where} has the value {value!r}; allowed: numbers, text or booleans")


def _check_range(name: str, low: float, high: float, steps: int | None, step: float | None, log: bool) -> None:
    where = f"parameter {name!r}"
    for what, bound in (("low", low), ("high", high), ("step", 1 if step is None else step)):
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise ExplorationError(f"{where}: {what} must be a finite number, got {bound!r}")
    if (steps is None) == (step is None):
        raise ExplorationError(f"{where} needs either steps (how many values) or step (between values)")
    if low > high:
        raise ExplorationError(f"{where}: low {low} is above high {high}")
    if log and low <= 0:
        raise ExplorationError(f"{where}: low must be > 0 on a log scale, got {low}")
    if steps is not None and (
        isinstance(steps, bool) or not isinstance(steps, int) or steps < (1 if low == high else 2)
    ):
        raise ExplorationError(f"{where}: steps must be a whole number of at least 2, got {steps!r}")
    if steps is not None and steps > FULL_GRID_LIMIT:
        raise ExplorationError(f"{where}: {steps:,} steps are more than {FULL_GRID_LIMIT:,}")
    if step is not None and step <= (1 if log else 0):
        raise ExplorationError(
            f"{where}: step must be > {1 if log else 0}{' on a log scale' if log else ''}, got {step}"
        )
    if step is not None and (high - low) / step > FULL_GRID_LIMIT and not log:
        raise ExplorationError(f"{where}: a step of {step} gives more than {FULL_GRID_LIMIT:,} values")


def _first_of_each(index: IntArray) -> IntArray:
    _, first = np.unique(index, return_index=True)
    return index[np.sort(first)]
