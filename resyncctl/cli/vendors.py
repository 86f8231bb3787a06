"""`resyncctl vendors …`: the catalogue of what each make of phone does on NOTIFY."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from resyncctl.cli.state import Common, console, emit
from resyncctl.errors import InputError

if TYPE_CHECKING:
    from resyncctl.vendors import Vendor

app = typer.Typer(help="What each make of phone does on NOTIFY, with confidence and sources.", no_args_is_help=True)


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the vendors and the events that they get."""
    common: Common = context.obj
    from resyncctl.vendors import Catalogue

    catalogue = Catalogue.load()
    if common.as_json:
        emit([dataclasses.asdict(vendor) for vendor in catalogue])
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("vendor", "name", "resync", "reboot", "confidence"):
        table.add_column(title, overflow="fold")
    for vendor in catalogue:
        table.add_row(vendor.id, vendor.name, _event(vendor.resync), _event(vendor.reboot), vendor.confidence.value)
    console(stderr=False).print(table)


@app.command()
def show(
    context: typer.Context,
    vendor: Annotated[str, typer.Argument(help="ID of the vendor, as `vendors list` prints it.")],
) -> None:
    """Show all that is known of a vendor."""
    common: Common = context.obj
    from resyncctl.vendors import Catalogue

    found = Catalogue.load().get(vendor.lower())
    if found is None:
        raise InputError(f"unknown vendor {vendor!r}; `resyncctl vendors list` shows the known ones")
    _show(common, found)


@app.command()
def match(
    context: typer.Context, user_agent: Annotated[str, typer.Argument(help="User-Agent text of a REGISTER.")]
) -> None:
    """Show which vendor a User-Agent belongs to."""
    common: Common = context.obj
    from resyncctl.vendors import Catalogue

    found = Catalogue.load().match(user_agent)
    if found is None:
        raise InputError(
            f"no vendor's pattern fits {user_agent!r}; such a phone gets check-sync, or check-sync;reboot=true"
        )
    _show(common, found)


def _show(common: Common, vendor: Vendor) -> None:
    values = dataclasses.asdict(vendor)
    if common.as_json:
        emit(values)
        return
    out = console(stderr=False)
    for name, value in values.items():
        if isinstance(value, list | tuple):
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
                if part not in {None, "", ()}:
                    out.print(f"  {key}: {part}", markup=False)
        elif value is not None:
            out.print(f"[bold]{name}[/] ", end="")
            out.print(str(value), markup=False)


def _event(trigger: object) -> str:
    event = getattr(trigger, "event", None)
    if event is None:
        return "not supported"
    return f"{event}" if getattr(trigger, "sourced", True) else f"{event} (a guess)"
