"""Where the measured traces lie that the tests of the importers read."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def traces_folder() -> Path:
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("ROOFSCAPE_SHARED_DATA", beside)) / "traces"
    if not folder.is_dir():
        pytest.skip(f"the measured traces are not here ({folder}); set ROOFSCAPE_SHARED_DATA")
    return folder
