"""Ops, traces and toy chips that tests share, as fixtures that build them."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from browser_visit import running_browser
from hypothesis import HealthCheck, settings
from toy_builders import Build

from roofline.chip import Chip

# What Hypothesis draws is the same in every run, and how long it takes is the machine's own affair. For other examples:
# `pytest --hypothesis-profile=default`.
settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


def pytest_runtest_setup() -> None:
    """Weights and inputs that a test draws do not depend on which tests ran before."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def build() -> Build:
    return Build()


@pytest.fixture(scope="session")
def shipped_chips() -> Callable[[], tuple[Chip, ...]]:
    """All chips that come with the project."""
    from roofline.chipfile import list_chips, load_chip

    return lambda: tuple(load_chip(name) for name in list_chips())


@pytest.fixture(scope="session")
def benchmark_module() -> Callable[[str], ModuleType]:
    """A file of `benchmarks/` as a module, by its name."""

    def load(name: str) -> ModuleType:
        file = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"{name}_benchmark", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses look for the names of their own file
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Where a measured file or folder lies below `ROOFSCAPE_SHARED_DATA`; without it, the test is skipped aloud."""

    def find(part: str) -> Path:
        folder = os.environ.get("ROOFSCAPE_SHARED_DATA")
        if not folder:
            pytest.skip(f"needs measured data, {part}: set ROOFSCAPE_SHARED_DATA to the folder that holds it")
        if not (path := Path(folder, part)).exists():
            pytest.skip(f"ROOFSCAPE_SHARED_DATA has no {part}: looked for {path}")
        return path

    return find


@pytest.fixture(scope="session")
def traces_folder(shared_data: Callable[[str], Path]) -> Path:
    """Where the measured traces lie."""
    return shared_data("traces")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A headless Chromium; tests that need it carry the mark `browser`."""
    with running_browser() as found:
        yield found
