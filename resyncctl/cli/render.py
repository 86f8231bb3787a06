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
from resyncctl.rollout.states import RolloutState

if TYPE_CHECKING:
    from resyncctl.engine.backend import Report

_LABEL: Final = 11
"""Columns beside a load curve."""
_NARROWEST: Final = 10
_QUIET: Final = 10.0
"""Seconds between lines of progress where there is no terminal."""
_COLOURS: Final = {
    "accepted": "green", "confirmed": "green", "skipped": "yellow", "deferred": "cyan", "sending": "blue", "planned": "dim",
}  # fmt: skip


def show_plan(console: Console, plan: Report) -> None:
    """Print a plan: batches, times, skips with reasons, load curve."""
    sends = whole(plan["targets"]) - whole(plan["skipped"])
    console.print(
        f"[bold]{plan['action']}[/] of {phones(sends)}, plan {str(plan['plan_hash'])[:12]}, seed {plan['seed']}"
    )
    if sends:
        first, last = format_duration(_float(plan["first_due"])), format_duration(_float(plan["last_due"]))
        limit = _float(_dict(plan["options"])["rate"])
        rate = f"{limit:g} sends" if limit else "unlimited sends"
        console.print(
            f"first due {first} after the start, last due {last} after it; never more than {rate} in a second"
            if sends > 1
            else f"due {first} after the start"
        )
    else:
        console.print("nothing is sent: every phone is skipped")
    for notice in _list(plan["notices"]):
        console.print(f"[yellow]note:[/] {escape(str(notice))}")
    if sends:
        _show_batches(console, plan)
        for event in map(str, _list(plan["events"])):
            body = " with a body" if event in _list(plan["events_with_body"]) else ""
            console.print(f"Event: [bold]{escape(event)}[/]{body}")
    _show_skips(console, plan)
    if sends:
        curve = _dict(plan["load_curve"])
        room = max(_NARROWEST, console.width - _LABEL) if console.is_terminal else 0
        counts = [whole(count) for count in _list(curve["sends"])]
        console.print(draw(_float(curve["bucket_seconds"]), counts, columns=room), markup=False)


def phones(count: int) -> str:
    """Write a number of phones."""
    return "1 phone" if count == 1 else f"{count} phones"


def _show_batches(console: Console, plan: Report) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("batch", "phones", "first due", "last due"):
        table.add_column(name, justify="right")
    previous = 0
    for batch in map(_dict, _list(plan["shown_batches"])):
        number = whole(batch["number"])
        if number > previous + 1:
            table.add_row("…", f"({number - previous - 1} more)", "", "")
        previous = number
        first, end = (f"{_float(batch[name]):.3f} s" for name in ("first_due", "last_due"))
        table.add_row(str(number), str(batch["phones"]), first, end)
    console.print(table)


def _show_skips(console: Console, plan: Report) -> None:
    skipped, examples = _dict(plan["skipped_reasons"]), _dict(plan["skipped_examples"])
    if not skipped:
        return
    console.print("[bold]skipped[/]")
    for reason, count in sorted(skipped.items()):
        known = [str(name) for name in _list(examples.get(reason, []))]
        more = ", …" if whole(count) > len(known) else ""
        console.print(f"  {count} {reason}: {escape(', '.join(known))}{more}")


class Progress:
    """Shows how a rollout goes on: a live display on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, report: Mapping[str, object]) -> None:
        self._console = console
        self._about = f"rollout [bold]{report['rollout']}[/]: {report['action']} of {phones(whole(report['targets']))}"
        self._total = max(1, whole(report["targets"]))
        self._report = report
        self._told_at = self._began_at = monotonic()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._console.print(self._about)
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def update(self, report: Mapping[str, object]) -> None:
        """Take the newest state and numbers."""
        changed, self._report = report["state"] != self._report["state"], report
        now = monotonic()
        if not self._console.is_terminal and (changed or now - self._told_at >= _QUIET):
            self._told_at = now
            self._console.print(f"{report['state']}: {_counts_line(report)}")

    def tell(self, text: str) -> None:
        """Print a line above the display."""
        self._console.print(escape(text))

    def _render(self) -> Group:
        counts = self._report.get("counts")
        done = 0
        if isinstance(counts, dict):
            done = sum(count for name, count in counts.items() if name not in {"planned", "deferred", "sending"})
        total = self._total
        seconds = int(monotonic() - self._began_at)
        head = Text.assemble(
            (f"{self._report['state']} ", "bold"),
            f"{done}/{total} ({done * 100 // total} %)  {format_duration(seconds)}",
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


def whole(value: object) -> int:
    """Return a number of a report."""
    assert isinstance(value, int)  # noqa: S101  (what the report says)
    return value


def _float(value: object) -> float:
    assert isinstance(value, int | float)  # noqa: S101  (what the report says)
    return value


def _list(value: object) -> list[object]:
    assert isinstance(value, list)  # noqa: S101  (what the report says)
    return value


def _dict(value: object) -> dict[str, object]:
    assert isinstance(value, dict)  # noqa: S101  (what the report says)
    return value
