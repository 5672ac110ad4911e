"""Reads scenarios: a TOML file is one, and those of this folder are found by name."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

from workloads.errors import WorkloadError
from workloads.preset_files import find_preset_file, list_preset_files, read_preset_table
from workloads.scenarios.scenario import JOBS, KINDS, Contender, Job, PublishedQuality, Scenario

FOLDER = Path(__file__).parent
_SCHEMA = 1
_JOB_TABLE = "job"


def list_scenarios() -> tuple[Scenario, ...]:
    """The scenarios that ship with Roofscape, sorted by name."""
    return tuple(load_scenario(name) for name in list_preset_files(FOLDER))


def load_scenario(name_or_path: str | Path, changes: Mapping[str, object] | None = None) -> Scenario:
    """The scenario of this name, or of a TOML file.

    Args:
        name_or_path: name, or path that ends in `.toml`.
        changes: keys of the job, or of the scenario, to replace, with values as TOML would have them.

    Raises:
        WorkloadError: it is unknown or cannot be read, or a key or value is not allowed.
    """
    path = find_preset_file(name_or_path, FOLDER, "scenario")
    table = read_preset_table(path, "scenario", _SCHEMA)
    try:
        return _build(path, table, changes or {})
    except WorkloadError as error:
        raise WorkloadError(f"scenario {path.stem!r}: {error}") from None


def _build(path: Path, table: dict[str, Any], changes: Mapping[str, object]) -> Scenario:
    kind = table.get("kind")
    if kind not in KINDS:
        raise WorkloadError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    job = _table(table.pop(_JOB_TABLE, {}), _JOB_TABLE)
    entries = table.pop("contender", [])
    if not isinstance(entries, list):
        raise WorkloadError("contenders must be tables [[contender]]")
    own = [field.name for field in fields(Scenario) if field.name not in {"name", "jobs", "contenders"}]
    for key, value in changes.items():
        if key not in own or key == "kind":
            job[key] = value
        else:
            table[key] = value
    values = _typed(Scenario, table, "", only=own)
    contenders = tuple(_contender(entry, path.parent) for entry in entries)
    return Scenario(name=path.stem, jobs=_jobs(JOBS[kind], job), contenders=contenders, **values)


def _jobs(job_type: type[Job], table: dict[str, Any]) -> tuple[Job, ...]:
    """The job in each size: a list where one whole number belongs stands for several, and all are combined."""
    types = get_type_hints(job_type)
    several = {
        key: value for key, value in table.items() if types.get(key) is int and isinstance(value, list) and value
    }
    sizes = product(*several.values())
    return tuple(
        job_type(**_typed(job_type, {**table, **dict(zip(several, chosen, strict=True))}, "job")) for chosen in sizes
    )


def _contender(entry: object, folder: Path) -> Contender:
    table = _table(entry, "contender")
    options = _table(table.pop("options", {}), "options")
    quality = table.pop("quality", None)
    table.setdefault("label", _label(table, options))
    values = _typed(Contender, table, "contender", only=_names(Contender) - {"options", "quality"})
    for key in ("model", "sampler"):
        values[key] = _beside(values[key], folder)
    if quality is not None:
        values["quality"] = PublishedQuality(**_typed(PublishedQuality, _table(quality, "quality"), "quality"))
    return Contender(**values, options=tuple(options.items()))


def add_contender(scenario: Scenario, contender: Contender) -> Scenario:
    """The scenario with one more contender."""
    return replace(scenario, contenders=(*scenario.contenders, contender))


def _label(table: Mapping[str, object], options: Mapping[str, object]) -> str:
    knobs = ",".join(f"{key}={value}" for key, value in options.items())
    text = f"{table.get('model')}@{table.get('sampler')}" + (f":{knobs}" if knobs else "")
    return text if table.get("way") is None else f"{text} ({table['way']})"


def _beside(name: str, folder: Path) -> str:
    """A file named in a scenario lies beside it, unless it is there as named."""
    is_file = name.endswith((".py", ".toml"))
    return str(folder / name) if is_file and not Path(name).is_file() and (folder / name).is_file() else name


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WorkloadError(f"{where} must be a table, got {value!r}")
    return dict(value)


def _names(record: type) -> set[str]:
    return {field.name for field in fields(record)}


def _typed(
    record: type, table: Mapping[str, Any], where: str, *, only: Sequence[str] | set[str] | None = None
) -> dict[str, Any]:
    """Values by name, checked against a record's types; a list becomes a tuple."""
    dot = f"{where}." if where else ""
    known = _names(record) if only is None else set(only)
    types = get_type_hints(record)
    values = {}
    for key, value in table.items():
        if key not in known:
            raise WorkloadError(f"unknown key {dot}{key}; known: {', '.join(name for name in types if name in known)}")
        values[key] = _convert(value, types[key], f"{dot}{key}")
    for field in fields(record):
        if field.name in known and field.default is MISSING and field.name not in values:
            raise WorkloadError(f"{dot}{field.name} is missing")
    return values


def _convert(value: object, expected: Any, where: str) -> object:
    text = str(expected)
    if "tuple[tuple" in text:
        if _is_list(value, list) and all(len(part) == 2 and _is_list(part, int) for part in value):  # type: ignore[attr-defined]  # checked just here
            return tuple(tuple(part) for part in value)  # type: ignore[attr-defined]  # checked just here
        raise WorkloadError(f"{where} must be a list of [start, length], got {value!r}")
    if "tuple[float" in text or "tuple[str" in text:
        parts = [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value
        kind: type | tuple[type, ...] = (int, float) if "float" in text else str
        if not _is_list(parts, kind):
            raise WorkloadError(f"{where} must be a list of {'numbers' if 'float' in text else 'texts'}, got {value!r}")
        return tuple(float(part) if "float" in text else part for part in parts)  # type: ignore[attr-defined]  # checked just here
    if "int" in text and "Literal" not in text:
        if type(value) is not int:
            raise WorkloadError(f"{where} must be a whole number, got {value!r}")
        return value
    if "float" in text:
        if type(value) not in (int, float):
            raise WorkloadError(f"{where} must be a number, got {value!r}")
        return float(value)  # type: ignore[arg-type]  # checked just here
    if type(value) is not str:
        raise WorkloadError(f"{where} must be a text, got {value!r}")
    return value


def _is_list(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, list) and all(isinstance(part, kind) and not isinstance(part, bool) for part in value)
