"""Chip files: list the shipped ones, load one by name or path, save one."""

import tomllib
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

from profiler.files import write_atomically
from roofline.chip import Chip
from roofline.chip_families import with_family_constants
from roofline.chip_parser import parse_chip
from roofline.chip_writer import chip_toml
from roofline.errors import ChipError
from workloads.hints import known_names

_CHIPS = resources.files("roofline") / "chips"


def list_chips() -> tuple[str, ...]:
    """Names of the shipped chips, sorted.

    >>> "h100-sxm" in list_chips()
    True
    """
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in _CHIPS.iterdir() if entry.name.endswith(".toml")))


def load_chip(name_or_path: str | Path) -> Chip:
    """Load a chip by the name of a shipped one, else from a `.toml` file.

    A chip without calibration constants takes those of its family; `chip.sources` says so.

    Raises:
        ChipError: one line that says what is wrong, where, and what is allowed.

    >>> round(load_chip("h100-sxm").matrix_flops_per_s("bfloat16") / 1e12)
    989
    """
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text in list_chips():
        return with_family_constants(_shipped(text), list_chips(), _shipped)
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and path.suffix != ".toml" and len(path.parts) == 1 and not path.exists():
        raise ChipError(f"unknown chip {text!r}; {known_names(text, list_chips())}; or the path of a .toml file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ChipError(f"cannot read chip file {text}: {error.strerror or error}") from None
    return with_family_constants(_parse(content, text), list_chips(), _shipped)


def load_donor(name: str) -> Chip:
    """The chip whose constants are meant by a shipped chip's name, or by a family's: the first of it that has any.

    Raises:
        ChipError: neither a chip nor a family of that name has constants.

    >>> load_donor("nvidia-hopper").name, load_donor("b200-sxm").name
    ('h100-sxm', 'b200-sxm')
    """
    fitted = {chip: _shipped(chip).family for chip in list_chips() if _shipped(chip).calibration}
    found = [chip for chip, family in fitted.items() if name in (chip, family)]
    if not found:
        known = (*fitted, *dict.fromkeys(fitted.values()))
        raise ChipError(f"no chip or family {name!r} has constants to take; {known_names(name, known)}")
    return load_chip(found[0])


def _figures(chip: Chip) -> Chip:
    """The chip without what a file may order or word otherwise."""
    return replace(chip, sources=(), calibration=tuple(sorted(chip.calibration)))


@cache
def _shipped(name: str) -> Chip:
    return _parse((_CHIPS / f"{name}.toml").read_bytes(), f"{name}.toml")


def save_chip(chip: Chip, path: str | Path) -> Path:
    """Write a chip file that loads as an equal chip; a failure leaves no partial file.

    Returns:
        The path written.

    Raises:
        ChipError: a value has no place in a chip file, or the file cannot be written.
    """
    target = Path(path)
    text = chip_toml(chip)
    if _figures(_parse(text.encode(), str(target))) != _figures(chip):
        raise ChipError(
            f"chip {chip.name!r} would not load from {target} as it is: a value has no place in a chip file"
        )
    try:
        write_atomically(target, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise ChipError(f"cannot write chip file {target}: {error.strerror or error}") from None
    return target


def _parse(content: bytes, file: str) -> Chip:
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ChipError(f"{file}: not a text file in UTF-8 (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ChipError(f"{file}: not valid TOML: {' '.join(str(error).split())}") from None
    return parse_chip(document, file)
