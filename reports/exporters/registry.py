"""Finds the exporters of this folder by file name, without importing any that is not asked for."""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

from reports.errors import ReportError
from workloads.hints import known_names

Exporter = Callable[..., Path]


def list_exporters() -> dict[str, str]:
    """Name and one-line description (from the module docstring) of every exporter; none of them is imported.

    A module of this folder is an exporter when it defines a function called `export_<stem>`.

    >>> sorted(list_exporters())
    ['csv', 'perfetto']
    """
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        wanted = f"export_{path.stem}"
        if any(isinstance(node, ast.FunctionDef) and node.name == wanted for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def find_exporter(name: str) -> tuple[Exporter, str]:
    """The function `export_<name>(trace, path, *, simulation=None)` of the module `<name>`, and its files' suffix.

    Raises:
        ReportError: where no exporter has this name.
    """
    known = list_exporters()
    if name not in known:
        raise ReportError(f"unknown export format {name!r}; {known_names(name, known)}")
    module = import_module(f"reports.exporters.{name}")
    return cast(Exporter, getattr(module, f"export_{name}")), str(module.SUFFIX)
