"""What a validation goes through: every table there is, or those asked for; and its scores as a frame."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from roofline.chip import Chip
from roofline.chip_families import has_own_constants, with_constants_of
from roofline.chipfile import load_chip
from simulator.bands import Band
from simulator.errors import NoRowsError, SimulationError
from simulator.op_columns import FloatArray
from simulator.validation.bands_from_tables import datasheet_bands, moved_bands, own_bands
from simulator.validation.baselines import datasheet_roofline_s, fitted_roofline_s
from simulator.validation.families import family
from simulator.validation.scores import predict_s, score, score_few_rows, scores_by_class
from simulator.validation.silicon import SYSTEMS, TABLES, silicon_backends, silicon_table, table_kind
from simulator.validation.table_files import file_tables
from simulator.validation.tables import MeasuredTable

# The types that are validated where nothing is asked for, by family of kernels; every other type on request.
_DTYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("gemm", "moe"), ("bfloat16", "float8_e4m3fn")),
    "topk": ("float32",),
}
_WITHOUT: dict[str, frozenset[str]] = {  # chips that the package has no such table of, or whose units lack the type
    "float8_e4m3fn": frozenset({"a100-sxm-80gb"}),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """One table and what the kernel models make of it.

    Attributes:
        table: measured rows.
        chip: the chip that predicts them.
        predicted_s: of every row, [rows].
        is_fitted: whether the constants were fitted to (the other half of) this backend's rows.
    """

    table: MeasuredTable
    chip: Chip
    predicted_s: FloatArray
    is_fitted: bool

    def held_out(self) -> "Run":
        """The rows that no fit has seen."""
        rows = self.table.held_out.nonzero()[0]
        return Run(
            table=self.table.take(rows),
            chip=self.chip,
            predicted_s=self.predicted_s[rows],
            is_fitted=self.is_fitted,
        )


def chosen_tables(
    *,
    chip: str = "",
    op: str = "",
    dtype: str = "",
    backend: str = "",
    file: Path | None = None,
    donor: str = "",
    all_rows: bool = False,
) -> list[tuple[MeasuredTable, Chip]]:
    """The measured tables asked for; an empty name stands for all there are.

    Args:
        chip: name of a chip or a chip file; a file takes the tables of the chip that it names.
        op: family of kernels.
        dtype: type.
        backend: library.
        file: a table of one's own instead of the package's.
        donor: a chip whose constants stand in for those of all others, to see how far they move.
        all_rows: hold out every row of the file, as constants were fitted to none of them.

    Raises:
        SimulationError: there is no such table, or all rows are asked for of tables that constants were fitted to.
    """
    if all_rows and file is None:
        raise SimulationError("--all-rows is for a --table of your own: constants were fitted to the package's rows")
    found = _tables(chip, op, dtype, backend, file)
    if all_rows:
        found = [(replace(table, held_out=np.ones_like(table.held_out)), loaded) for table, loaded in found]
    if not donor:
        return found
    other = load_chip(donor)
    return [(table, with_constants_of(loaded, other)) for table, loaded in found]


def _tables(chip: str, op: str, dtype: str, backend: str, file: Path | None) -> list[tuple[MeasuredTable, Chip]]:
    if file is not None:
        loaded = load_chip(chip or "h100-sxm")
        return [(table, loaded) for table in file_tables(file, loaded, op=op, dtype=dtype, backend=backend)]
    chips = [load_chip(chip)] if chip else [load_chip(name) for name in SYSTEMS]
    found = []
    for loaded in chips:
        for each_op in [op] if op else list(TABLES):
            for each_dtype in [dtype] if dtype else _DTYPES.get(each_op, ("bfloat16",)):
                if not (dtype and op) and loaded.name in _WITHOUT.get(each_dtype, frozenset()):
                    continue
                found += [(table, loaded) for table in _of_backends(loaded, each_op, each_dtype, backend)]
    if not found:
        of_type = f" in {dtype}" if dtype else ""
        raise SimulationError(f"no measured table of op {op or 'any'!r}{of_type} on {chip or 'any chip'}")
    return found


def _of_backends(chip: Chip, op: str, dtype: str, backend: str) -> Iterator[MeasuredTable]:
    """The package's tables of one family and type; of all backends, those that hold the type."""
    if backend:
        yield silicon_table(chip, op, dtype, backend)
        return
    for each in silicon_backends(chip.name, op):
        with suppress(NoRowsError):
            yield silicon_table(chip, op, dtype, each)


