"""Workers, sources and the freeze as plain values, for the API and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from resyncctl.clock import rfc3339

if TYPE_CHECKING:
    from resyncctl.config import Source
    from resyncctl.store.service import Freeze, WorkerRecord


def worker_report(worker: WorkerRecord) -> dict[str, object]:
    """Return a process that executes rollouts."""
    return {
        "name": worker.name,
        "host": worker.host,
        "pid": worker.pid,
        "pool": worker.pool,
        "started_at": rfc3339(worker.started_us),
        "seen_at": rfc3339(worker.seen_us),
        "rollouts": list(worker.rollouts),
    }


def source_reports(sources: Mapping[str, Source]) -> list[dict[str, object]]:
    """Return the sources of phones by name."""
    return [
        {"name": name, "file": str(one.file), "exists": one.file.is_file(), "from_domain": one.from_domain}
        for name, one in sorted(sources.items())
    ]


def freeze_report(freeze: Freeze | None) -> dict[str, object]:
    """Return whether everything stands still, and who wanted it."""
    if freeze is None:
        return {"frozen": False, "actor": "", "since": None, "reason": ""}
    return {"frozen": True, "actor": freeze.actor, "since": rfc3339(freeze.since_us), "reason": freeze.reason}
