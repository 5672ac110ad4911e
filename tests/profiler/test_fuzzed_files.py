"""The fuzzer of the importers runs, and finds nothing in a small number of inputs; by hand it runs for more."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FUZZER = Path(__file__).resolve().parents[1] / "fuzz" / "importers.py"


@pytest.mark.slow
def test_only_our_errors_come_out_of_damaged_files() -> None:
    done = subprocess.run([sys.executable, str(FUZZER), "--inputs", "150"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": 150 inputs in") == (5 if find_spec("ncu_report") else 4)
