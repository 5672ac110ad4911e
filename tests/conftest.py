"""Ops, traces and toy chips that tests share, as fixtures that build them."""

from collections.abc import Callable, Iterator

import pytest
from browser_visit import running_browser
from toy_builders import Build

from roofline.chip import Chip


@pytest.fixture(scope="session")
def build() -> Build:
    return Build()


@pytest.fixture(scope="session")
def shipped_chips() -> Callable[[], tuple[Chip, ...]]:
    """All chips that come with the project."""
    from roofline.chipfile import list_chips, load_chip

    return lambda: tuple(load_chip(name) for name in list_chips())


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A headless Chromium; tests that need it carry the mark `browser`."""
    with running_browser() as found:
        yield found
