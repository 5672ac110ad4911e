"""The table of constants in the documentation is what the chip files hold today."""

from pathlib import Path

from typer.testing import CliRunner

from reports.cli import app
from roofline.chipfile import list_chips, load_chip

TABLE = Path(__file__).resolve().parents[2] / "docs" / "tables" / "constants.md"


def test_documented_constants_are_those_of_the_chip_files(tmp_path):
    written = tmp_path / "constants.md"
    result = CliRunner().invoke(app, ["chips", "--constants", str(written)])
    assert result.exit_code == 0
    assert written.read_text(encoding="utf-8") == TABLE.read_text(encoding="utf-8"), "run `make constants`"


def test_every_constant_of_every_chip_is_listed_with_a_meaning():
    rows = [line.split(" | ") for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    listed = {cells[0].removeprefix("| ") for cells in rows}
    assert {name.rpartition(".")[2] for chip in list_chips() for name, _ in load_chip(chip).calibration} <= listed
    assert [cells for cells in rows if not cells[2].strip()] == []


def test_a_chip_has_a_column_only_where_its_own_file_holds_constants():
    sections = dict(part.split("\n", 1) for part in TABLE.read_text(encoding="utf-8").split("\n## ")[1:])
    headings = {name: text[text.index("| constant |") :].splitlines()[0] for name, text in sections.items()}
    assert " a100-sxm-80gb |" in headings["gemm"]
    assert " rtx-a6000 |" not in headings["gemm"]  # it takes the A100's
    assert " rtx-a6000 |" in headings["elementwise"]
