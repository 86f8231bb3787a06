"""`resyncctl hook …`: what PBXs call when something about their phones has changed. A secret is shown once, alone."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resyncctl.cli.options import order_words, with_run_options
from resyncctl.cli.state import Common, console, duration, emit, say
from resyncctl.errors import NotFoundError

if TYPE_CHECKING:
    from resyncctl.engine.backend import Backend, Report

app = typer.Typer(
    help="Hooks: a PBX says that something has changed, and its phones are resynced once it has been quiet for a while.",
    no_args_is_help=True,
)


class Auth(StrEnum):
    """How a call proves that it may; as `store.hooks.HookAuth`, which `--help` has no time to import."""

    HMAC = "hmac"
    TOKEN = "token"  # noqa: S105  (the word, not a token)


Name = Annotated[str, typer.Argument(metavar="NAME", help="The hook; it is called at /v1/hooks/NAME.")]


def _seconds(default: str, text: str) -> object:
    return typer.Option(parser=duration, metavar="DUR", show_default=default, help=text)


@app.command()
@with_run_options
def add(
    context: typer.Context,
    name: Name,
    options: dict[str, object],
    phones: Annotated[
        Path | None, typer.Option(metavar="PHONES.csv", help="The phones: a file on the machine of the service.")
    ] = None,
    source: Annotated[str, typer.Option(metavar="NAME", help="The phones: a source of the configuration.")] = "",
    quiet: Annotated[float, _seconds("5s", "Launch when there was no call for so long.")] = 5.0,
    max_wait: Annotated[float, _seconds("60s", "Launch so long after the first call, quiet or not.")] = 60.0,
    cool_down: Annotated[float, _seconds("0s", "Do not send to a phone again so soon, but later.")] = 0.0,
    auth: Annotated[Auth, typer.Option(help="Signed calls, or an API token of scope trigger.")] = Auth.HMAC,
) -> None:
    """Make a hook. The secret that its calls are signed with is printed, alone, on standard output, and never again."""
    common: Common = context.obj
    from resyncctl.engine.backend import WantedHook

    wanted = WantedHook(
        name=name,
        order=order_words(common, options, phones=phones, source=source),
        auth=auth.value,
        quiet=quiet,
        max_wait=max_wait,
        cool_down=cool_down,
    )
    made = common.ask(lambda backend: backend.add_hook(wanted))
    secret = made["secret"]
    how = (
        "signed with the secret, which is shown only this once; keep it like a password"
        if secret
        else "with a token of scope trigger: `resyncctl token create NAME --scope trigger` makes one"
    )
    say(f"hook {name}: call POST /v1/hooks/{name} of a `resyncctl serve`, {how}")
    if common.as_json:
        emit(made)
    elif secret:
        print(secret)


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the hooks, what they wait for and what they did."""
    common: Common = context.obj
    found = common.ask(lambda backend: backend.hooks())
    if common.as_json:
        emit(found)
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("hook", "phones", "auth", "quiet", "max wait", "cool-down", "pending", "last rollout", "note"):
        table.add_column(title, overflow="fold")
    for hook in found:
        table.add_row(hook["name"], *_cells(hook))  # type: ignore[arg-type]
    console(stderr=False).print(table if found else "no hooks yet; `resyncctl hook add NAME --phones …` makes one")


@app.command()
def show(context: typer.Context, name: Name) -> None:
    """Show a hook, what it waits for and what it did."""
    common: Common = context.obj

    async def main(backend: Backend) -> Report:
        for hook in await backend.hooks():
            if hook["name"] == name:
                return hook
        raise NotFoundError(f"there is no hook {name[:64]!r}; `resyncctl hook list` shows which there are")

    found = common.ask(main)
    if common.as_json:
        emit(found)
        return
    for key, value in found.items():
        shown = json.dumps(value) if isinstance(value, dict) else "-" if value is None or value == "" else value
        print(f"{key.replace('_', ' '):13} {shown}")


@app.command()
def remove(context: typer.Context, name: Name) -> None:
    """Remove a hook and what it waits for. Its rollouts stay."""
    common: Common = context.obj
    common.ask(lambda backend: backend.remove_hook(name))
    if common.as_json:
        emit({"name": name, "removed": True})
    say(f"hook {name} is removed")


@app.command()
def call(
    context: typer.Context,
    name: Name,
    extension: Annotated[
        list[str] | None,
        typer.Option(help="A user or AOR; repeatable, also a comma list. Without: all phones of the hook."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the log.")] = "",
) -> None:
    """Do what a call of the hook does. A running `resyncctl serve` makes the rollout."""
    common: Common = context.obj
    answer = common.ask(lambda backend: backend.call_hook(name, extension or (), reason))
    if common.as_json:
        emit(answer)
    else:
        print(f"rollout {answer['rollout']} at {answer['fires_at']} at the latest")


def _cells(hook: dict[str, object]) -> list[str]:
    from resyncctl.duration import format_duration

    order = hook["order"]
    phones = order.get("source") or order.get("phones_file") if isinstance(order, dict) else ""
    times = [format_duration(float(str(hook[key]))) for key in ("quiet", "max_wait", "cool_down")]
    pending = f"{hook['pending']} at {hook['fires_at']}" if hook["pending"] else "-"
    last = f"{hook['last_rollout']} at {hook['last_at']}" if hook["last_rollout"] else "-"
    return [str(phones), str(hook["auth"]), *times, pending, last, str(hook["last_note"])]
