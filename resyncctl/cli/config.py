"""`resyncctl config …`: what the settings are and where they come from; what is wrong with a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resyncctl.cli.state import Common, console, emit, say
from resyncctl.errors import InputError

if TYPE_CHECKING:
    from resyncctl.config import Settings
    from resyncctl.config.problems import Origin, Problem
    from resyncctl.config.reading import Survey

app = typer.Typer(help="Show and check the configuration.", no_args_is_help=True)


@app.command()
def show(context: typer.Context) -> None:
    """Show the settings in force here and where each comes from; passwords are not shown."""
    common: Common = context.obj
    survey = _survey(common, common.config)
    settings = survey.usable()
    if common.as_json:
        emit({key: {"value": _value(settings, key), **_origin(origin)} for key, origin in survey.origins.items()})
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("setting", "value", "from"):
        table.add_column(title, overflow="fold")
    for key, origin in survey.origins.items():
        value = _value(settings, key)
        told = ", ".join(value) if isinstance(value, tuple) else value
        table.add_row(key, Text("none" if told in ("", None, {}) else str(told)), Text(str(origin)))
    console(stderr=False).print(table)


@app.command()
def check(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="As --config FILE.")] = None,
) -> None:
    """Check a configuration file, together with the environment: names, values, and that the files in it can be read.

    Exit status: 0 it is good, 2 something is wrong; all of it is told.
    """
    common: Common = context.obj
    from resyncctl.config.checking import unusable

    survey = _survey(common, file or common.config)
    if not survey.file:
        raise InputError("there is no file to check; name one: resyncctl config check FILE")
    problems = list(survey.problems)
    if survey.settings is not None:
        problems += unusable(survey.settings, survey.origins)
    if common.as_json:
        emit({"file": survey.file, "good": not problems, "problems": [_problem(one) for one in problems]})
    for problem in problems:
        say(f"resyncctl: {problem}")
    if problems:
        raise typer.Exit(2)
    if not common.as_json:
        print(f"{survey.file} is good")


def _survey(common: Common, file: Path | None) -> Survey:
    from resyncctl.config.reading import survey

    common.only_here()
    told = {"redis_url": common.redis_url, "data_dir": common.data_dir, "log_level": common.log_level}
    return survey(file=file, environ=os.environ, told={key: value for key, value in told.items() if value})


def _value(settings: Settings, key: str) -> object:
    """Return the value of a dotted key as it may be shown."""
    from resyncctl.config import shown

    value = shown(settings, key)
    return {} if key == "sources" else str(value) if isinstance(value, Path) else value


def _origin(origin: Origin) -> dict[str, object]:
    from resyncctl.config.problems import Place

    names: dict[Place, dict[str, object]] = {
        Place.FILE: {"file": origin.name, "line": origin.line},
        Place.ENVIRONMENT: {"variable": origin.name},
        Place.COMMAND_LINE: {"option": origin.name},
    }
    return {"from": str(origin.place), **names.get(origin.place, {})}


def _problem(problem: Problem) -> dict[str, object]:
    return {"key": problem.key, "problem": problem.text, **_origin(problem.origin)}
