"""`resyncctl phones|sources|workers|freeze …`: what the service knows, who works for it, and its emergency stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from resyncctl.cli.options import Where
from resyncctl.cli.state import Common, console, emit, say

if TYPE_CHECKING:
    from resyncctl.engine.backend import Report

phones = typer.Typer(help="The phones of a source.", no_args_is_help=True)
sources = typer.Typer(help="Where phones come from: the sources of the configuration.", no_args_is_help=True)
workers = typer.Typer(help="The processes that execute rollouts for the service.", no_args_is_help=True)
freeze = typer.Typer(help="The emergency stop: nothing that the service sends goes on.", no_args_is_help=True)

_COLUMNS: Final = ("aor", "contact", "vendor", "model", "mac", "site", "tags")
"""Columns of the phones that a person is shown; --json has all."""


@phones.callback()
def _phones() -> None:
    """Keep `list` a command of its own, although it is the only one."""


@sources.callback()
def _sources() -> None:
    """As above."""


@workers.callback()
def _workers() -> None:
    """As above."""


@phones.command("list")
def list_phones(
    context: typer.Context,
    source: Annotated[str, typer.Option(metavar="NAME", help="A source of the configuration.")],
    where: Where = None,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 100,
) -> None:
    """List the phones of a source, without their credentials."""
    common: Common = context.obj
    page = common.ask(lambda backend: backend.phones(source, where or [], count=count))
    if common.as_json:
        emit(page.entries)
    else:
        shown = [name for name in _COLUMNS if any(phone.get(name) for phone in page.entries)]
        _show(shown, [[phone.get(name, "") for name in shown] for phone in page.entries], "no phones")
    if page.more:
        say(f"there are more; `--count {count * 10}` shows them")


@sources.command("list")
def list_sources(context: typer.Context) -> None:
    """List the sources that the configuration names."""
    common: Common = context.obj
    found = common.ask(lambda backend: backend.sources())
    if common.as_json:
        emit(found)
        return
    rows = [
        [one["name"], one["file"], one.get("from_domain", ""), "" if one["exists"] else "there is no such file"]
        for one in found
    ]
    _show(
        ("source", "file", "From domain", "remark"),
        rows,
        "no sources; [sources.NAME] with file = … in the configuration makes one",
    )


@workers.command("list")
def list_workers(context: typer.Context) -> None:
    """List the processes that are alive, and what they work on."""
    common: Common = context.obj
    found = common.ask(lambda backend: backend.workers())
    if common.as_json:
        emit(found)
        return
    names = ("name", "pool", "started_at", "seen_at", "rollouts")
    rows = [[_text(one[name]) or ("default" if name == "pool" else "") for name in names] for one in found]
    _show(("worker", "pool", "since", "last seen", "rollouts"), rows, "no worker is alive; `resyncctl serve` is one")


@freeze.command("on")
def on(context: typer.Context, reason: Annotated[str, typer.Option(help="For those who wonder.")] = "") -> None:
    """Pause everything that the service sends; nothing is launched or resumed until `freeze off`."""
    common: Common = context.obj
    _tell_freeze(common, common.ask(lambda backend: backend.freeze(reason)))


@freeze.command("off")
def off(context: typer.Context) -> None:
    """Lift the freeze: what it has paused goes on."""
    common: Common = context.obj
    _tell_freeze(common, common.ask(lambda backend: backend.thaw()))


@freeze.command("show")
def show(context: typer.Context) -> None:
    """Say whether there is a freeze, who wanted it and why."""
    common: Common = context.obj
    _tell_freeze(common, common.ask(lambda backend: backend.frozen()))


def _tell_freeze(common: Common, state: Report) -> None:
    if common.as_json:
        emit(state)
    elif state["frozen"]:
        why = f": {state['reason']}" if state["reason"] else ""
        print(f"frozen by {state['actor']} since {state['since']}{why}")
    else:
        print("not frozen")


def _show(titles: Sequence[str], rows: Sequence[Sequence[object]], nothing: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_text(cell)) for cell in row))
    console(stderr=False).print(table if rows else nothing)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
