"""The audit log: who did what, when, from where. Entries are added and read; nothing changes or removes one.

Of more than AUDIT entries (store/keys.py) the oldest make room for the newest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from resyncctl import clock
from resyncctl.errors import InputError
from resyncctl.store import keys
from resyncctl.store.redis_store import store_errors

if TYPE_CHECKING:
    from resyncctl.store.redis_store import RedisStore

MOST: Final = 1000
"""Entries of one page."""
_ID: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}\Z")


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


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some entries, newest first; `more` is the cursor of the page after it, '' when there is none."""

    entries: tuple[AuditEntry, ...]
    more: str


class AuditLog:
    """The audit log in Redis. Every method raises StoreError when Redis fails."""

    def __init__(self, store: RedisStore, *, now_us: Callable[[], int] = clock.now_us) -> None:
        self._store = store
        self._now_us = now_us

    async def record(self, actor: Actor, action: str, subject: str, details: Mapping[str, str] | None = None) -> None:
        """Add an entry. `details` hold no secrets; a rollout's plan hash goes by `plan_hash`."""
        fields = {
            "us": self._now_us(),
            "actor": actor.name,
            "source": actor.source,
            "action": action,
            "subject": subject,
            "details": json.dumps(dict(details or {})),
        }
        with store_errors(self._store.where):
            await self._store.client.xadd(keys.AUDIT_LOG, fields, maxlen=keys.AUDIT, approximate=True)

    async def newest(self, count: int, *, before: str = "") -> list[AuditEntry]:
        """Return at most `count` entries (1 to MOST), newest first; see `page` for `before`."""
        return [*(await self.page(count, before=before)).entries]

    async def page(self, count: int, *, before: str = "") -> AuditPage:
        """Return at most `count` entries (1 to MOST), newest first, and the cursor of the page after them.

        `before` is that cursor, or the `id` of the last entry of the page before; InputError when it can be neither.
        Entries that are added meanwhile move no page.
        """
        if before and not _ID.match(before):
            raise InputError(
                f"{before[:80]!r} is no cursor of the audit log; use the id of an entry, like 1700000000000-0"
            )
        wanted = max(1, min(count, MOST))
        last = f"({before}" if before else "+"
        if before and not before.strip("0-"):
            return AuditPage((), "")  # nothing is older than the very first ID; Redis calls that range an error
        with store_errors(self._store.where):
            rows: list[tuple[bytes, dict[bytes, bytes]]] = await self._store.client.xrevrange(
                keys.AUDIT_LOG, last, "-", count=wanted + 1
            )
        found = [
            _entry(name.decode(), {key.decode(): value.decode() for key, value in row.items()})
            for name, row in rows[:wanted]
        ]
        return AuditPage(tuple(found), found[-1].id if len(rows) > wanted else "")


def _entry(name: str, row: Mapping[str, str]) -> AuditEntry:
    return AuditEntry(
        id=name,
        time=clock.rfc3339(int(row["us"])),
        actor=row["actor"],
        source=row["source"],
        action=row["action"],
        subject=row["subject"],
        details=json.loads(row["details"]),
    )
