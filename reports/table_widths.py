"""How wide the columns of a printed table are in a terminal that is narrower than all that they hold."""

from collections.abc import Sequence
from textwrap import wrap

from rich.cells import cell_len

# Of a column of text; where even so much is not left, the text has a line of its own above its figures.
LEAST_TEXT = 16


def column_widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, width: int, gap: int
) -> tuple[int, ...] | None:
    """Widths at which a table fits: figures are whole, their headings fold at spaces, long texts fold.

    Args:
        columns: headings.
        rows: cells.
        left: so many of the first columns are text, the others figures.
        width: characters that all columns together may take.
        gap: characters between two columns.

    Returns:
        The width of each column, or None where so little is left for texts that nobody could read them.

    >>> column_widths(["operation", "bound by"], [["a long name", "hbm"]], left=1, width=30, gap=2)
    (11, 8)
    >>> column_widths(["operation", "bound by"], [["a very long name of a kernel", "hbm"]], left=1, width=25, gap=2)
    (18, 5)
    >>> column_widths(["operation", "bound by"], [["a very long name of a kernel", "hbm"]], left=1, width=20, gap=2)

    """
    room = width - gap * (len(columns) - 1)
    whole = [_widest([heading, *cells]) for heading, cells in zip(columns, _cells(columns, rows), strict=True)]
    if sum(whole) <= room:
        return tuple(whole)
    folded = [
        _widest([*heading.split(), *cells]) for heading, cells in zip(columns, _cells(columns, rows), strict=True)
    ]
    texts, figures = whole[:left], folded[left:]
    room -= sum(figures)
    while sum(texts) > room and max(texts, default=0) > LEAST_TEXT:
        texts[texts.index(max(texts))] -= 1
    return (*texts, *figures) if sum(texts) <= room else None


def stacked(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, gap: int) -> list[str]:
    """The lines of a table whose texts stand on lines of their own, each above its figures.

    >>> for line in stacked(["operation", "calls", "bound by"], [["a long name", "1,466", "hbm"]], left=1, gap=2):
    ...     print(line)
    operation
           bound
    calls     by
    ────────────
    a long name
    1,466    hbm
    """
    cells = _cells(columns, rows)[left:]
    widths = [_widest([*heading.split(), *below]) for heading, below in zip(columns[left:], cells, strict=True)]
    headings = [wrap(heading, each) or [""] for heading, each in zip(columns[left:], widths, strict=True)]
    depth = max(map(len, headings), default=0)
    levels = [[""] * (depth - len(lines)) + lines for lines in headings]

    def line(figures: Sequence[str]) -> str:
        padded = (" " * (each - cell_len(figure)) + figure for figure, each in zip(figures, widths, strict=True))
        return (" " * gap).join(padded)

    lines = [_text(columns[:left]), *(line([level[number] for level in levels]) for number in range(depth))]
    lines.append("─" * max(map(cell_len, lines)))
    for row in rows:
        lines += [_text(row[:left]), line(row[left:])]
    return lines


def _text(texts: Sequence[str]) -> str:
    return " / ".join(filter(None, texts))


def _cells(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[row[position] for row in rows] for position in range(len(columns))]


def _widest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)
