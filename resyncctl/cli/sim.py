"""`resyncctl sim`: simulated phones to rehearse against."""

from __future__ import annotations

import typer


def sim(context: typer.Context) -> None:
    """Simulated phones."""
    _ = context
