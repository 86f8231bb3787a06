"""Settings that change while the service runs: what can be applied is, what cannot waits for a restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Final

from resyncctl.config.settings import Settings
from resyncctl.errors import InputError

RELOADABLE: Final = frozenset({"sources", "log_level", "requests_per_second", "max_streams", "max_body"})
"""Settings that are applied at once; all others are read at the start."""


class LiveSettings:
    """The settings in force. Whoever holds this reads `current` whenever a setting is needed, and keeps no copy."""

    __slots__ = ("current",)

    def __init__(self, settings: Settings) -> None:
        self.current = settings


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload came to, by key and in the order of the settings."""

    applied: tuple[str, ...] = ()
    """In force from now on."""
    restart: tuple[str, ...] = ()
    """Written otherwise than what is in force, which is so until a restart."""
    problem: str = ""
    """Why nothing has changed at all; '' when the settings could be read."""


class Reloader:
    """Reads the settings again and puts what can be applied into `live`."""

    def __init__(self, live: LiveSettings, read: Callable[[], Settings]) -> None:
        self._live = live
        self._read = read

    def reload(self) -> Changes:
        """Apply what has changed and can be; with settings that cannot be used, keep the old ones and say why."""
        try:
            written = self._read()
        except InputError as error:
            return Changes(problem=str(error))
        old = self._live.current
        differ = [one.name for one in fields(Settings) if getattr(old, one.name) != getattr(written, one.name)]
        applied = tuple(key for key in differ if key in RELOADABLE)
        self._live.current = replace(old, **{key: getattr(written, key) for key in applied})
        return Changes(applied, tuple(key for key in differ if key not in RELOADABLE))
