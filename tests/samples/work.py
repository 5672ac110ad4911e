"""How much a function does, by a count that is the same on every machine: times are not."""

import sys
from collections.abc import Callable
from typing import Any


def python_calls(run: Callable[[], Any]) -> tuple[Any, int]:
    """What `run` returns, and how many calls of functions Python made meanwhile, those written in C included."""
    count = 0

    def look(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        result = run()
    finally:
        sys.setprofile(before)
    return result, count
