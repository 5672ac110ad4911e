"""The table in the documentation is what the command gives today."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from reports.cli import app

TABLE = Path(__file__).resolve().parents[2] / "docs" / "tables" / "samplers.md"
CHECKED = ("llama-3.1-8b@autoregressive", "llada:steps=64", "sdar:block_length=4")


@pytest.mark.slow
def test_documented_rows_are_reproduced(tmp_path):
    task = ("--model", "llada-8b", "--device", "meta", "--prompt-length", "1024", "--gen-length", "256")
    result = CliRunner().invoke(app, ["compare", *CHECKED, *task, "--markdown", str(tmp_path / "table.md")])
    assert result.exit_code == 0
    documented = set(TABLE.read_text(encoding="utf-8").splitlines())
    for line in (tmp_path / "table.md").read_text(encoding="utf-8").splitlines():
        assert line in documented


def test_every_shipped_sampler_is_documented():
    from workloads.samplers.registry import list_samplers

    page = (TABLE.parent.parent / "samplers.md").read_text(encoding="utf-8")
    assert all(f"| `{listing.name}` |" in page for listing in list_samplers())
