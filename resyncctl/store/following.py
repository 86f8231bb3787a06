"""The event streams of many rollouts, read with one command: who follows them all needs one connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from resyncctl.rollout.states import RolloutState
from resyncctl.store import keys
from resyncctl.store.records import ProgressEvent
from resyncctl.store.redis_store import store_errors

if TYPE_CHECKING:
    from resyncctl.rollout.model import RolloutId
    from resyncctl.store.redis_store import RedisStore

PAGE: Final = 100
"""Events of one rollout that come at once, at most."""


async def read_events(
    store: RedisStore, after: Mapping[RolloutId, str], *, wait: float
) -> dict[RolloutId, list[ProgressEvent]]:
    """Return the events of each rollout after an ID ('0' = all that are kept), waiting up to `wait` seconds for the first.

    Rollouts without news are left out. Raises StoreError.
    """
    names = {keys.events(name).encode(): name for name in after}
    with store_errors(store.where):
        found: list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]] = await store.client.xread(
            {keys.events(name): last for name, last in after.items()}, count=PAGE, block=max(1, int(wait * 1000))
        )
    return {names[key]: [_event(name, fields) for name, fields in entries] for key, entries in found or ()}


def _event(name: bytes, fields: Mapping[bytes, bytes]) -> ProgressEvent:
    state, report = fields[b"state"].decode(), fields[b"report"] or b"{}"
    return ProgressEvent(name.decode(), RolloutState(state), json.loads(report))
