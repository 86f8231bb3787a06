"""Settings that every command shares: command line over environment over configuration file over defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from resyncctl.errors import InputError
from resyncctl.logs import LEVELS

_KEYS: Final = ("redis_url", "data_dir", "log_level")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the data is, and how much is logged. `redis_url` '' = the embedded server in `data_dir`."""

    redis_url: str
    data_dir: Path
    log_level: str


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Return the user's data directory: XDG_DATA_HOME/resyncctl, else ~/.local/share/resyncctl; InputError without a home.

    A relative XDG_DATA_HOME counts as unset, as the XDG Base Directory Specification demands.
    """
    share = environ.get("XDG_DATA_HOME", "")
    return (Path(share) if share.startswith("/") else _expanded("~/.local/share")) / "resyncctl"


def load(
    *, file: Path | None, environ: Mapping[str, str], redis_url: str, data_dir: Path | None, log_level: str
) -> Settings:
    """Put the settings together; raise InputError for what cannot be used, naming all that is wrong with a file."""
    if log_level and log_level not in LEVELS:
        raise InputError(f"--log-level {log_level!r} is none of {', '.join(LEVELS)}")
    values = {} if file is None else _read(file)
    folder = data_dir or environ.get("RESYNCCTL_DATA_DIR") or values.get("data_dir")
    return Settings(
        redis_url=redis_url or environ.get("RESYNCCTL_REDIS_URL") or values.get("redis_url") or "",
        data_dir=(_expanded(folder) if folder else default_data_dir(environ)).absolute(),
        log_level=log_level or values.get("log_level") or "warning",
    )


def _expanded(folder: str | Path) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"the data directory {folder} is in no known home ({error}); name another one with --data-dir"
        ) from error


def _read(file: Path) -> dict[str, str]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"--config {file}: cannot be read ({error.strerror}); name a TOML file, or leave --config out"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f'--config {file}: not TOML: {error}; write lines like data_dir = "/srv/resyncctl"') from error
    problems = [f"unknown key {name!r}" for name in values if name not in _KEYS]
    problems += [
        f"{name} is not text in quotes" for name in _KEYS if name in values and not isinstance(values[name], str)
    ]
    level = values.get("log_level", "warning")
    if isinstance(level, str) and level not in LEVELS:
        problems.append(f"log_level {level!r} is none of {', '.join(LEVELS)}")
    if problems:
        raise InputError(f"--config {file}: {'; '.join(problems)}; known keys: {', '.join(_KEYS)}")
    return values
