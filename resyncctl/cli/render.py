"""Plans, progress and reports for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resyncctl.cli.chart import draw
from resyncctl.clock import monotonic
from resyncctl.duration import format_duration
from resyncctl.engine.planning import CURVE
from resyncctl.rollout.states import RolloutState

if TYPE_CHECKING:
    from resyncctl.engine.planning import Plan
    from resyncctl.store.records import RolloutRecord

_LABEL: Final = 11
"""Columns beside a load curve."""
_BATCHES: Final = 12
"""Batches that a preview spells out."""
_EXAMPLES: Final = 3
_QUIET: Final = 10.0
"""Seconds between lines of progress where there is no terminal."""
_COLOURS: Final = {
    "accepted": "green", "confirmed": "green", "skipped": "yellow", "deferred": "cyan", "sending": "blue", "planned": "dim",
}  # fmt: skip


def show_plan(console: Console, plan: Plan) -> None:
    """Print a plan: batches, times, skips with reasons, load curve."""
    options = plan.options
    console.print(
        f"[bold]{options.action.value}[/] of {phones(len(plan.dues))}, plan {plan.hash[:12]}, seed {plan.seed}"
    )
    if plan.dues:
        first, last = min(plan.dues) / 1_000_000, max(plan.dues) / 1_000_000
        rate = f"{options.rate:g} sends" if options.rate else "unlimited sends"
        console.print(
            f"first due {format_duration(first)} after the start, last due {format_duration(last)} after it;"
            f" never more than {rate} in a second"
            if len(plan.dues) > 1
            else f"due {format_duration(first)} after the start"
        )
    else:
        console.print("nothing is sent: every phone is skipped")
    for notice in plan.notices:
        console.print(f"[yellow]note:[/] {escape(notice)}")
    if plan.dues:
        _show_batches(console, plan)
        _show_events(console, plan)
    _show_skips(console, plan)
    if plan.dues:
        room = console.width - _LABEL if console.is_terminal else CURVE
        console.print(draw(plan.dues, columns=max(10, min(CURVE, room))), markup=False)


def phones(count: int) -> str:
    """Write a number of phones."""
    return "1 phone" if count == 1 else f"{count} phones"


def _show_batches(console: Console, plan: Plan) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("batch", "phones", "first due", "last due"):
        table.add_column(name, justify="right")
    last = len(plan.releases) - 1
    shown = range(last + 1) if last < _BATCHES else [*range(_BATCHES - 2), last]
    previous = -1
    for number in shown:
        if number > previous + 1:
            table.add_row("…", f"({number - previous - 1} more)", "", "")
        previous = number
        release = plan.releases[number]
        first, end = release.first_due / 1_000_000, release.last_due / 1_000_000
        table.add_row(str(number + 1), str(release.phones), f"{first:.3f} s", f"{end:.3f} s")
    console.print(table)


def _show_events(console: Console, plan: Plan) -> None:
    for trigger in plan.triggers:
        body = " with a body" if trigger.body else ""
        console.print(f"Event: [bold]{escape(trigger.event)}[/]{body}")


def _show_skips(console: Console, plan: Plan) -> None:
    if not plan.skipped:
        return
    examples: dict[str, list[str]] = {}
    for number, targets in plan.batches():
        if plan.index.first_dues[number] >= 0:
            continue
        for target in targets:
            known = examples.setdefault(target.skip.text, [])
            if len(known) < _EXAMPLES:
                known.append(target.aor or target.contact)
    console.print("[bold]skipped[/]")
    for reason, count in sorted(plan.skipped.items()):
        more = ", …" if count > _EXAMPLES else ""
        console.print(f"  {count} {reason}: {escape(', '.join(examples.get(reason, [])))}{more}")


class Progress:
    """Shows how a rollout goes on: a live display on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, record: RolloutRecord) -> None:
        self._console = console
        self._record = record
        self._state = record.state
        self._report: Mapping[str, object] = record.report
        self._told_at = self._began_at = monotonic()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._console.print(
            f"rollout [bold]{self._record.id}[/]: {self._record.action.value} of {phones(self._record.targets)}"
        )
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def update(self, state: RolloutState, report: Mapping[str, object]) -> None:
        """Take the newest numbers."""
        changed, self._state, self._report = state is not self._state, state, report
        now = monotonic()
        if not self._console.is_terminal and (changed or now - self._told_at >= _QUIET):
            self._told_at = now
            self._console.print(f"{state.value}: {_counts_line(report)}")

    def tell(self, text: str) -> None:
        """Print a line above the display."""
        self._console.print(escape(text))

    def _render(self) -> Group:
        counts = self._report.get("counts")
        done = 0
        if isinstance(counts, dict):
            done = sum(count for name, count in counts.items() if name not in {"planned", "deferred", "sending"})
        total = max(1, self._record.targets)
        seconds = int(monotonic() - self._began_at)
        head = Text.assemble(
            (f"{self._state.value} ", "bold"), f"{done}/{total} ({done * 100 // total} %)  {format_duration(seconds)}"
        )
        bar = Table.grid()
        bar.add_row(ProgressBar(total=total, completed=done, width=min(60, self._console.width)))
        return Group(head, bar, Text.from_markup(_counts_line(self._report)))


