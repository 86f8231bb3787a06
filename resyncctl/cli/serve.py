"""`resyncctl serve` and `resyncctl worker`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resyncctl.cli.state import Common, run_async, say

if TYPE_CHECKING:
    from resyncctl.config import Settings

Listen = Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the API listens.", show_default="127.0.0.1:8420")]
Pool = Annotated[str, typer.Option(metavar="NAME", help="Take batches of this pool: of phones that we can reach.")]


def serve(context: typer.Context, listen: Listen = "", pool: Pool = "") -> None:
    """Serve the API, start rollouts by schedule and by hook, and work on them, in one process.

    SIGTERM hands over what is under way and ends within five seconds; SIGHUP reads the configuration again.
    """
    common: Common = context.obj
    from resyncctl.api.serving import serve as run

    def read() -> Settings:
        return common.settings(listen=listen, pool=pool)

    settings = read()
    run_async(lambda: run(settings, read, say))


def worker(context: typer.Context, pool: Pool = "") -> None:
    """Be one more worker, on this machine or another: take batches of rollouts that the service executes."""
    common: Common = context.obj
    from resyncctl.api.serving import work

    settings = common.settings(pool=pool)
    run_async(lambda: work(settings, say))
