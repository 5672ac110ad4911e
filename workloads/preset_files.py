"""Preset files: found by name in a folder or by path, read as a table of the schema version that is known."""

import tomllib
from pathlib import Path
from typing import Any

from workloads.errors import WorkloadError
from workloads.hints import known_names


def list_preset_files(folder: Path) -> tuple[str, ...]:
    """Names of the presets in a folder, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


def find_preset_file(name_or_path: str | Path, folder: Path, what: str) -> Path:
    """File of a preset, given its name (in any case) or the path of a TOML file.

    Args:
        name_or_path: what the user gave.
        folder: where the shipped ones lie.
        what: `model preset`, for the message.

    Raises:
        WorkloadError: the name is unknown.
    """
    text = str(name_or_path)
    if text.endswith(".toml"):
        return Path(text)
    known = list_preset_files(folder)
    if text.lower() not in known:
        raise WorkloadError(f"unknown {what} {text!r}; {known_names(text, known)}; or give the path of a .toml file")
    return folder / f"{text.lower()}.toml"


def read_preset_table(path: Path, what: str, schema: int) -> dict[str, Any]:
    """The table of a preset file, its schema version checked and taken out.

    Raises:
        WorkloadError: the file cannot be read, is no TOML, or is of another version.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkloadError(f"{what} {path}: cannot be read ({error.strerror or error})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{what} {path}: is not valid TOML ({error})") from None
    if table.pop("schema", None) != schema:
        raise WorkloadError(f"{what} {path}: must begin with schema = {schema}")
    return table
