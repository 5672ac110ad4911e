"""Tables as Markdown files."""

from collections.abc import Sequence
from pathlib import Path

from profiler.files import write_atomically
from reports.errors import ReportError


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], is_number: Sequence[bool]) -> str:
    """A table whose columns stand to the right where they are numbers.

    >>> print(markdown_table(["what", "count"], [["a|b", "3"]], [False, True]), end="")
    | what | count |
    | --- | ---: |
    | a b | 3 |
    """
    lines = [headings, ["---:" if each else "---" for each in is_number], *rows]
    return "".join(f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |\n" for line in lines)


def write_markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], path: Path, below: str = "") -> None:
    """Write a table whose first column is text and whose others are numbers, and a sentence below it."""
    table = markdown_table(headings, rows, [False, *[True] * (len(headings) - 1)])
    write_text(f"{table}\n{below}\n" if below else table, path)


def write_text(text: str, path: Path) -> None:
    """Write a text; the file appears whole or not at all.

    Raises:
        ReportError: where it cannot be written.
    """
    try:
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror or error}") from None


def print_or_write(text: str, path: str) -> None:
    """Print a text, or write it to a file where one is named.

    Raises:
        ReportError: where it cannot be written.
    """
    if path:
        write_text(text, Path(path))
    else:
        print(text, end="")
