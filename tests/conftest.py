from pathlib import Path

import pytest

from tests.kit import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project in a folder of its own."""
    return Project(tmp_path)
