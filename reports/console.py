"""Where the command line prints: results to standard output, progress and remarks to standard error."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from reports.table_widths import column_widths, stacked

# A file or a pipe has no width of its own: a table there is as wide as its cells, none of which is cut or folded.
_PIPE_WIDTH = 10_000
_NARROW_GAPS = (2, 1)  # between columns of a table that is wider than the terminal: the first that fits

Item = TypeVar("Item")

OUT = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
ERR = Console(stderr=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> None:
    """Print a table; the first `left` columns are text, the others are figures, none of which is ever cut.

    Where the terminal is narrower than the table, headings and texts fold; where that is not enough, texts stand on
    lines of their own, above their figures.
    """
    cells = [[_visible(cell) for cell in row] for row in rows]
    table = _table(title)
    for number, column in enumerate(columns):
        if number < left:
            table.add_column(column, overflow="fold", min_width=24)
        else:
            table.add_column(column, justify="right", no_wrap=True)
    if Measurement.get(OUT, OUT.options.update(max_width=_PIPE_WIDTH), _filled(table, cells)).maximum <= OUT.width:
        OUT.print(table)
    else:
        _print_narrow(title, columns, cells, left)


def _print_narrow(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]], left: int) -> None:
    """Print a table that is wider than the terminal."""
    for gap in _NARROW_GAPS:
        if widths := column_widths(columns, cells, left=left, width=OUT.width, gap=gap):
            table = _table(title, padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False)
            for number, (column, width) in enumerate(zip(columns, widths, strict=True)):
                table.add_column(column, width=width, overflow="fold", justify="left" if number < left else "right")
            OUT.print(_filled(table, cells))
            OUT.print()
            return
    layouts = (stacked(columns, cells, left=left, gap=gap) for gap in _NARROW_GAPS)
    lines = next((lines for lines in layouts if cell_len(lines[left > 0]) <= OUT.width), None)
    OUT.print(f"[bold]{printable(title)}[/]\n", highlight=False, soft_wrap=True)
    for line in (*(lines or stacked(columns, cells, left=left, gap=_NARROW_GAPS[-1])), ""):
        print_line(line)


def _table(title: str, **style: Any) -> Table:
    return Table(
        title=printable(title), title_justify="left", title_style="bold", header_style="dim", box=SIMPLE_HEAD, **style
    )


def _filled(table: Table, cells: Sequence[Sequence[str]]) -> Table:
    """The table with these rows."""
    for row in cells:
        table.add_row(*map(escape, row))
    return table


def print_line(text: str) -> None:
    """Print one line of result."""
    OUT.print(printable(text), highlight=False, soft_wrap=True)


def remark(text: str) -> None:
    """Say something beside the result: a note, a warning, what to type next."""
    ERR.print(printable(text), highlight=False, soft_wrap=True, style="dim")


def name_counts(counts: Sequence[tuple[str, int]], *, shown: int = 6, width: int = 48) -> str:
    """Names with their counts, the most frequent first; long names are cut and long lists counted.

    >>> name_counts([("aten::strange", 2), ("kernel", 5)])
    'kernel (5x), aten::strange (2x)'
    """
    ordered = sorted(counts, key=lambda item: -item[1])
    named = [f"{name if len(name) <= width else name[:width] + '...'} ({count}x)" for name, count in ordered[:shown]]
    if len(ordered) > shown:
        named.append(f"and {len(ordered) - shown} more")
    return ", ".join(named)


def print_json(value: Any) -> None:
    """Print a result for scripts; NaN and infinities become null."""
    sys.stdout.write(json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show a spinner while something takes long, on standard error, and only to a person."""
    with ERR.status(printable(text)):
        yield


def track(items: Iterable[Item], text: str, total: int) -> Iterator[Item]:
    """The same items, behind a progress bar on standard error."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=ERR, transient=True) as bar:
        task = bar.add_task(printable(text), total=total)
        for item in items:
            yield item
            bar.advance(task)


def printable(text: str) -> str:
    """Text from a trace without markup or control characters, which could command a terminal."""
    return escape(_visible(text))


def _visible(text: str) -> str:
    """Text without control characters."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
