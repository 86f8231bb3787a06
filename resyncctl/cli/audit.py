"""`resyncctl audit …`: who did what, when, from where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resyncctl.cli.state import Common, console, emit, local_actor, say

if TYPE_CHECKING:
    from resyncctl.engine.backend import Page
    from resyncctl.store.redis_store import RedisStore

app = typer.Typer(help="Who did what, when, from where. Nothing can change the entries.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """Keep `list` a command of its own, although it is the only one."""


@app.command("list")
def list_(
    context: typer.Context,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 50,
    before: Annotated[str, typer.Option(metavar="ID", help="Only entries older than this one; continues a list.")] = "",
) -> None:
    """List what was done, newest first."""
    common: Common = context.obj
    page = common.ask(lambda backend: backend.audit(count, before))
    if common.as_json:
        emit(page.entries)
    elif page.entries:
        _show(page)
    else:
        console(stderr=False).print("nothing older" if before else "nothing has been done yet")
    if page.more:
        say(f"there is more: `resyncctl audit list --count {count} --before {page.more}`")


def _show(page: Page) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("time", "who", "from", "action", "subject", "details"):
        table.add_column(title, overflow="fold")
    for entry in page.entries:
        told = entry["details"]
        pairs = told.items() if isinstance(told, dict) else ()
        cells = [str(entry[name]) for name in ("time", "actor", "source", "action", "subject")]
        cells.append(", ".join(f"{name} {value}" for name, value in pairs if value))
        table.add_row(*(Text(_printable(cell)) for cell in cells))
    console(stderr=False).print(table)


def _printable(text: str) -> str:
    """Return a text that cannot steer a terminal: some of it has come from elsewhere."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


async def record(store: RedisStore, action: str, subject: str, **details: str) -> None:
    """Write what a command has done into the audit log, in the name of whoever runs it; raises StoreError."""
    from resyncctl.store.audit import AuditLog

    await AuditLog(store).record(local_actor(), action, subject, details)
