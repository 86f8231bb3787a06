"""What the interoperability tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.command_line import Resyncctl


@pytest.fixture
def resyncctl(tmp_path: Path) -> Resyncctl:
    """The command line with an embedded Redis in the test's own directory."""
    return Resyncctl(tmp_path / "resyncctl")
