"""Programs that stand in for others on PATH."""

import shlex
import sys
from pathlib import Path


def install_program(path: Path, source: str) -> None:
    """A program of this Python at `path`, where `#!` would not do: the path of Python may hold spaces, or be long."""
    script = path.with_suffix(".py")
    script.write_text(source, encoding="utf-8")
    words = (shlex.quote(word) for word in (sys.executable, str(script)))
    path.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
