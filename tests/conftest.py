"""Shared fixtures: the real data, where there is any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: HIERBMD_DATA, or shared/data beside the project; tests that need it skip without."""
    folder = Path(os.environ.get("HIERBMD_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set HIERBMD_DATA or put shared/data beside the project")
    return folder
