"""`Constant`: one physical constant of a kernel model, so that any of them can be fitted to a measured table."""

from dataclasses import dataclass

from simulator.errors import SimulationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A constant that a chip's `[calibration]` may hold and a fit may find.

    Attributes:
        name: key in the chip file, with its unit.
        low: smallest value that a fit tries.
        high: largest value that a fit tries.
        start: where a fit begins, in between.
        unit: unit in words, empty for a ratio.
        meaning: one line.
        default: value of a chip without calibration; None where it is taken from the chip's other figures.
        of_dtype: whether it belongs to the data type rather than to the chip: a fit of one type may then move it alone.
        of_narrow_types: whether it belongs to types narrower than 16 bits alone: no fit of a 16-bit type moves it.
        condition: under which condition of a measurement alone it matters (see `op_columns.CONDITIONS`), empty: always.
    """

    name: str
    low: float
    high: float
    start: float
    unit: str
    meaning: str
    default: float | None = None
    of_dtype: bool = False
    of_narrow_types: bool = False
    condition: str = ""

    def __post_init__(self) -> None:
        if not self.low <= self.start <= self.high:
            raise SimulationError(
                f"constant {self.name!r}: start {self.start:g} must lie between {self.low:g} and {self.high:g}"
            )
