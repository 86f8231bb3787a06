"""Settings: command line over environment over one TOML file over defaults.

Importing this imports no pydantic; `load` does when there is a file, or a variable of the service in the environment.
"""

from __future__ import annotations

from resyncctl.config.loading import load
from resyncctl.config.reload import RELOADABLE, Changes, LiveSettings, Reloader
from resyncctl.config.settings import LogFormat, Settings, Source, default_data_dir, parse_listen, shown

__all__ = [
    "RELOADABLE",
    "Changes",
    "LiveSettings",
    "LogFormat",
    "Reloader",
    "Settings",
    "Source",
    "default_data_dir",
    "load",
    "parse_listen",
    "shown",
]
