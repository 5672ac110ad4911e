"""Somebody's script: whether it has a `main`, how the whole of it runs, and what is asked of a function of it."""

import ast
import inspect
import runpy
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from workloads.errors import WorkloadError

_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")  # of statements that hold others


def is_without_main(path: Path) -> bool:
    """Whether a script's top level binds no `main`, so that nothing but the whole of it can be meant.

    A file that cannot be read or parsed, or that imports all names of another, may have one.
    """
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (OSError, SyntaxError, ValueError):
        return False
    return not _binds_main(tree.body)


def _binds_main(statements: Iterable[ast.AST]) -> bool:
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if statement.name == "main":
                return True
            continue
        if isinstance(statement, ast.Import | ast.ImportFrom):
            if any((each.asname or each.name) in ("main", "*") for each in statement.names):
                return True
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = (name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
            if any(name.id == "main" for name in names):
                return True
        elif any(_binds_main(getattr(statement, block, ())) for block in _BLOCKS):
            return True
    return False


def run_whole(spec: str, path: Path) -> None:
    """Run a script as `python script.py` does, without arguments.

    Raises:
        WorkloadError: it ends with an exit code that tells of a failure.
    """
    arguments, sys.argv = sys.argv, [str(path)]
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise WorkloadError(f"program {spec!r}: {path} ended with exit code {end.code}") from None
    finally:
        sys.argv = arguments


def check_takes_nothing(spec: str, function: Callable[..., object]) -> None:
    """Refuse a function that cannot be called without arguments, before anything runs.

    Raises:
        WorkloadError: it needs some.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some callables tell nobody what they take
        return
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise WorkloadError(
            f"program {spec!r}: the function needs {', '.join(needed)}; name one that takes no arguments, such as "
            f"def main(): return {getattr(function, '__name__', 'function')}(...)"
        )


def value_read_on_meta(spec: str, folder: Path, error: Exception) -> WorkloadError | None:
    """What a failure on `meta` means where it is that of reading a value, None where it is something else.

    Args:
        spec: of the program.
        folder: where the script's code lies.
        error: what it raised.
    """
    if "meta tensor" not in str(error).lower():
        return None
    lines = [
        f"{Path(frame.filename).name}, line {frame.lineno}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).resolve().is_relative_to(folder.resolve())
    ]
    where = f" ({lines[-1]})" if lines else ""
    return WorkloadError(
        f"program {spec!r} looks at a value{where}, and on device meta tensors have none; run it with --device cpu"
    )
