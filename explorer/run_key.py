"""What makes two searches the same run: the space, what is asked of its designs, and the code that answers."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from explorer.parameters import ParameterSpace

_SUFFIXES = (".py", ".toml", ".json", ".csv")
_FOLDERS = ("workloads", "profiler", "roofline", "simulator", "explorer")


def run_key(space: ParameterSpace, details: Mapping[str, object]) -> str:
    """A hash of the space and of `details` (workloads, constraints, objectives, code version): JSON values only.

    >>> from explorer.parameters import Parameter
    >>> space = ParameterSpace(parameters=(Parameter(name="x", values=(1, 2)),))
    >>> run_key(space, {"a": 1, "b": 2}) == run_key(space, {"b": 2, "a": 1}) != run_key(space, {"a": 1})
    True
    """
    content = json.dumps([space.fingerprint(), details], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


@cache
def code_version() -> str:
    """A hash of the code and data files that results depend on, so that results of other code are not taken up."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for folder in _FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file():
                digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
