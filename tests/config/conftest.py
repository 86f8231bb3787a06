"""What the tests of the settings share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from resyncctl.config import Settings, load

Load = Callable[..., Settings]


@pytest.fixture
def written(tmp_path: Path) -> Load:
    """Load settings from lines of a file, variables without their prefix, and what the command line says."""

    def loaded(*lines: str, environ: Mapping[str, str] | None = None, **told: object) -> Settings:
        file = tmp_path / "c.toml"
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        around = {f"RESYNCCTL_{name}": value for name, value in (environ or {}).items()}
        return load(file=file, environ=around, redis_url="", data_dir=None, log_level="", told=told)

    return loaded
