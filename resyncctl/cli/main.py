"""The command `resyncctl`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from resyncctl import __version__
from resyncctl.cli import doctor, rollout, run, sim, vendors
from resyncctl.cli.state import Common

_VALUED: Final = ("--config", "--redis-url", "--data-dir", "--log-level")
_FLAGS: Final = ("--json",)

app = typer.Typer(
    name="resyncctl",
    help="Resync or reboot registered SIP phones in batches: paced, previewed, every phone's outcome kept in Redis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", help=run.RUN_HELP)(run.run)
app.command("plan", help=run.PLAN_HELP)(run.run)
app.add_typer(rollout.app, name="rollout")
app.add_typer(vendors.app, name="vendors")
app.command("sim")(sim.sim)
app.command("doctor")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"resyncctl {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="TOML file with redis_url, data_dir, log_level.")] = None,
    redis_url: Annotated[
        str,
        typer.Option(
            help="Redis 6.2 or later, or Valkey; without it an embedded server is used. [env: RESYNCCTL_REDIS_URL]"
        ),
    ] = "",
    data_dir: Annotated[
        Path | None, typer.Option(help="Directory of the embedded server's data. [env: RESYNCCTL_DATA_DIR]")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning (default) or error.")] = "",
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Machine-readable result on standard output; everything for people on standard error."
        ),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """These options may also stand behind the command."""
    _ = version
    context.obj = Common(config, redis_url, data_dir, log_level, as_json)


def hoist(arguments: Sequence[str]) -> list[str]:
    """Move the common options to the front, so that they may stand anywhere before a `--`."""
    front: list[str] = []
    rest: list[str] = []
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if word == "--":
            rest += arguments[position:]
            break
        if word in _FLAGS or word.partition("=")[0] in _VALUED:
            front.append(word)
            if word in _VALUED and position + 1 < len(arguments):
                position += 1
                front.append(arguments[position])
        else:
            rest.append(word)
        position += 1
    return front + rest


def main() -> None:
    """Run the command line."""
    app(args=hoist(sys.argv[1:]), prog_name="resyncctl")


if __name__ == "__main__":
    main()
