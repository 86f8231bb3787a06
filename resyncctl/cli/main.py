"""The command `resyncctl`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.core import TyperGroup

from resyncctl import __version__
from resyncctl.cli import audit, config, doctor, hook, operations, rollout, run, schedule, serve, sim, token, vendors
from resyncctl.cli.state import Common, open_standard_streams, status_of

_VALUED: Final = ("--config", "--redis-url", "--data-dir", "--log-level", "--server", "--token-file", "--ca-file")
_FLAGS: Final = ("--json",)


class Hoisting(TyperGroup):
    """The root command. Its options may also stand behind the command: they are moved to the front."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # Typer's own, always
        """Parse the command line with the common options in front."""
        return super().parse_args(ctx, hoist(args))


def hoist(arguments: Sequence[str]) -> list[str]:
    """Move the common options to the front, wherever they stand before a `--`."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in _FLAGS or word.partition("=")[0] in _VALUED:
            front.append(word)
            if word in _VALUED:
                value = next(words, None)
                if value is None:
                    return front  # so that its missing value is what is complained about
                front.append(value)
        else:
            rest.append(word)
    return front + rest


app = typer.Typer(
    name="resyncctl",
    cls=Hoisting,
    help="Resync or reboot registered SIP phones in batches: paced, previewed, every phone's outcome kept in Redis.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", help=run.RUN_HELP)(run.run)
app.command("plan", help=run.PLAN_HELP)(run.plan)
app.add_typer(rollout.app, name="rollout")
app.add_typer(operations.phones, name="phones")
app.add_typer(operations.sources, name="sources")
app.add_typer(vendors.app, name="vendors")
app.add_typer(schedule.app, name="schedule")
app.add_typer(hook.app, name="hook")
app.add_typer(operations.workers, name="workers")
app.add_typer(operations.freeze, name="freeze")
app.add_typer(config.app, name="config")
app.add_typer(token.app, name="token")
app.add_typer(audit.app, name="audit")
app.command("serve")(serve.serve)
app.command("worker")(serve.worker)
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
            help=r"Redis 6.2 or later, or Valkey; without it an embedded server is used. \[env: RESYNCCTL_REDIS_URL]"
        ),
    ] = "",
    data_dir: Annotated[
        Path | None, typer.Option(help=r"Directory of the embedded server's data. \[env: RESYNCCTL_DATA_DIR]")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning (default) or error.")] = "",
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Machine-readable result on standard output; everything for people on standard error."
        ),
    ] = False,
    server: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="RESYNCCTL_SERVER",
            help="Do it through the API of a `resyncctl serve` elsewhere, like https://resync.example.",
        ),
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(
            envvar="RESYNCCTL_TOKEN_FILE",
            help=r"File with the token for --server; without it the token is in \[env: RESYNCCTL_TOKEN].",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(envvar="RESYNCCTL_CA_FILE", help="PEM file of who signed the certificate of --server."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """These options may also stand behind the command."""
    _ = version
    context.obj = Common(config, redis_url, data_dir, log_level, as_json, server, token_file, ca_file)


def main() -> None:
    """Run the command line and exit with its status."""
    open_standard_streams()
    arguments = sys.argv[1:]

    def command() -> int | None:
        ended: int | None = app(args=arguments, prog_name="resyncctl", standalone_mode=False)
        return ended

    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    sys.exit(status_of(command, as_json="--json" in before_dashes))


if __name__ == "__main__":
    main()
