"""Space files: which designs, which workloads, what to minimize and what to hold, in one TOML file."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from explorer.errors import ExplorationError
from explorer.evaluate import Mode
from explorer.objectives import Goals
from explorer.parameters import Parameter, ParameterSpace
from explorer.templates.template import Knob, Template, load_template
from roofline.errors import ChipError
from workloads.hints import known_names

SCHEMA_VERSION = 1
_ROOT_KEYS = (
    *("schema", "title", "template", "constants_of", "technology", "mode", "objectives"),
    *("parameters", "fixed", "constraints", "workload"),
)
_NAME = re.compile(
    r"(?!(?:design|value|objective|workload|batch|on_front|area_mm2|tdp_w|bill_usd)$)[A-Za-z0-9][A-Za-z0-9_-]*"
)
_RANGE_KEYS = ("low", "high", "steps", "step", "log")
# What a program takes, see `workloads.programs.resolve_program`.
PROGRAM_KEYS = ("batch", "seq_len", "prompt_length", "gen_length", "steps", "block_length", "sampler_options")
_POINT_KEYS = ("label", "quality", "units", *PROGRAM_KEYS)
_WORKLOAD_KEYS = ("name", "weight", "paradigm", "program", "trace", "unit", "point", *_POINT_KEYS[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRequest:
    """One operating point of a workload: a program with its options, or a trace.

    Attributes:
        label: as the space calls it.
        program: what to capture on meta; empty where a trace is given.
        trace: a file to read instead.
        options: options of the program.
        units: tokens or images of a run, None to work them out from the options.
        unit: `token` or `image`.
        quality: score, NaN where nobody knows.
        quality_source: where that comes from.
    """

    label: str
    program: str
    trace: Path | None
    options: tuple[tuple[str, Any], ...]
    units: float | None
    unit: str
    quality: float
    quality_source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadRequest:
    """A workload of a space file, not captured yet."""

    name: str
    weight: float
    paradigm: str
    points: tuple[PointRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceFile:
    """A space of designs and what to do with it.

    Attributes:
        title: one line.
        template: the kind of chip, and whose kernel constants it takes.
        space: what varies, operating points of workloads included.
        fixed: what does not vary but differs from the template's default.
        goals: objectives and limits.
        workloads: what designs are judged by.
        mode: `graph` or `eager`.
        technology: file of one's own figures, None for the shipped.
    """

    title: str
    template: Template
    space: ParameterSpace
    fixed: Mapping[str, float | str]
    goals: Goals
    workloads: tuple[WorkloadRequest, ...]
    mode: Mode = "graph"
    technology: Path | None = field(default=None)


def load_space(path: str | Path) -> SpaceFile:
    """Read a space file.

    Raises:
        ExplorationError: one line that says what is wrong, where, and what is allowed.
    """
    file = Path(path)
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExplorationError(f"cannot read space file {file}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ExplorationError(f"{file}: not a text file in UTF-8 (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ExplorationError(f"{file}: not valid TOML: {' '.join(str(error).split())}") from None
    try:
        return _parse(document, file)
    except (ExplorationError, ChipError) as error:
        raise ExplorationError(f"{file}: {error}") from None


def _parse(document: dict[str, Any], file: Path) -> SpaceFile:
    _allow(document, _ROOT_KEYS, "the file")
    if document.get("schema") != SCHEMA_VERSION:
        raise ExplorationError(f"schema must be {SCHEMA_VERSION}, got {document.get('schema')!r}")
    template = _template(document)
    workloads = tuple(_workload(table, file) for table in _tables(document, "workload"))
    _check_names([workload.name for workload in workloads], template)
    if not any(workload.weight > 0 for workload in workloads):
        raise ExplorationError("no [[workload]] has a weight above 0: there is nothing to judge designs by")
    parameters = [_parameter(name, value, template) for name, value in _table(document, "parameters").items()]
    parameters += [
        Parameter(name=workload.name, values=tuple(point.label for point in workload.points))
        for workload in workloads
        if len(workload.points) > 1
    ]
    fixed = _table(document, "fixed")
    _check_knobs(template, fixed, [parameter.name for parameter in parameters])
    goals = _goals(document)
    if "quality_loss" in goals.objectives and not _is_scored(workloads):
        raise ExplorationError("objective quality_loss needs a quality of at least one operating point")
    mode = document.get("mode", "graph")
    if mode not in ("graph", "eager"):
        raise ExplorationError(f"mode must be graph or eager, got {mode!r}")
    technology = document.get("technology")
    return SpaceFile(
        title=str(document.get("title", file.stem)),
        template=template,
        space=ParameterSpace(parameters=tuple(parameters)),
        fixed=fixed,
        goals=goals,
        workloads=workloads,
        mode=mode,
        technology=None if technology is None else file.parent / str(technology),
    )


def _template(document: Mapping[str, Any]) -> Template:
    constants_of = document.get("constants_of")
    if constants_of is not None and not isinstance(constants_of, str):
        raise ExplorationError(f"constants_of must be the name of a chip or a family, got {constants_of!r}")
    return load_template(str(document.get("template", "gpu")), constants_of)


def _check_names(names: Sequence[str], template: Template) -> None:
    """Refuse names of workloads that are none, stand twice, or are those of a column beside them."""
    if not names:
        raise ExplorationError("no [[workload]] given: there is nothing to judge designs by")
    knobs = {knob.name for knob in template.knobs}
    for name in names:
        if name in knobs or not _NAME.fullmatch(name):
            raise ExplorationError(
                f"workload {name!r}: a name has letters, digits, - and _, and is not that of a parameter or a column"
            )
    if len(set(names)) < len(names):
        raise ExplorationError(f"workload {next(n for n in names if names.count(n) > 1)!r} is given twice")


def _is_scored(workloads: Sequence[WorkloadRequest]) -> bool:
    """Whether any operating point has a quality."""
    return any(isfinite(point.quality) for workload in workloads for point in workload.points)


def _goals(document: Mapping[str, Any]) -> Goals:
    constraints = dict(_table(document, "constraints"))
    holds = constraints.pop("holds_models", True)
    if not isinstance(holds, bool):
        raise ExplorationError(f"constraints.holds_models must be true or false, got {holds!r}")
    limits = tuple((name, _number(value, f"constraints.{name}")) for name, value in constraints.items())
    objectives = document.get("objectives", list(Goals().objectives))
    if not isinstance(objectives, list):
        raise ExplorationError(f"objectives must be a list of names, got {objectives!r}")
    return Goals(
        objectives=tuple(map(str, objectives)),
        limits=tuple((dict(Goals().limits) | dict(limits)).items()),
        holds_models=holds,
    )


def _parameter(name: str, value: object, template: Template) -> Parameter:
    known = {knob.name: knob for knob in template.knobs}
    if name not in known:
        raise ExplorationError(f"parameters: template {template.name} has no {name!r}; {known_names(name, known)}")
    positive = not isinstance(known[name].default, str) and not known[name].may_be_zero
    if isinstance(value, dict):
        _allow(value, _RANGE_KEYS, f"parameters.{name}")
        for key in ("low", "high"):
            if key not in value:
                raise ExplorationError(f"parameters.{name}: a range needs {key}")
        if isinstance(value["low"], int | float) and value["low"] < 0:
            raise ExplorationError(f"parameters.{name} must be >= 0, got low = {value['low']!r}")
        parameter = Parameter.range(name, positive=positive, **value)
        for each in parameter.values:
            _check_value(each, known[name], f"parameters.{name}")
        return parameter
    if not isinstance(value, list):
        raise ExplorationError(f"parameters.{name} must be a list, or low, high and steps; got {value!r}")
    parameter = Parameter(name=name, values=tuple(value), positive=positive)
    for each in parameter.values:
        _check_value(each, known[name], f"parameters.{name}")
    return parameter


def _check_knobs(template: Template, fixed: Mapping[str, Any], varied: Sequence[str]) -> None:
    known = {knob.name: knob for knob in template.knobs}
    for name, value in fixed.items():
        if name not in known:
            raise ExplorationError(f"fixed: template {template.name} has no {name!r}; {known_names(name, known)}")
        if name in varied:
            raise ExplorationError(f"{name!r} is both varied and fixed: that contradicts itself")
        _check_value(value, known[name], f"fixed.{name}")


def _check_value(value: object, knob: Knob, where: str) -> None:
    """Refuse text for a number, a list for one value, and numbers that nothing can be built from."""
    if isinstance(knob.default, str):
        if not isinstance(value, str):
            raise ExplorationError(f"{where} must be text, got {value!r}")
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ExplorationError(f"{where} must be one finite number, got {value!r}")
    if value < 0 or (value == 0 and not knob.may_be_zero):
        raise ExplorationError(f"{where} must be {'>= 0' if knob.may_be_zero else '> 0'}, got {value!r}")
    if knob.is_count and value != int(value):
        raise ExplorationError(f"{where} must be a whole number, got {value!r}")
    if value > knob.most:
        raise ExplorationError(
            f"{where} is in {knob.unit}: at most {knob.most:g}, got {value:g}; is it in another unit?"
        )


def _workload(table: Mapping[str, Any], file: Path) -> WorkloadRequest:
    name = str(table.get("name", ""))
    if not name:
        raise ExplorationError("a [[workload]] has no name")
    where = f"workload {name!r}"
    _allow(table, _WORKLOAD_KEYS, where)
    if ("program" in table) == ("trace" in table):
        raise ExplorationError(f"{where} needs either program or trace")
    own = {key: value for key, value in table.items() if key in _POINT_KEYS}
    points = _tables(table, "point")
    for point in points:
        _allow(point, _POINT_KEYS, f"{where}, point")
        if "label" not in point:
            raise ExplorationError(f"{where}: every point needs a label")
    requests = tuple(_point({**own, **point}, table, file, where) for point in points or [{"label": "default"}])
    return WorkloadRequest(
        name=name,
        weight=_weight(table.get("weight", 1.0), where),
        paradigm=str(table.get("paradigm", "")),
        points=requests,
    )


def _point(values: Mapping[str, Any], table: Mapping[str, Any], file: Path, where: str) -> PointRequest:
    quality = values.get("quality", {})
    if quality and not (isinstance(quality, dict) and {"value", "source"} <= quality.keys()):
        raise ExplorationError(f"{where}: quality must be {{ value = 0.7, source = '...' }}, got {quality!r}")
    units = values.get("units")
    program = str(table.get("program", ""))
    unit = table.get("unit", "image" if program.startswith("image:") else "token")
    if unit not in ("token", "image"):
        raise ExplorationError(f"{where}: unit must be token or image, got {unit!r}")
    score = float("nan") if not quality else _number(quality["value"], f"{where}, quality")
    if score > 1.0:
        raise ExplorationError(f"{where}: quality must be a score of at most 1, got {quality['value']!r}")
    return PointRequest(
        label=str(values["label"]),
        program=program,
        trace=file.parent / str(table["trace"]) if "trace" in table else None,
        options=tuple((key, values[key]) for key in PROGRAM_KEYS if key in values),
        units=None if units is None else _number(units, f"{where}, units"),
        unit=str(unit),
        quality=score,
        quality_source=str(quality["source"]) if quality else "",
    )


def _weight(value: object, where: str) -> float:
    """0 for a workload that takes no part in a search and is told where a design holds it."""
    return 0.0 if value == 0 and not isinstance(value, bool) else _number(value, f"{where}, weight")


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
        raise ExplorationError(f"{where} must be a number > 0, got {value!r}")
    return float(value)


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise ExplorationError(f"[{key}] must be a table, got {value!r}")
    return value


def _tables(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key, [])
    if not (isinstance(value, list) and all(isinstance(item, dict) for item in value)):
        raise ExplorationError(f"[[{key}]] must be tables, got {value!r}")
    return value


def _allow(table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in table:
        if key not in keys:
            raise ExplorationError(f"{where}: unknown key {key!r}; {known_names(key, keys)}")
