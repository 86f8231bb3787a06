"""The audit log: who did what, when, from where. Entries are added and read; nothing changes or removes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from resyncctl.clock import now_us, rfc3339
from resyncctl.store import keys
from resyncctl.store.redis_store import store_errors

if TYPE_CHECKING:
    from resyncctl.store.redis_store import RedisStore

MOST: Final = 1000
"""Entries of one page."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: `token:ops`, `schedule:sunday`, `hook:freepbx` or `user@host`; and from where (an address, or `local`)."""

    name: str
    source: str = "local"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry. `id` is a cursor; `time` is RFC 3339."""

    id: str
    time: str
    actor: str
    source: str
    action: str
    """Noun and verb: `rollout.launch`, `rollout.pause`, `token.create`."""
    subject: str
    """The name of what it was done to."""
    details: Mapping[str, str] = field(default_factory=dict)


class AuditLog:
    """The audit log in Redis. Every method raises StoreError when Redis fails."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    async def record(self, actor: Actor, action: str, subject: str, details: Mapping[str, str] | None = None) -> None:
        """Add an entry. `details` hold no secrets; a rollout's plan hash goes by `plan_hash`."""
        fields = {
            "us": now_us(),
            "actor": actor.name,
            "source": actor.source,
            "action": action,
            "subject": subject,
            "details": json.dumps(dict(details or {})),
        }
        with store_errors(self._store.where):
            await self._store.client.xadd(keys.AUDIT_LOG, fields, maxlen=keys.AUDIT, approximate=True)

    async def newest(self, count: int, *, before: str = "") -> list[AuditEntry]:
        """Return entries, newest first; `before` is the `id` of the last one of the page before."""
        last = f"({before}" if before else "+"
        with store_errors(self._store.where):
            rows: list[tuple[bytes, dict[bytes, bytes]]] = await self._store.client.xrevrange(
                keys.AUDIT_LOG, last, "-", count=min(count, MOST)
            )
        return [
            _entry(name.decode(), {key.decode(): value.decode() for key, value in row.items()}) for name, row in rows
        ]


def _entry(name: str, row: Mapping[str, str]) -> AuditEntry:
    return AuditEntry(
        id=name,
        time=rfc3339(int(row["us"])),
        actor=row["actor"],
        source=row["source"],
        action=row["action"],
        subject=row["subject"],
        details=json.loads(row["details"]),
    )
