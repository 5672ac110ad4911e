"""`Technology`: what processes, memories, packages and power take in area, energy and money, from one TOML file."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from explorer.errors import ExplorationError
from explorer.hardware import FloatArray, IntArray, TextArray
from explorer.technology_figures import AreaConstants, CostConstants, DramKind, EnergyConstants, ProcessNode

SCHEMA_VERSION = 1
_SHIPPED = "technology.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Technology:
    """Everything that area, power and cost are computed from, and where each figure comes from."""

    nodes: tuple[ProcessNode, ...]
    drams: tuple[DramKind, ...]
    area: AreaConstants
    energy: EnergyConstants
    cost: CostConstants
    sources: tuple[tuple[str, str], ...]

    def source(self, key: str) -> str:
        """Where a figure comes from, for example `node.n7.wafer_usd`.

        >>> load_technology().source("node.n7.wafer_usd").split(":")[0]
        'PrincetonUniversity/ttm-cas@d98ac05 (Khan and Mann, AI Chips)'
        """
        return _source(dict(self.sources), key)

    def node_rows(self, names: TextArray) -> IntArray:
        """Row of each design's node in `nodes`, [D]."""
        return _rows(names, tuple(node.name for node in self.nodes), "process node")

    def dram_rows(self, names: TextArray) -> IntArray:
        """Row of each design's main memory in `drams`, [D]."""
        return _rows(names, tuple(dram.name for dram in self.drams), "kind of DRAM")

    def node_figure(self, figure: str, rows: IntArray) -> FloatArray:
        """One figure of each design's node, [D]."""
        return np.array([float(getattr(node, figure)) for node in self.nodes])[rows]

    def dram_figure(self, figure: str, rows: IntArray) -> FloatArray:
        """One figure of each design's main memory, [D]."""
        return np.array([float(getattr(dram, figure)) for dram in self.drams])[rows]


def load_technology(path: str | Path | None = None) -> Technology:
    """The shipped figures, or those with a file's own over them.

    Args:
        path: a TOML file of the same keys that holds only what it changes, each with its source; none for the shipped.

    Raises:
        ExplorationError: one line that says what is wrong and where.

    >>> load_technology().nodes[0].name
    'n12'
    """
    document = _read((resources.files("explorer") / _SHIPPED).read_bytes(), _SHIPPED)
    if path is not None:
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ExplorationError(f"cannot read technology file {path}: {error.strerror or error}") from None
        changes = _read(content, str(path))
        _require_sources(changes, str(path))
        _merge(document, changes, "", str(path))
    file = _SHIPPED if path is None else str(path)
    _require_sources(document, file)
    base = document["area"]["base_node"]
    if base not in document["node"]:
        raise ExplorationError(f"{file}: area.base_node must be one of {', '.join(document['node'])}, got {base!r}")
    return Technology(
        nodes=tuple(
            _record(ProcessNode, table, f"node.{name}", file, name) for name, table in document["node"].items()
        ),
        drams=tuple(_record(DramKind, table, f"dram.{name}", file, name) for name, table in document["dram"].items()),
        area=_record(AreaConstants, document["area"], "area", file),
        energy=_record(EnergyConstants, document["energy"], "energy", file),
        cost=_record(CostConstants, document["cost"], "cost", file),
        sources=tuple(document["sources"].items()),
    )


def _rows(names: TextArray, known: tuple[str, ...], what: str) -> IntArray:
    rows = np.full(len(names), -1, dtype=np.int64)
    for row, name in enumerate(known):
        rows[names == name] = row
    if (rows < 0).any():
        unknown = str(names[int(np.argmin(rows))])
        raise ExplorationError(f"unknown {what} {unknown!r}; known: {', '.join(known)}")
    return rows


