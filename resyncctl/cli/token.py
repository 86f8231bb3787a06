"""`resyncctl token …`: who may use the API. A token is shown once, alone on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from resyncctl.cli.state import Common, console, emit, local_actor, run_async, say
from resyncctl.duration import parse_duration
from resyncctl.errors import InputError

if TYPE_CHECKING:
    from resyncctl.engine.access import TokenRecord

app = typer.Typer(help="Tokens for the API: make, list and revoke them.", no_args_is_help=True)

_LONGEST: Final = 10 * 366 * 86_400.0
"""Seconds that a token may last; beyond it, `never` is what is meant."""
_NEVER: Final = "never"
_SCOPES: Final = ("read", "trigger", "operate", "admin")
"""As the engine has them, which `--help` has no time to import."""


Name = Annotated[str, typer.Argument(metavar="NAME", help="What the token is called, here and in the audit log.")]


@app.command()
def create(
    context: typer.Context,
    name: Name,
    scope: Annotated[
        str,
        typer.Option(
            metavar="|".join(_SCOPES),
            autocompletion=lambda: list(_SCOPES),
            help="What it may do; each scope includes those before it.",
        ),
    ],
    expires: Annotated[str, typer.Option(metavar="DUR|never", help="How long it lasts, like 90d.")] = _NEVER,
    network: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="May only be used from there; repeatable. Without: from anywhere."),
    ] = None,
) -> None:
    """Make a token and print it, alone, on standard output. It cannot be shown again."""
    common: Common = context.obj
    from resyncctl.clock import now_us
    from resyncctl.engine.access import Access, Scope, token_report
    from resyncctl.engine.app import open_store

    allowed = Scope.named(scope)
    expires_us = _until(expires, now_us=now_us())

    async def main() -> tuple[str, TokenRecord]:
        async with open_store(common.settings()) as store:
            access = Access(store)
            token = await access.create(
                name, allowed, expires_us=expires_us, networks=network or (), actor=local_actor()
            )
            return token, await access.get(name)

    token, record = run_async(main)
    report = token_report(record, now_us())
    say(
        f"token {name}: {record.scope.label}, expires {report['expires_at'] or _NEVER},"
        f" from {', '.join(record.networks) or 'anywhere'}. It is shown only this once; keep it like a password"
    )
    if common.as_json:
        emit({**report, "token": token})
    else:
        print(token)


@app.command("list")
def list_(context: typer.Context) -> None:
    """List the tokens, without what is secret of them."""
    common: Common = context.obj
    from resyncctl.clock import now_us
    from resyncctl.engine.access import Access, token_report
    from resyncctl.engine.app import open_store

    async def main() -> list[TokenRecord]:
        async with open_store(common.settings()) as store:
            return await Access(store).list()

    reports = [token_report(record, now_us()) for record in run_async(main)]
    if common.as_json:
        emit(reports)
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("token", "scope", "created", "expires", "last used", "from"):
        table.add_column(title, overflow="fold")
    for report in reports:
        ends = f"{report['expires_at'] or _NEVER}{' (expired)' if report['expired'] else ''}"
        networks = report["networks"]
        where = ", ".join(networks) if isinstance(networks, list) else ""
        used = str(report["last_used_at"] or "not yet")
        table.add_row(*(str(report[key]) for key in ("name", "scope", "created_at")), ends, used, where or "anywhere")
    console(stderr=False).print(
        table if reports else "no tokens yet; `resyncctl token create NAME --scope …` makes one"
    )


@app.command()
def revoke(context: typer.Context, name: Name) -> None:
    """Revoke a token: within a second no process accepts it any more."""
    common: Common = context.obj
    from resyncctl.engine.access import Access
    from resyncctl.engine.app import open_store

    async def main() -> None:
        async with open_store(common.settings()) as store:
            await Access(store).revoke(name, actor=local_actor())

    run_async(main)
    if common.as_json:
        emit({"name": name, "revoked": True})
    say(f"token {name} is revoked")


def _until(text: str, *, now_us: int) -> int | None:
    """Read `--expires`: microseconds since the Unix epoch, None = never; raise InputError."""
    if text.strip().lower() == _NEVER:
        return None
    try:
        seconds = parse_duration(text, longest=_LONGEST)
    except InputError as error:
        raise InputError(f"--expires: {error}; or never") from error
    if seconds <= 0:
        raise InputError(f"--expires {text}: the token would have expired already; write 90d, or never")
    return now_us + round(seconds * 1_000_000)
