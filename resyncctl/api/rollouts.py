"""`/v1/rollouts`: launch, look, steer, try again."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Query, Response

from resyncctl.api.idempotency import OnceOnly, named
from resyncctl.api.models import Accepted, Launch, Report, Reports, Retry, RetryPlan, Targets
from resyncctl.api.problems import wrong_fields
from resyncctl.api.security import Who
from resyncctl.api.services import Services, Use
from resyncctl.engine.access import Caller, Scope
from resyncctl.engine.app import check_id
from resyncctl.engine.pages import rollouts_page, targets_page
from resyncctl.engine.planning import plan_report
from resyncctl.engine.retry import prepare_retry
from resyncctl.engine.tally import report_of
from resyncctl.errors import InputError, NotFoundError
from resyncctl.rollout.model import TargetState
from resyncctl.rollout.states import Command, RolloutState

if TYPE_CHECKING:
    from resyncctl.api.routing import Routes
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore

PAGE: Final = 100
Limit = Annotated[int, Query(ge=1, le=1000, description="Entries of the page, at most.")]
PageCursor = Annotated[str, Query(max_length=200, description="`next` of the page before; empty = the first page.")]
_LABELS: Final = {state.label: state for state in TargetState}


async def find(store: RedisStore, name: str) -> RolloutRecord:
    """Return a rollout; NotFoundError also for what cannot be the name of one."""
    try:
        return await store.get(check_id(name))
    except InputError as error:
        raise NotFoundError(f"there is no rollout {name[:80]!r}") from error


def target_states(names: list[str] | tuple[str, ...], *, field: str) -> frozenset[TargetState]:
    """Read states of targets; ProblemError for what is none."""
    unknown = sorted(set(names) - _LABELS.keys())
    if unknown:
        known = ", ".join(_LABELS)
        raise wrong_fields([(field, f"{name[:40]!r} is no state of a target; known: {known}") for name in unknown])
    return frozenset(_LABELS[name] for name in names)


async def launch_rollout(body: Launch, services: Use, caller: Who, once: OnceOnly) -> Response:
    """Launch a rollout of a plan.

    The service begins to execute it at once. 404: there is no such plan (any more). 409: the phones, or what the
    configuration says of their source, have changed since it was made, the id names another rollout, or there is a freeze.
    """

    async def make(unique: str) -> tuple[Mapping[str, object], str]:
        name = body.id or named(body.plan_hash[:8], unique)
        launched = await services.launcher.launch_kept(body.plan_hash, caller.actor, name=name)
        services.wake()
        return {"rollout": launched.record.id}, f"/v1/rollouts/{launched.record.id}"

    return await once.answer(HTTPStatus.ACCEPTED, make)


async def list_rollouts(
    services: Use,
    state: Annotated[list[RolloutState] | None, Query(description="Only rollouts in this state; repeatable.")] = None,
    cursor: PageCursor = "",
    limit: Limit = PAGE,
) -> dict[str, object]:
    """List rollouts, newest first."""
    page = await rollouts_page(services.store, state or (), limit=limit, cursor=cursor)
    return {"rollouts": [report_of(record) for record in page.rollouts], "next": page.more or None}


async def show_rollout(rollout: str, services: Use) -> dict[str, object]:
    """Show a rollout."""
    return report_of(await find(services.store, rollout))


async def pause_rollout(rollout: str, services: Use, caller: Who) -> dict[str, object]:
    """Pause a rollout.

    Nothing more is sent within a second; what is on the wire is followed to its end.
    """
    return await _steer(rollout, Command.PAUSE, services, caller)


async def resume_rollout(rollout: str, services: Use, caller: Who) -> dict[str, object]:
    """Go on with a paused rollout."""
    return await _steer(rollout, Command.RESUME, services, caller)


async def abort_rollout(rollout: str, services: Use, caller: Who) -> dict[str, object]:
    """End a rollout for good.

    Targets that have not been sent to are cancelled.
    """
    return await _steer(rollout, Command.ABORT, services, caller)


async def _steer(rollout: str, wanted: Command, services: Services, caller: Caller) -> dict[str, object]:
    known = await find(services.store, rollout)
    record = await services.freezer.steer(known.id, wanted, caller.actor)
    services.wake()
    return report_of(record)


async def retry_rollout(rollout: str, body: Retry, services: Use, caller: Who, once: OnceOnly) -> Response:
    """Try the failed targets of a rollout again, in a new rollout."""
    states = target_states(body.states, field="states")
    parent = await find(services.store, rollout)

    async def make(unique: str) -> tuple[Mapping[str, object], str]:
        name = body.id or named(f"{parent.id[:50]}-r", unique)
        launched = await services.launcher.retry(
            parent.id, caller.actor, states=states, now=body.now, yes=body.yes, name=name
        )
        services.wake()
        return {"rollout": launched.record.id}, f"/v1/rollouts/{launched.record.id}"

    return await once.answer(HTTPStatus.ACCEPTED, make)


async def plan_retry(rollout: str, body: Retry, services: Use) -> dict[str, object]:
    """See what trying the failed targets of a rollout again would do.

    Nothing is sent. With its `rollout` as `id`, `retry` does exactly this.
    """
    states = target_states(body.states, field="states")
    parent = await find(services.store, rollout)
    pools = services.launcher.pools
    prepared = await prepare_retry(services.store, parent, states, now=body.now, name=body.id, pools=pools)
    return {**plan_report(prepared.plan), "rollout": prepared.name}


async def list_targets(
    rollout: str,
    services: Use,
    state: Annotated[list[str] | None, Query(description="Only targets in this state; repeatable.")] = None,
    cursor: PageCursor = "",
    limit: Limit = PAGE,
) -> dict[str, object]:
    """List the targets of a rollout.

    With `state` a page may be short, or empty, and still have a `next`.
    """
    states = target_states(state or [], field="state")
    record = await find(services.store, rollout)
    page = await targets_page(services.store, record, states, limit=limit, cursor=cursor)
    return {"targets": [row._asdict() for row in page.rows], "next": page.more or None}


def add(routes: Routes) -> None:
    """Add the operations."""
    tag, one = "rollouts", "/v1/rollouts/{rollout}"
    launching = {"plan_hash": "5f1d2c" + 58 * "0", "id": "spring"}
    accepted = "The rollout; `Location` names it."
    routes.add(
        "POST",
        "/v1/rollouts",
        launch_rollout,
        tag=tag,
        scope=Scope.TRIGGER,
        answer=Accepted,
        status=HTTPStatus.ACCEPTED,
        meaning=accepted,
        errors=(404, 409),
        examples={"plan": launching},
    )
    routes.add("GET", "/v1/rollouts", list_rollouts, tag=tag, scope=Scope.READ, answer=Reports)
    routes.add("GET", one, show_rollout, tag=tag, scope=Scope.READ, answer=Report, errors=(404,))
    for verb, endpoint in (("pause", pause_rollout), ("resume", resume_rollout), ("abort", abort_rollout)):
        routes.add("POST", f"{one}/{verb}", endpoint, tag=tag, scope=Scope.OPERATE, answer=Report, errors=(404, 409))
    routes.add(
        "POST",
        f"{one}/retry",
        retry_rollout,
        tag=tag,
        scope=Scope.TRIGGER,
        answer=Accepted,
        status=HTTPStatus.ACCEPTED,
        meaning=accepted,
        errors=(404, 409),
        examples={"unreachable": {"states": ["unreachable"], "now": True}},
    )
    routes.add(
        "POST",
        f"{one}/retry/plan",
        plan_retry,
        tag=tag,
        scope=Scope.TRIGGER,
        answer=RetryPlan,
        errors=(404, 409),
        examples={"unreachable": {"states": ["unreachable"], "now": True}},
    )
    routes.add("GET", f"{one}/targets", list_targets, tag=tag, scope=Scope.READ, answer=Targets, errors=(404,))