def _read(content: bytes, file: str) -> dict[str, Any]:
    """A file's tables, of the schema that this program reads."""
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ExplorationError(f"{file}: not a text file in UTF-8 (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ExplorationError(f"{file}: not valid TOML: {' '.join(str(error).split())}") from None
    if document.pop("schema", None) != SCHEMA_VERSION:
        raise ExplorationError(f"{file}: schema must be {SCHEMA_VERSION}, the only version this program reads")
    allowed = ("node", "dram", "area", "energy", "cost", "sources")
    for key, table in document.items():
        if key not in allowed or not isinstance(table, dict):
            raise ExplorationError(f"{file}: unknown section {key!r}; known: {', '.join(allowed)}")
    return document


def _merge(base: dict[str, Any], changes: Mapping[str, Any], where: str, file: str) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) != isinstance(base.get(key, value), dict):
            raise ExplorationError(f"{file}: {where}{key} must be {'a table' if key in base else 'a value'}")
        if isinstance(value, dict) and key in base:
            _merge(base[key], value, f"{where}{key}.", file)
        else:
            base[key] = value


def _figures(document: Mapping[str, Any], where: str = "") -> Iterator[str]:
    for key, value in document.items():
        if where or key != "sources":
            yield from _figures(value, f"{where}{key}.") if isinstance(value, dict) else (f"{where}{key}",)


def _require_sources(document: Mapping[str, Any], file: str) -> None:
    sources = document.get("sources", {})
    for figure in _figures(document):
        if not _source(sources, figure):
            raise ExplorationError(f'{file}: {figure} has no source; give one under [sources] as "{figure}" = "..."')


def _source(sources: Mapping[str, Any], figure: str) -> str:
    """The source of a figure under its own key, for all of its kind, for its section, or for everything."""
    parts = figure.split(".")
    for key in (figure, f"{parts[0]}.{parts[-1]}", ".".join(parts[:-1]), parts[0], "*"):
        if isinstance(sources.get(key), str) and sources[key].strip():
            return str(sources[key])
    return ""


_Record = TypeVar("_Record", ProcessNode, DramKind, AreaConstants, EnergyConstants, CostConstants)


def _record(kind: type[_Record], table: object, where: str, file: str, name: str = "") -> _Record:
    """A table as its record: every figure there, a number of at least 0, and nothing else."""
    if not isinstance(table, dict):
        raise ExplorationError(f"{file}: {where} must be a table")
    wanted = {column.name: column.type for column in fields(kind) if column.name != "name"}
    strange = sorted(set(table) - set(wanted))
    missing = [key for key in wanted if key not in table]
    if strange or missing:
        problem = f"unknown key {where}.{strange[0]}" if strange else f"{where}.{missing[0]} is missing"
        raise ExplorationError(f"{file}: {problem}; known: {', '.join(wanted)}")
    values: dict[str, Any] = {key: _value(table[key], wanted[key], f"{where}.{key}", file) for key in wanted}
    if name:
        values["name"] = name
    return kind(**values)


# What may be nothing; every other figure divides or would make something free.
_MAY_BE_ZERO = {
    *("phy_mm2", "controller_mm2", "stack_mm2", "static_w", "usd_per_gb", "j_per_bit", "masks_usd", "other_mm2"),
    *("core_mm2", "systolic_core_mm2", "voltage_slope", "interposer_loss", "substrate_loss", "substrate_usd"),
    *("test_usd", "network_ratio", "capital_ratio", "defects_per_cm2", "electricity_usd_per_kwh"),
    *("bytes_per_s", "capacity_bytes", "interposer_usd_per_mm2", "static_j_per_mm2", "operand_j", "link_j_per_bit"),
}
_AT_MOST_ONE = {"interposer_loss", "substrate_loss", "load", "utilization", "gemm_part_of_peak"}


def _value(value: Any, kind: Any, where: str, file: str) -> Any:
    if kind is str or kind is bool:
        if not isinstance(value, kind):
            raise ExplorationError(f"{file}: {where} must be a {kind.__name__}, got {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ExplorationError(f"{file}: {where} must be a number, got {value!r}")
    key = where.rpartition(".")[2]
    if value < 0 or (value == 0 and key not in _MAY_BE_ZERO):
        raise ExplorationError(
            f"{file}: {where} must be {'at least' if key in _MAY_BE_ZERO else 'above'} 0, got {value}"
        )
    if key in _AT_MOST_ONE and (value > 1 or (value == 1 and key.endswith("_loss"))):
        raise ExplorationError(
            f"{file}: {where} must be {'below' if key.endswith('_loss') else 'at most'} 1, got {value}"
        )
    return float(value)
