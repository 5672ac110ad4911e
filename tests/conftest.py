"""Ops, traces and toy chips that tests share, as fixtures that build them."""

from collections.abc import Callable

import pytest
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
