"""Where the measured traces lie that the tests of the importers read."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def traces_folder(shared_data) -> Path:
    folder: Path = shared_data("traces")
    return folder
