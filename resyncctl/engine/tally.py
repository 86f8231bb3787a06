"""The running count of a rollout, and its report."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from resyncctl.clock import rfc3339
from resyncctl.rollout.model import LATENCY, SUCCESS, Reason, TargetState
from resyncctl.rollout.states import ENDED, RolloutState

if TYPE_CHECKING:
    from resyncctl.store.records import RolloutRecord


_BOUNDS: Final = (*map(str, LATENCY), "+Inf")


class Tally:
    """What one worker has counted: targets by state, responses by code. Times are microseconds since the start."""

    def __init__(self) -> None:
        self.states = [0] * len(TargetState)
        self.responses: Counter[int] = Counter()
        self.skipped_reasons: Counter[str] = Counter()
        self.failure_reasons: Counter[str] = Counter()
        self._latency = [0] * (len(LATENCY) + 1)
        self._latency_sum = 0.0
        self.retries = 0
        self.deferred = 0
        """Phones that were deferred at their due time."""
        self.forced = 0
        """Deferred phones that were sent to in a call, at the forced delay."""
        self.busy_unknown = 0
        """Phones of which nobody knew at their due time whether they were in a call."""
        self.busy_trouble: list[str] = []
        self.first_sent_us = 0
        self.last_outcome_us = 0

    def ended(self, state: TargetState, reason: Reason, status: int) -> None:
        """Count a target that reached a terminal state (the hot path)."""
        self.states[state] += 1
        if status:
            self.responses[status] += 1
        if state is TargetState.ACCEPTED:
            return
        if state is TargetState.SKIPPED:
            self.skipped_reasons[reason.text] += 1
        elif reason.text:
            self.failure_reasons[reason.text] += 1

    def answered(self, seconds: float) -> None:
        """Count an answer by how long it took (the hot path)."""
        self._latency[bisect_left(LATENCY, seconds)] += 1
        self._latency_sum += seconds

    def part(self, *, in_flight: int, waiting: int) -> dict[str, object]:
        """Return this worker's part of the report, as the store adds the parts up; `waiting` are deferred targets.

        `open` counts as long as the worker is alive; zeros are left out.
        """
        counts = {state.label: self.states[state] for state in TargetState if self.states[state]}
        now = {"sending": in_flight, "deferred": waiting}
        busy: dict[str, object] = {"deferred": self.deferred, "forced": self.forced, "unknown": self.busy_unknown}
        if self.busy_trouble:
            busy["trouble"] = self.busy_trouble
        part: dict[str, object] = {
            "counts": counts,
            "open": {name: count for name, count in now.items() if count},
            "responses": {str(code): count for code, count in sorted(self.responses.items())},
            "skipped_reasons": dict(self.skipped_reasons),
            "failure_reasons": dict(self.failure_reasons),
            "retries": self.retries,
            "busy": busy,
            "latency": {name: count for name, count in zip(_BOUNDS, self._latency, strict=True) if count},
            "latency_ms": round(self._latency_sum * 1000),
        }
        if self.first_sent_us:
            part["first_sent"] = self.first_sent_us
        if self.last_outcome_us:
            part["last_outcome"] = self.last_outcome_us
        return part


def planned_part(skipped: Mapping[str, int]) -> dict[str, object]:
    """Return the part of the report that the plan decides: who is skipped."""
    total = sum(skipped.values())
    return {"counts": {"skipped": total}, "skipped_reasons": dict(skipped)} if total else {"counts": {}}


def report_of(record: RolloutRecord) -> dict[str, object]:
    """Return the `--json` report of a rollout: design, section 6, and what a person asks next."""
    kept = dict(record.report)
    first, last = _number(kept.pop("first_sent", 0)), _number(kept.pop("last_outcome", 0))
    counts = kept.pop("counts", None)
    if not isinstance(counts, dict):
        skipped = sum(record.skipped.values())
        counts = {name: count for name, count in (("planned", record.targets - skipped), ("skipped", skipped)) if count}
    busy = kept.pop("busy", None)
    return {
        "rollout": record.id,
        "action": record.action.value,
        "state": record.state.value,
        "plan_hash": record.plan_hash,
        "targets": record.targets,
        "counts": _ordered(counts, over=is_over(record.state) and record.finished_us > 0),
        "responses": kept.pop("responses", {}),
        "skipped_reasons": kept.pop("skipped_reasons", dict(record.skipped)),
        "started_at": rfc3339(record.started_us) if record.started_us else None,
        "finished_at": rfc3339(record.finished_us) if record.finished_us else None,
        "sending_seconds": round((last - first) / 1_000_000, 3) if first and last >= first else 0.0,
        "pause_reason": record.pause_reason if record.state is RolloutState.PAUSED else "",
        "notices": list(record.notices),
        "parent": record.parent,
        "failure_reasons": kept.pop("failure_reasons", {}),
        "retries": kept.pop("retries", 0),
        "busy": {"deferred": 0, "forced": 0, "unknown": 0, "trouble": [], **(busy if isinstance(busy, dict) else {})},
    }


def _ordered(counts: Mapping[str, int], *, over: bool) -> dict[str, int]:
    """Return the counts in the order of the states; what a rollout that is over has not sent to is cancelled."""
    found = {state.label: counts.get(state.label, 0) for state in TargetState}
    if over:
        found["cancelled"] += found.pop("planned") + found.pop("deferred")
    return {label: count for label, count in found.items() if count}


def failures(report: Mapping[str, object]) -> int:
    """Return how many targets neither succeeded nor were skipped by rule."""
    counts = report["counts"]
    assert isinstance(counts, dict)  # noqa: S101  (what report_of makes)
    good = {state.label for state in SUCCESS} | {"skipped"}
    return sum(count for name, count in counts.items() if name not in good)


def is_over(state: RolloutState) -> bool:
    """Say whether a rollout has ended."""
    return state in ENDED


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
