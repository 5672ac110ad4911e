"""From a `Chip` to the text of a chip file."""

import json
import re
from collections.abc import Iterable

from roofline.chip import Chip
from roofline.chip_parser import SCHEMA_VERSION

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
Value = str | int | float | bool | None


def chip_toml(chip: Chip) -> str:
    """The chip as TOML, with rates as the record holds them: per clock and core, or of the whole chip."""
    sections: list[tuple[str, Iterable[tuple[str, Value]]]] = [("", _head(chip))]
    if chip.matrix_array != (1, 1):
        rows, columns = chip.matrix_array
        sections.append(("matrix", (("array_rows", rows), ("array_columns", columns))))
    sections.append(("matrix.macs_per_clock_per_core", chip.matrix_macs))
    sections.append(("vector", (("special_flops_per_clock_per_core", chip.special_flops),)))
    sections.append(("vector.flops_per_clock_per_core", chip.vector_flops))
    for memory in chip.memories:
        fields: list[tuple[str, Value]] = [
            ("capacity_bytes", memory.capacity_bytes),
            ("bandwidth_bytes_per_s", memory.bandwidth_bytes_per_s),
            ("latency_s", memory.latency_s),
            ("per_core", memory.per_core or None),
        ]
        sections.append((f"memory.{_key(memory.name)}", fields))
    for link in chip.links:
        link_fields = (
            ("bandwidth_bytes_per_s", link.bandwidth_bytes_per_s),
            ("latency_s", link.latency_s),
            ("topology", link.topology or None),
        )
        sections.append((f"link.{_key(link.name)}", link_fields))
    sections.append(("power", (("tdp_w", chip.tdp_w), ("idle_w", chip.idle_w))))
    if chip.energy is not None:
        energy = chip.energy
        power = (("static_w", energy.static_w), ("core_w", energy.core_w or None))
        sections.append(("energy", (*power, ("vector_j_per_flop", energy.vector_j_per_flop))))
        sections.append(("energy.matrix_j_per_flop", energy.matrix_j_per_flop))
        sections.append(("energy.memory_j_per_byte", energy.memory_j_per_byte))
    sections.append(("area", (("die_mm2", chip.die_area_mm2), ("process_node", chip.process_node or None))))
    sections.append(("price", (("usd", chip.price_usd),)))
    sections += _calibration(chip.calibration)
    sections.append(("throughput", chip.throughput))
    sections.append(("sources", chip.sources))
    return "\n".join(text for text in (_section(name, fields) for name, fields in sections) if text)


def _head(chip: Chip) -> tuple[tuple[str, Value], ...]:
    return (
        ("schema", SCHEMA_VERSION),
        ("name", chip.name),
        ("title", chip.title),
        ("family", chip.family),
        ("is_measured", chip.is_measured or None),
        ("clock_hz", chip.clock_hz),
        ("cores", chip.cores),
        ("launch_s", chip.launch_s),
        ("host_dispatch_s", chip.host_dispatch_s),
    )


def _calibration(constants: tuple[tuple[str, float], ...]) -> list[tuple[str, Iterable[tuple[str, Value]]]]:
    """Constants by the section that their dotted names begin with; those without one come first, as TOML wants."""
    sections: dict[str, list[tuple[str, Value]]] = {"calibration": []}
    for dotted, value in constants:
        scope, _, name = dotted.rpartition(".")
        sections.setdefault(f"calibration.{scope}" if scope else "calibration", []).append((name, value))
    return list(sections.items())


def _section(name: str, fields: Iterable[tuple[str, Value]]) -> str:
    lines = [f"{_key(key)} = {_value(value)}" for key, value in fields if value is not None]
    if not lines and name != "energy.memory_j_per_byte":
        return ""
    return "\n".join([f"[{name}]", *lines] if name else lines) + "\n"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _value(key)


def _value(value: Value) -> str:
    """A TOML value; a JSON string is a TOML basic string once DEL is escaped, a float's repr is a TOML float."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
