"""`Report`: what a page hands to the writer: findings, and sections of charts and tables."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from reports.formatting import UNKNOWN, format_text

Writer = Callable[[Any], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a shown table.

    Attributes:
        name: column of the frame.
        header: what stands above it.
        write: turns one value into text.
        is_number: whether it is set to the right.
    """

    name: str
    header: str
    write: Writer = format_text
    is_number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableView:
    """A frame as people read it.

    Attributes:
        title: above the table.
        frame: rows, in order.
        columns: those shown, in order.
        note: below the table.
    """

    title: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    note: str = ""

    def texts(self) -> list[tuple[str, ...]]:
        """Every cell as text, row by row."""
        written = [[column.write(value) for value in self.frame[column.name]] for column in self.columns]
        return list(zip(*written, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figure:
    """A chart and what to read in it."""

    chart: alt.typing.ChartType
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Section:
    """A part of a page: a heading, a sentence or two, charts, then tables."""

    title: str
    text: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[TableView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """One page.

    Attributes:
        title: of the page.
        findings: plain sentences with their figures.
        sections: in order.
    """

    title: str
    findings: tuple[str, ...]
    sections: tuple[Section, ...]


def numbers(write: Writer, **headers: str) -> tuple[Column, ...]:
    """Columns of figures that are written alike, by name and header."""
    return tuple(Column(name=name, header=header, write=write, is_number=True) for name, header in headers.items())


def texts(**headers: str) -> tuple[Column, ...]:
    """Columns of text, by name and header."""
    return tuple(Column(name=name, header=header) for name, header in headers.items())


def or_else(write: Writer, absent: str) -> Writer:
    """The same writer, but with these words where a figure is unknown for a reason that they say.

    >>> from reports.formatting import format_seconds
    >>> or_else(format_seconds, "not measured")(None)
    'not measured'
    """

    def written(value: Any) -> str:
        text = write(value)
        return absent if text == UNKNOWN else text

    return written


def unique(values: Iterable[str]) -> list[str]:
    """Values in order of first appearance.

    >>> unique(["b", "a", "b"])
    ['b', 'a']
    """
    return list(dict.fromkeys(values))
