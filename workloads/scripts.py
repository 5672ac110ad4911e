"""What is asked of a function of somebody's script: that it takes no arguments, and on `meta` reads no value."""

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path

from workloads.errors import WorkloadError


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
