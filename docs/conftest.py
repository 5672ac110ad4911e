"""Runs the examples of these pages as tests, each page in a temporary folder of its own.

Python examples (`>>>`) are doctests, which pytest collects itself. A fenced block of the language `console` is played
here: each line `$ roofscape ...` is run, and what it prints must match the lines below it (`...` stands for anything).
"""

import doctest
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest import mock

import pytest

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MATCHING = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_TABLE_WIDTH = 160  # as where the output is not a terminal


@pytest.fixture(autouse=True)
def page_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples write their files into a temporary folder."""
    monkeypatch.chdir(tmp_path)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "ConsolePage | None":
    """Pages with console blocks, beside the doctests that pytest finds in them."""
    if file_path.suffix == ".md" and _BLOCK.search(file_path.read_text(encoding="utf-8")):
        return ConsolePage.from_parent(parent, path=file_path)
    return None


class ConsolePage(pytest.File):
    """The console blocks of one page."""

    def collect(self) -> Iterator["ConsoleSession"]:
        """One item: later blocks use what earlier ones wrote."""
        yield ConsoleSession.from_parent(self, name="console")


class ConsoleSession(pytest.Item):
    """All commands of one page, in order."""

    def runtest(self) -> None:
        """Run every command and compare what it prints."""
        folder = self.config._tmp_path_factory.mktemp(self.path.stem)
        with chdir(folder):
            for command, expected in commands(self.path.read_text(encoding="utf-8")):
                printed = run(command)
                if not doctest.OutputChecker().check_output(expected, printed, _MATCHING):
                    raise AssertionError(f"{self.path.name}: $ {command}\nexpected:\n{expected}\ngot:\n{printed}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """The difference alone; anything else as pytest shows it."""
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))


def commands(page: str) -> Iterator[tuple[str, str]]:
    """Each command of a page with what is shown below it."""
    for block in _BLOCK.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            yield command, expected


def run(command: str) -> str:
    """What a `roofscape` command prints on both outputs; `cat FILE` shows a file."""
    program, *arguments = shlex.split(command)
    if program == "cat":
        return "".join(Path(name).read_text(encoding="utf-8") for name in arguments)
    if program != "roofscape":
        raise ValueError(f"pages run only roofscape and cat, got {command!r}")
    from reports import cli, console  # noqa: PLC0415 - not needed to collect

    output = StringIO()
    with (
        mock.patch.object(sys, "argv", [program, *arguments]),
        mock.patch.dict(os.environ, {"COLUMNS": str(_TABLE_WIDTH), "NO_COLOR": "1"}),
        mock.patch.object(console.OUT, "_width", _TABLE_WIDTH),
        redirect_stdout(output),
        redirect_stderr(output),
    ):
        try:
            cli.main()
        except SystemExit as stop:
            if stop.code not in (0, 1, 2, None):
                raise
    return output.getvalue()
