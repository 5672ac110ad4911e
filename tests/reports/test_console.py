"""What the command line prints where no terminal says how wide it is."""

import subprocess
import sys

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
