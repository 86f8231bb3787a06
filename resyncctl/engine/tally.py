"""The running count of a rollout, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from resyncctl.clock import rfc3339
from resyncctl.rollout.model import SUCCESS, TERMINAL, Outcome, Reason, TargetState
from resyncctl.rollout.states import ENDED, RolloutState

if TYPE_CHECKING:
    from resyncctl.store.records import RolloutRecord


class Tally:
    """Counts targets by state, responses by code. Times are microseconds since the Unix epoch."""

    def __init__(self, targets: int, skipped: Mapping[str, int]) -> None:
        self.targets = targets
        self.states = [0] * len(TargetState)
        self.states[TargetState.SKIPPED] = sum(skipped.values())
        self.responses: Counter[int] = Counter()
        self.skipped_reasons: Counter[str] = Counter(skipped)
        self.failure_reasons: Counter[str] = Counter()
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

    def continue_from(self, report: Mapping[str, object]) -> None:
        """Take over from another owner's report what the outcomes themselves do not tell."""
        self.retries = _number(report.get("retries"))
        busy = report.get("busy")
        if isinstance(busy, dict):
            self.deferred, self.forced, self.busy_unknown = (
                _number(busy.get(name)) for name in ("deferred", "forced", "unknown")
            )
            self.busy_trouble = [str(trouble) for trouble in busy.get("trouble", [])]

    def end(self, outcome: Outcome) -> None:
        """Count a target that reached a terminal state."""
        self.ended(outcome.state, outcome.reason, outcome.status)

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

    @property
    def terminal(self) -> int:
        """Targets whose outcome is known."""
        return sum(self.states[state] for state in TERMINAL)

    def snapshot(self, *, in_flight: int, waiting: int) -> dict[str, object]:
        """Return the part of the report that is kept in Redis; `waiting` are deferred targets."""
        counts = {state.label: self.states[state] for state in TargetState if self.states[state]}
        rest = self.targets - self.terminal - in_flight - waiting
        open_ones = {"sending": in_flight, "deferred": waiting, "planned": rest}
        counts |= {name: count for name, count in open_ones.items() if count > 0}
        return {
            "counts": counts,
            "responses": {str(code): count for code, count in sorted(self.responses.items())},
            "skipped_reasons": dict(self.skipped_reasons),
            "failure_reasons": dict(self.failure_reasons),
            "retries": self.retries,
            "busy": {
                "deferred": self.deferred,
                "forced": self.forced,
                "unknown": self.busy_unknown,
                "trouble": self.busy_trouble,
            },
            "first_sent_us": self.first_sent_us,
            "last_outcome_us": self.last_outcome_us,
        }


def report_of(record: RolloutRecord) -> dict[str, object]:
    """Return the `--json` report of a rollout: design, section 6, and what a person asks next."""
    kept = dict(record.report)
    first, last = _number(kept.pop("first_sent_us", 0)), _number(kept.pop("last_outcome_us", 0))
    counts = kept.pop("counts", None)
    if counts is None:
        skipped = sum(record.skipped.values())
        counts = {name: count for name, count in (("planned", record.targets - skipped), ("skipped", skipped)) if count}
    return {
        "rollout": record.id,
        "action": record.action.value,
        "state": record.state.value,
        "plan_hash": record.plan_hash,
        "targets": record.targets,
        "counts": counts,
        "responses": kept.pop("responses", {}),
        "skipped_reasons": kept.pop("skipped_reasons", dict(record.skipped)),
        "started_at": rfc3339(record.started_us) if record.started_us else None,
        "finished_at": rfc3339(record.finished_us) if record.finished_us else None,
        "sending_seconds": round((last - first) / 1_000_000, 3) if first and last >= first else 0.0,
        "pause_reason": record.pause_reason if record.state is RolloutState.PAUSED else "",
        "notices": list(record.notices),
        "parent": record.parent,
        **kept,
    }


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
