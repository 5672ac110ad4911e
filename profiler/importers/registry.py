"""Finds the importers of this folder by file name, without importing any that is not asked for."""

import ast
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import cast

from profiler.errors import TraceError
from profiler.traces import Trace
from workloads.hints import known_names

Importer = Callable[..., Trace]


def list_importers() -> dict[str, str]:
    """Name and one-line description (from the module docstring) of every importer; none of them is imported.

    A module of this folder is an importer when it defines a function called `import_<stem>`.
    """
    return dict(_listed())


@cache
def _listed() -> tuple[tuple[str, str], ...]:
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        wanted = f"import_{path.stem}"
        if any(isinstance(node, ast.FunctionDef) and node.name == wanted for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return tuple(found.items())


def find_importer(name: str) -> Importer:
    """The function `import_<name>(path, ...)` of the module `<name>`; only that module is imported.

    Raises:
        TraceError: where no importer has this name.
    """
    known = list_importers()
    if name not in known:
        raise TraceError(f"unknown importer {name!r}; {known_names(name, known)}")
    return cast(Importer, getattr(import_module(f"profiler.importers.{name}"), f"import_{name}"))
