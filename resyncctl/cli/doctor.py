"""`resyncctl doctor`: is this machine ready for a rollout?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from resyncctl.cli.state import Common, console, emit, run_async

if TYPE_CHECKING:
    from collections.abc import Mapping

_OLDEST = (6, 2)


def doctor(
    context: typer.Context,
) -> None:
    """Check Python, event loop, Redis with its persistence, sockets and the vendor catalogue."""
    common: Common = context.obj
    checks = run_async(lambda: _check(common))
    bad = [check for check in checks if check[1] == "bad"]
    if common.as_json:
        emit([{"check": name, "verdict": verdict, "detail": detail} for name, verdict, detail in checks])
    else:
        from rich.markup import escape

        out = console(stderr=False)
        colours = {"good": "green", "note": "yellow", "bad": "red"}
        for name, verdict, detail in checks:
            out.print(f"[{colours[verdict]}]{verdict:4}[/] {name}: {escape(detail)}")
    raise typer.Exit(4 if bad else 0)


async def _check(common: Common) -> list[tuple[str, str, str]]:
    from resyncctl.engine.app import open_store
    from resyncctl.errors import ResyncError
    from resyncctl.vendors import Catalogue

    settings = common.settings()
    checks = [("Python", "good", sys.version.split()[0]), _event_loop()]
    checks.append(("vendor catalogue", "good", f"{len(Catalogue.load())} vendors"))
    try:
        async with open_store(settings) as store:
            info = await store.info()
            where = settings.redis_url or f"embedded in {settings.data_dir}"
            checks += judge_redis(info, where)
    except ResyncError as error:
        checks.append(("Redis", "bad", str(error)))
    checks += _sockets()
    return checks


def _event_loop() -> tuple[str, str, str]:
    import importlib.metadata

    try:
        version = importlib.metadata.version("uvloop")
    except importlib.metadata.PackageNotFoundError:
        return ("event loop", "note", "asyncio; `pip install uvloop` makes sending faster")
    return ("event loop", "good", f"uvloop {version}")


def judge_redis(info: Mapping[str, object], where: str) -> list[tuple[str, str, str]]:
    """Judge a server by its INFO; return (check, verdict, detail) of each."""
    name = str(info.get("server_name", "redis"))
    version = str(info.get("valkey_version") or info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    checks = [("Redis", "good", f"{name} {version}, {where}")]
    if numbers < _OLDEST:
        checks = [("Redis", "bad", f"{checks[0][2]}; resyncctl needs Redis 6.2 or later, or Valkey")]
    if info.get("aof_enabled") in {1, "1"}:
        checks.append(("persistence", "good", "append-only file is on"))
    else:
        checks.append(
            (
                "persistence",
                "bad",
                "the append-only file is off: a restart of Redis forgets what was sent; set `appendonly yes`",
            )
        )
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction" and info.get("maxmemory"):
        checks.append(("memory", "bad", f"maxmemory-policy is {policy}: rollouts may be evicted; set noeviction"))
    if info.get("aof_last_write_status", "ok") != "ok":
        checks.append(("disk", "bad", "the last write of the append-only file failed; is the disk full?"))
    return checks


def _sockets() -> list[tuple[str, str, str]]:
    import socket

    checks = []
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        name = "UDP over IPv4" if family == socket.AF_INET else "UDP over IPv6"
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((host, 0))
            checks.append((name, "good", "sockets open"))
        except OSError as error:
            verdict = "bad" if family == socket.AF_INET else "note"
            checks.append((name, verdict, str(error.strerror)))
    return checks
