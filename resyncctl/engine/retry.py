"""Another try at the targets of a rollout that failed: which they are, and what the new rollout is called."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from resyncctl.engine.app import check_id, plan_retry
from resyncctl.engine.pools import Pools
from resyncctl.engine.tally import is_over
from resyncctl.errors import InputError, StateError
from resyncctl.rollout.model import FAILED, Action, RolloutId, TargetState

if TYPE_CHECKING:
    from resyncctl.engine.planning import Plan
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore

_MOST: Final = 1000
"""Retries of one rollout that get their name from it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A plan for what failed, and the name of its rollout."""

    parent: RolloutRecord
    plan: Plan
    name: RolloutId


def retry_states(action: Action, wanted: Collection[TargetState] = ()) -> frozenset[TargetState]:
    """Return which targets are tried again: the wanted ones, else those that failed.

    A reboot that may have happened (unknown) is not sent again unless it is asked for.
    """
    if wanted:
        return frozenset(wanted)
    return FAILED if action is Action.RESYNC else FAILED - {TargetState.UNKNOWN}


async def prepare_retry(
    store: RedisStore,
    parent: RolloutRecord,
    states: Collection[TargetState] = (),
    *,
    now: bool,
    name: str = "",
    pools: Pools | None = None,
) -> Retry:
    """Plan for the targets of a rollout that has ended; '' names the new one after it.

    Raises StateError while the rollout is not over, InputError when it has no such target.
    """
    if not is_over(parent.state):
        raise StateError(
            f"rollout {parent.id} is {parent.state.value}; let it end, or abort it, before its failures are retried"
        )
    child = check_id(name or await _free_name(store, parent.id))
    plan = await plan_retry(store, parent, retry_states(parent.action, states), now=now, name=child, pools=pools)
    return Retry(parent, plan, child)


async def _free_name(store: RedisStore, parent: RolloutId) -> str:
    for number in range(1, _MOST):
        name = f"{parent[:58]}-r{number}"
        if await store.find(check_id(name)) is None:
            return name
    raise InputError("a thousand retries of one rollout; name the new one with --id")
