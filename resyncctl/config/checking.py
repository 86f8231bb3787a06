"""What `resyncctl config check` looks at beyond the settings themselves: are the files there, is the URL one of Redis?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from resyncctl.config.addresses import is_capture_file
from resyncctl.config.problems import Origin, Problem
from resyncctl.config.settings import Settings
from resyncctl.logs import redact_url

_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")


def unusable(settings: Settings, origins: Mapping[str, Origin]) -> Iterator[Problem]:
    """Yield what this machine and this user cannot use. Commands that need less than all of it go on working."""
    scheme, separator, rest = settings.redis_url.partition("://")
    if settings.redis_url and (scheme not in _SCHEMES or not separator or not rest):
        shown = repr(redact_url(settings.redis_url))
        text = f"redis_url {shown} is no URL of a Redis; write redis://HOST:PORT/DB, or leave it out"
        yield Problem(origins["redis_url"], "redis_url", text)
    keys = ("tls_cert", "tls_key", "sip_tls_ca", "sip_tls_cert", "sip_tls_key")
    files: list[tuple[str, Path | None]] = [(key, getattr(settings, key)) for key in keys]
    files += ((f"sources.{name}.file", source.file) for name, source in settings.sources.items())
    for key, file in files:
        if file is not None and (reason := _unreadable(file)):
            yield Problem(origins[key], key, f"{key} {str(file)!r} {reason}")
    for place in filter(is_capture_file, settings.trace):
        if reason := _unwritable(Path(place)):
            yield Problem(origins["trace"], "trace", f"trace {place!r} {reason}")


def _unreadable(file: Path) -> str:
    try:
        if not file.exists():
            return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if file.is_dir():
        return "is a directory"
    return "" if os.access(file, os.R_OK) else "may not be read by this user"


def _unwritable(file: Path) -> str:
    """Say why no capture file can be made; one that is there may be that of a service that runs, or a pipe."""
    try:
        if file.is_dir():
            return "is a directory"
        if not file.parent.is_dir():
            return "is in no directory that exists"
    except OSError as error:
        return f"cannot be made ({error.strerror})"
    return "" if os.access(file if file.exists() else file.parent, os.W_OK) else "may not be written by this user"
