"""The layout's promises: what the wheel ships, what is importable without torch, what every folder offers."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("workloads", "profiler", "roofline", "simulator", "explorer", "reports")


def sources():
    return [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]


def test_every_folder_is_a_typed_package():
    for folder in FOLDERS:
        assert (ROOT / folder / "__init__.py").is_file()
        assert (ROOT / folder / "py.typed").is_file()


def test_init_files_hold_a_docstring_only():
    exports = {ROOT / "profiler" / "capture" / "__init__.py"}  # the one line that people type; it says why
    for path in sources():
        if path.name == "__init__.py" and path not in exports:
            assert path.read_text(encoding="utf-8").count('"""') == 2, path
            assert "import" not in path.read_text(encoding="utf-8").partition('"""')[0]


def test_no_module_is_named_like_one_of_the_standard_library():
    allowed = {"__init__", "__main__", "html", "copy", "csv"}  # inside packages, imported by their full name
    clashes = {path.stem for path in sources()} & set(sys.stdlib_module_names)
    assert clashes <= allowed


def test_modules_keep_to_their_size():
    too_long = {str(path.relative_to(ROOT)): lines for path in sources() if (lines := count_lines(path)) > 400}
    assert not too_long


def count_lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    "module", ["profiler.storage", "profiler.importers.kineto", "roofline.analysis", "simulator.event", "reports.html"]
)
def test_saved_traces_are_worked_on_without_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_constraints_pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {name.partition(">")[0].partition("[")[0].strip() for name in wanted} - {"roofscape"}
    assert names <= pinned
