"""The page of GPU tests lists exactly the tests marked `gpu`, each with what it checks."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
ROW = re.compile(r"^\| `([\w/]+\.py::\w+)` \| (.+) \|$", re.MULTILINE)


def is_gpu_mark(node):
    return any(isinstance(part, ast.Attribute) and part.attr == "gpu" for part in ast.walk(node))


def gpu_tests():
    """`path::name`, the path from tests/, of every test that is marked itself or by its module."""
    for path in sorted(TESTS.rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        whole = any(
            isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)
            and is_gpu_mark(node.value)
            for node in tree.body
        )
        for node in tree.body:
            is_test = isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            if is_test and (whole or any(is_gpu_mark(decorator) for decorator in node.decorator_list)):
                yield f"{path.relative_to(TESTS).as_posix()}::{node.name}"


def test_checklist_names_every_gpu_test_and_no_other():
    listed = ROW.findall((ROOT / "docs" / "gpu-checklist.md").read_text(encoding="utf-8"))
    names = [name for name, _ in listed]
    assert sorted(names) == sorted(gpu_tests())
    assert all(len(checks.strip()) > 10 for _, checks in listed)


@pytest.mark.slow
def test_gpu_tests_say_why_they_are_skipped_where_there_is_no_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device, so the GPU tests run")
    names = [str(TESTS / name) for name in gpu_tests()]
    options = ["-m", "gpu", "-rs", "-q", "--color=no", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *names], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout
    assert re.search(rf"^{len(names)} skipped in ", done.stdout, re.MULTILINE), done.stdout
    reasons = re.findall(r"^SKIPPED \[\d+\] \S+: (.+)$", done.stdout, re.MULTILINE)
    assert reasons
    assert all("no CUDA device" in reason or "needs a CUDA device" in reason for reason in reasons)
