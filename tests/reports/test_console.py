"""What the command line prints in terminals of any width, and where none says how wide it is."""

import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console

from reports import console

_PRINTS = """
from reports.console import print_table
columns = [f"column {number} of twenty" for number in range(20)]
print_table("title", columns, [[f"cell {number}" * 3 for number in range(20)]], left=5)
"""


def test_a_table_in_a_pipe_keeps_every_cell_in_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", _PRINTS], capture_output=True, text=True, check=True)
    lines = [line.rstrip() for line in done.stdout.splitlines() if line.strip()]
    assert lines[0] == "title"
    assert len(lines) == 4  # title, names of columns, rule, one row
    for number in range(20):
        assert f"column {number} of twenty" in lines[1]
        assert f"cell {number}" * 3 in lines[3]


_COLUMNS = ["op", "calls", "bytes", "bound", "bound by", "measured", "efficiency"]
_ROWS = [["a_kernel<float, 4> of some length", "1,466", "5.21 GB", "744 µs", "compute", "3.86 ms", "19 %"]]


def _printed(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    terminal = Console(file=StringIO(), width=width)
    monkeypatch.setattr(console, "OUT", terminal)
    console.print_table("title", _COLUMNS, _ROWS)
    assert isinstance(terminal.file, StringIO)
    return [line.rstrip() for line in terminal.file.getvalue().splitlines()]


# The figures take 5 + 7 + 6 + 7 + 8 + 10 = 43 characters, the gaps between seven columns 12 or 6; the name has 33.
@pytest.mark.parametrize("width", [200, 90, 80, 72, 71, 70, 66, 65, 60, 55, 50])
def test_no_figure_is_cut_however_narrow_the_terminal_is(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = _printed(monkeypatch, width)
    figures = [line for line in lines if "1,466" in line]
    assert len(figures) == 1
    position = 0
    for cell in _ROWS[0][1:]:  # whole, and in their order
        position = figures[0].index(cell, position) + len(cell)
    assert max(map(len, lines)) <= width
    assert "a_kernel<float, 4> of some length".replace(" ", "") in "".join(
        line.partition("1,466")[0].replace(" ", "") for line in lines
    )


def test_a_name_has_a_line_of_its_own_where_less_than_16_characters_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    folded, apart = _printed(monkeypatch, 43 + 6 + 16), _printed(monkeypatch, 43 + 6 + 15)
    assert not any(line == _ROWS[0][0] for line in folded)
    assert any(line == _ROWS[0][0] for line in apart)
