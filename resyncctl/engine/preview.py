"""What a person is shown of a plan beside its numbers; bounded, however large the plan is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from resyncctl.engine.planning import Plan

BATCHES: Final = 12
"""Batches that are spelled out: all, or the first ones and the last."""
EXAMPLES: Final = 3
"""Phones that are named for each reason to skip."""


def shown_batches(plan: Plan) -> list[dict[str, object]]:
    """Return the batches that are spelled out; numbers begin with 1, offsets are seconds."""
    last = len(plan.releases) - 1
    shown = range(last + 1) if last < BATCHES else [*range(BATCHES - 2), last]
    return [
        {
            "number": number + 1,
            "phones": plan.releases[number].phones,
            "first_due": plan.releases[number].first_due / 1_000_000,
            "last_due": plan.releases[number].last_due / 1_000_000,
        }
        for number in shown
    ]


def skipped_examples(plan: Plan) -> dict[str, list[str]]:
    """Return the first phones that are skipped, by reason."""
    examples: dict[str, list[str]] = {reason: [] for reason in sorted(plan.skipped)}
    missing = sum(min(count, EXAMPLES) for count in plan.skipped.values())
    for target in plan.skips() if missing else ():
        known = examples[target.skip.text]
        if len(known) < EXAMPLES:
            known.append(target.aor or target.contact)
            missing -= 1
        if not missing:
            break
    return examples
