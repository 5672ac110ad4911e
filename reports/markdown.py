"""Tables as Markdown files."""

from collections.abc import Sequence
from pathlib import Path

from profiler.files import write_atomically
from reports.errors import ReportError


def write_markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> None:
    """Write a table whose first column is text and whose others are numbers."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    text = "".join(f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |\n" for line in lines)
    try:
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}") from None