def _counts_line(report: Mapping[str, object]) -> str:
    counts = report.get("counts")
    if not isinstance(counts, dict) or not counts:
        return "nothing sent yet"
    return "  ".join(f"[{_COLOURS.get(name, 'red')}]{name} {count}[/]" for name, count in counts.items())


def show_report(console: Console, report: Mapping[str, object]) -> None:
    """Print the report of a rollout, and what to do next."""
    name, state = report["rollout"], report["state"]
    console.print(f"rollout [bold]{name}[/] is [bold]{state}[/]" + _because(report))
    console.print(f"  {report['targets']} target{'' if report['targets'] == 1 else 's'}: {_counts_line(report)}")
    responses = report.get("responses")
    if isinstance(responses, dict) and responses:
        console.print("  responses: " + ", ".join(f"{count} of {code}" for code, count in responses.items()))
    for key, title in (("failure_reasons", "failures"), ("skipped_reasons", "skipped")):
        reasons = report.get(key)
        if isinstance(reasons, dict) and reasons:
            console.print(
                f"  {title}: " + ", ".join(f"{count} {escape(str(reason))}" for reason, count in reasons.items())
            )
    _show_busy(console, report.get("busy"))
    if report.get("retries"):
        console.print(f"  retries: {report['retries']}")
    if report.get("sending_seconds"):
        console.print(f"  sending took {report['sending_seconds']} s")
    counts = report["counts"]
    if isinstance(counts, dict):
        bad = [
            label for label in ("rejected", "unreachable", "overloaded", "unauthorized", "unknown") if counts.get(label)
        ]
        if bad:
            options = " ".join(f"--state {label}" for label in bad)
            console.print(f"  see them: resyncctl rollout results {name} {options}", soft_wrap=True)
        if bad and state in {RolloutState.FINISHED.value, RolloutState.ABORTED.value}:
            console.print(f"  try only them again: resyncctl rollout retry {name}", soft_wrap=True)


def _because(report: Mapping[str, object]) -> str:
    reason = report.get("pause_reason")
    return f" ({reason})" if reason else ""


def _show_busy(console: Console, busy: object) -> None:
    if not isinstance(busy, dict) or not any(busy.values()):
        return
    parts = [
        f"{busy.get('deferred', 0)} deferred for a call",
        f"{busy.get('forced', 0)} sent to in a call at the forced delay",
        f"{busy.get('unknown', 0)} of unknown state",
    ]
    console.print("  calls: " + ", ".join(parts))
    for trouble in busy.get("trouble", []):
        console.print(f"  [yellow]busy state was unknown:[/] {escape(str(trouble))}")
