"""`resyncctl vendors …`: the catalogue of what each make of phone does on NOTIFY."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer

from resyncctl.cli.state import Common, console, emit, run_async
from resyncctl.errors import InputError

if TYPE_CHECKING:
    from resyncctl.engine.backend import Report

app = typer.Typer(help="What each make of phone does on NOTIFY, with confidence and sources.", no_args_is_help=True)


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the vendors and the events that they get."""
    common: Common = context.obj
    found = _vendors(common)
    if common.as_json:
        emit(found)
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("vendor", "name", "resync", "reboot", "confidence"):
        table.add_column(title, overflow="fold")
    for vendor in found:
        events = _event(vendor["resync"]), _event(vendor["reboot"])
        table.add_row(str(vendor["id"]), str(vendor["name"]), *events, str(vendor["confidence"]))
    console(stderr=False).print(table)


@app.command()
def show(
    context: typer.Context,
    vendor: Annotated[str, typer.Argument(help="ID of the vendor, as `vendors list` prints it.")],
) -> None:
    """Show all that is known of a vendor."""
    common: Common = context.obj
    found = next((one for one in _vendors(common) if one["id"] == vendor.lower()), None)
    if found is None:
        raise InputError(f"unknown vendor {vendor!r}; `resyncctl vendors list` shows the known ones")
    _show(common, found)


@app.command()
def match(
    context: typer.Context, user_agent: Annotated[str, typer.Argument(help="User-Agent text of a REGISTER.")]
) -> None:
    """Show which vendor a User-Agent belongs to."""
    common: Common = context.obj
    found = _vendors(common, user_agent) if user_agent else []
    if not found:
        raise InputError(
            f"no vendor's pattern fits {user_agent!r}; such a phone gets check-sync, or check-sync;reboot=true"
        )
    _show(common, found[0])


def _vendors(common: Common, user_agent: str = "") -> list[Report]:
    """Return the catalogue, that of the service with --server; only what fits a User-Agent, if one is given."""
    if common.server:

        async def main() -> list[Report]:
            async with common.service() as service:
                return await service.vendors(user_agent)

        return run_async(main)
    from resyncctl.vendors import Catalogue

    catalogue = Catalogue.load()
    fitting = [catalogue.match(user_agent)] if user_agent else catalogue
    plain: list[Report] = json.loads(json.dumps([dataclasses.asdict(one) for one in fitting if one is not None]))
    return plain


def _show(common: Common, vendor: Report) -> None:
    if common.as_json:
        emit(vendor)
        return
    out = console(stderr=False)
    for name, value in vendor.items():
        if isinstance(value, list):
            if value:
                out.print(f"[bold]{name}[/]")
                for one in value:
                    text = (
                        ", ".join(f"{key}: {part}" for key, part in one.items() if part)
                        if isinstance(one, dict)
                        else one
                    )
                    out.print(f"  {text}", markup=False)
        elif isinstance(value, dict):
            out.print(f"[bold]{name}[/]")
            for key, part in value.items():
                if part not in (None, "", []):
                    out.print(f"  {key}: {part}", markup=False)
        elif value is not None:
            out.print(f"[bold]{name}[/] ", end="")
            out.print(str(value), markup=False)


def _event(trigger: object) -> str:
    values = trigger if isinstance(trigger, dict) else {}
    event = values.get("event")
    if event is None:
        return "not supported"
    return f"{event}" if values.get("sourced", True) else f"{event} (a guess)"