def chosen_table(chip: Chip, op: str, dtype: str, backend: str, file: Path | None) -> MeasuredTable:
    """One table to fit to: a file's, or the package's of this backend (default: the family's own)."""
    if file is not None:
        return file_tables(file, chip, op=op, dtype=dtype, backend=backend)[0]
    chosen = backend or table_kind(op).fitted or next(iter(silicon_backends(chip.name, op)), "any")
    return silicon_table(chip, op, dtype, chosen)


def run_all(tables: Iterable[tuple[MeasuredTable, Chip]]) -> Iterator[Run]:
    """Predict every row of every table."""
    for table, chip in tables:
        yield Run(table=table, chip=chip, predicted_s=predict_s(table, chip), is_fitted=_is_fitted(table, chip))


def _is_fitted(table: MeasuredTable, chip: Chip) -> bool:
    """Whether the chip has constants of its own that were fitted to this backend's rows."""
    return _is_of_fitted_backend(table) and has_own_constants(chip, family(table.op, table.dtype).scope)


def _is_of_fitted_backend(table: MeasuredTable) -> bool:
    """Whether fits of this family look at the rows of this backend."""
    return table.op in TABLES and table.backend.split()[0] == TABLES[table.op].fitted


def scores_frame(runs: Sequence[Run], *, by_class: bool = False) -> pd.DataFrame:
    """Errors on the rows held out, one row a table (or also one a size class), the baselines' beside them."""
    rows = []
    for run in runs:
        held = run.held_out()
        table, predicted_s = held.table, held.predicted_s
        scores = [score(table, predicted_s)]
        if by_class:
            scores = [*scores_by_class(table, predicted_s), *score_few_rows(table, predicted_s)]
        sheet = score(table, datasheet_roofline_s(table, run.chip)).mape_percent
        fitted_s = fitted_roofline_s(run.table, run.chip)[run.table.held_out]
        simple = score(table, fitted_s).mape_percent
        for each in scores:
            whole = each.size_class == "all"
            rows.append(
                {
                    **asdict(each),
                    "rows_dropped": table.dropped,
                    "fitted_here": run.is_fitted,
                    "datasheet_mape_percent": sheet if whole else float("nan"),
                    "fitted_roofline_mape_percent": simple if whole else float("nan"),
                }
            )
    return pd.DataFrame(rows)


# Families in which no kernel stands for its kind, as every operation has its own: all that were measured count alike.
_POOLED: dict[str, frozenset[str]] = {"elementwise": frozenset({"elementwise", "mixing"})}


def _alike(run: Run, runs: Sequence[Run]) -> list[tuple[MeasuredTable, FloatArray]]:
    """Tables beside that of a run whose kernels make its band with it, and their predictions."""
    pool = _POOLED.get(run.table.op, frozenset())
    others = [other for other in runs if other is not run and other.table.chip == run.table.chip]
    return [(other.table, other.predicted_s) for other in others if other.table.op in pool]


def bands(runs: Sequence[Run]) -> list[Band]:
    """Error bands of every run that was fitted to, of constants moved between their chips, and of chips without any."""
    fitted = [run for run in runs if run.is_fitted]
    found = [band for run in fitted for band in own_bands(run.table, run.predicted_s, _alike(run, runs))]
    groups = _by_kernel(run.table for run in fitted)
    found += [band for tables in groups if len(tables) > 1 for band in moved_bands(tables)]
    every = _by_kernel(run.table for run in runs if _is_of_fitted_backend(run.table))
    return found + [band for tables in every for band in datasheet_bands(tables)]


def _by_kernel(tables: Iterable[MeasuredTable]) -> list[list[MeasuredTable]]:
    """Tables of the same family and type together."""
    groups: dict[tuple[str, str], list[MeasuredTable]] = {}
    for table in tables:
        groups.setdefault((table.op, table.dtype), []).append(table)
    return list(groups.values())
