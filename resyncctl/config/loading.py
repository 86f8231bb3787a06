"""How a command gets its settings.

Without a file, and without variables of the service, it does so without pydantic-settings and the model: they take
70 ms to import, and 110 ms when nobody else has imported pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from resyncctl.config.settings import PREFIX, Settings, default_data_dir, expanded
from resyncctl.errors import InputError
from resyncctl.logs import LEVELS

_PLAIN: Final = frozenset(f"{PREFIX}{name}" for name in ("REDIS_URL", "DATA_DIR", "LOG_LEVEL"))
_ELSEWHERE: Final = frozenset(f"{PREFIX}{name}" for name in ("SERVER", "TOKEN", "TOKEN_FILE"))
"""Variables that others read."""


def load(
    *,
    file: Path | None,
    environ: Mapping[str, str],
    redis_url: str,
    data_dir: Path | None,
    log_level: str,
    told: Mapping[str, object] | None = None,
) -> Settings:
    """Put the settings together; raise InputError that names all that is wrong, in the file with line and key.

    What the command line says (`redis_url`, `data_dir`, `log_level`, and in `told` more by key) overrules the environment, that
    the file, that the defaults. RESYNCCTL_CONFIG names the file when `file` is None.
    """
    more = dict(told or {})
    if file is None and not more and all(_is_plain(name) for name, value in environ.items() if value):
        return _quick(environ, redis_url, data_dir, log_level)
    from resyncctl.config.reading import survey  # noqa: PLC0415  (it imports pydantic)

    base = {"redis_url": redis_url, "data_dir": data_dir, "log_level": log_level}
    return survey(file=file, environ=environ, told=more | {key: value for key, value in base.items() if value}).usable()


def _is_plain(name: str) -> bool:
    return not name.startswith(PREFIX) or name in _PLAIN or name in _ELSEWHERE


def _quick(environ: Mapping[str, str], redis_url: str, data_dir: Path | None, log_level: str) -> Settings:
    level = log_level or environ.get(f"{PREFIX}LOG_LEVEL") or "warning"
    if level not in LEVELS:
        name = "--log-level" if log_level else f"{PREFIX}LOG_LEVEL"
        raise InputError(f"{name} {level!r} is none of {', '.join(LEVELS)}")
    folder = data_dir or environ.get(f"{PREFIX}DATA_DIR")
    return Settings(
        redis_url=redis_url or environ.get(f"{PREFIX}REDIS_URL", ""),
        data_dir=(expanded(folder) if folder else default_data_dir(environ)).absolute(),
        log_level=level,
    )
