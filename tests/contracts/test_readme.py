"""The README's program runs as it is typed."""

import re
from pathlib import Path

import pytest
import torch

from profiler.storage import load_trace

README = Path(__file__).parents[2] / "README.md"


def test_the_python_of_the_readme_runs_and_leaves_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Linear(16, 4, bias=False)
    exec(program, {"model": model, "tokens": torch.ones(2, 16)})
    trace = load_trace("mine.parquet")
    assert (trace.phases[trace.calls.phase[0]], trace.calls.step[0]) == ("denoise", 0)
    assert trace.ops[0].flops == 2 * 2 * 16 * 4
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("gemm", "aten::linear", "denoise", "256"))
