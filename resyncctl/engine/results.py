"""The results of a rollout, target by target, streamed: a million rows are never in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING, Final, NamedTuple

from resyncctl.clock import rfc3339
from resyncctl.engine.tally import is_over
from resyncctl.rollout.model import Outcome, Reason, Target, TargetState
from resyncctl.sip.uas import REASONS
from resyncctl.store.codec import decode_block, unpack_batch

if TYPE_CHECKING:
    from resyncctl.store.records import RolloutRecord
    from resyncctl.store.redis_store import RedisStore


class Row(NamedTuple):
    """One target as people and scripts see it. Times are RFC 3339 UTC, '' = not yet; a status of 0 is no response."""

    aor: str
    contact: str
    vendor: str
    state: str
    reason: str
    status: int
    attempts: int
    planned_at: str
    sent_at: str
    answered_at: str
    rtt_ms: float


COLUMNS: Final = Row._fields
_PLANNED: Final = Outcome(TargetState.PLANNED)


async def results(
    store: RedisStore, record: RolloutRecord, states: Collection[TargetState] = ()
) -> AsyncIterator[tuple[Target, TargetState, Row]]:
    """Yield the targets in order of their batches, of the given states only (none given = all)."""
    async for _, block, fields in store.pages(record.id, order_of(record)):
        outcomes = unpack_batch(fields)
        for place, target in enumerate(decode_block(block)):
            outcome = settled(target, outcomes.get(place), record)
            if not states or outcome.state in states:
                yield target, outcome.state, row_of(target, outcome, record)


def order_of(record: RolloutRecord) -> list[int]:
    """Return the batches in the order in which results are listed: those that are sent to, then those that are skipped."""
    return sorted(range(len(record.index.sizes)), key=lambda number: (record.index.first_dues[number] < 0, number))


def settled(target: Target, outcome: Outcome | None, record: RolloutRecord) -> Outcome:
    """Return what became of a target, the end of its rollout included."""
    if target.skip:
        return Outcome(TargetState.SKIPPED, target.skip)
    if outcome is None:
        outcome = _PLANNED
    if is_over(record.state) and record.finished_us and outcome.state in {TargetState.PLANNED, TargetState.DEFERRED}:
        return Outcome(TargetState.CANCELLED, Reason.ABORTED, 0, outcome.attempts)
    return outcome


def row_of(target: Target, outcome: Outcome, record: RolloutRecord) -> Row:
    """Return a target as people and scripts see it."""
    started = record.started_us
    planned = started + outcome.planned_us if outcome.planned_us else _planned(target, record)
    sent = started + outcome.sent_us if outcome.sent_us else 0
    answered = outcome.status != 0 and sent
    return Row(
        aor=target.aor,
        contact=target.contact,
        vendor=target.vendor,
        state=outcome.state.label,
        reason=outcome.reason.text or (REASONS.get(outcome.status, "") if outcome.status else ""),
        status=outcome.status,
        attempts=outcome.attempts,
        planned_at=rfc3339(planned) if planned else "",
        sent_at=rfc3339(sent) if sent else "",
        answered_at=rfc3339(sent + outcome.rtt_us) if answered else "",
        rtt_ms=outcome.rtt_us / 1000 if answered else 0.0,
    )


def _planned(target: Target, record: RolloutRecord) -> int:
    return record.base_us + target.due_us if record.base_us and target.due_us >= 0 else 0
