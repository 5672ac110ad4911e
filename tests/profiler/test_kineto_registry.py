"""Importers are found by file name, and none is imported by listing."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from profiler.errors import TraceError
from profiler.importers.registry import find_importer, list_importers


def test_every_importer_takes_a_path_and_describes_itself_in_a_line() -> None:
    importers = list_importers()
    assert "kineto" in importers
    for name, description in importers.items():
        assert description.strip()
        first, *rest = inspect.signature(find_importer(name)).parameters.values()
        assert first.name == "path"
        assert first.annotation in (Path, "Path")
        assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in rest)


def test_listing_imports_no_importer() -> None:
    code = (
        "import sys; from profiler.importers.registry import list_importers; names = list_importers(); "
        "assert names; assert not any(f'profiler.importers.{name}' in sys.modules for name in names); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_importer_lists_the_known_ones() -> None:
    with pytest.raises(TraceError, match=r"unknown importer 'perfetto'; known: .*kineto"):
        find_importer("perfetto")
