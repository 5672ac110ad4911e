"""Finds pages: every other file of this folder is one, under the name of its stem.

Listing imports nothing; building imports the one file that is asked for.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

from reports.errors import ReportError
from reports.report import Report
from reports.tables import Tables
from workloads.hints import known_names

_FOLDER = Path(__file__).parent
_NOT_PAGES = frozenset({"__init__", "registry"})
# In reading order; pages that are not named here come before the last.
_FIRST = ("overview", "roofline", "breakdown", "timeline")
_LAST = ("provenance",)


def page_names() -> tuple[str, ...]:
    """Names of the pages, in reading order.

    >>> page_names()[0]
    'overview'
    """
    found = {path.stem for path in _FOLDER.glob("*.py")} - _NOT_PAGES
    first = [name for name in _FIRST if name in found]
    last = [name for name in _LAST if name in found]
    return (*first, *sorted(found.difference(first, last)), *last)


def build_page(name: str, tables: Tables) -> Report:
    """One page from the tables.

    Raises:
        ReportError: there is no page of that name.
    """
    if name not in page_names():
        raise ReportError(f"unknown page {name!r}; {known_names(name, page_names())}")
    module = importlib.import_module(f"reports.pages.{name}")
    report = module.build(tables)
    if not isinstance(report, Report):
        raise ReportError(f"page {name!r}: build must return a Report, got {type(report).__name__}")
    return report


def build_reports(tables: Tables, names: Sequence[str] | None = None) -> tuple[Report, ...]:
    """Several pages; None or none builds all of them, in reading order."""
    return tuple(build_page(name, tables) for name in names or page_names())
