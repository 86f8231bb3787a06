"""A unit file of systemd, as far as the tests look into it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Unit:
    """The settings of a unit, in order: section, key, value."""

    settings: tuple[tuple[str, str, str], ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; raises ValueError for a line that is no setting."""
        section, found = "", []
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            if header := re.fullmatch(r"\[(\w+)\]", line):
                section = header[1]
                continue
            key, equals, value = line.partition("=")
            if not equals or not section:
                raise ValueError(f"{path.name}: {line!r} is no setting")
            found.append((section, key, value))
        return cls(tuple(found))

    def all(self, section: str, key: str) -> list[str]:
        """Return the values of a key that may occur several times."""
        return [value for where, name, value in self.settings if (where, name) == (section, key)]

    def one(self, section: str, key: str) -> str:
        """Return the value of a key that occurs once."""
        (value,) = self.all(section, key)
        return value

    def command(self, key: str, specifiers: Mapping[str, str]) -> list[str]:
        """Return a command of the service, with the specifiers (`%i`) put in."""
        return [_filled(word, specifiers) for word in shlex.split(self.one("Service", key))]

    def environment(self, specifiers: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that the unit sets."""
        words = [word for line in self.all("Service", "Environment") for word in shlex.split(line)]
        pairs = [_filled(word, specifiers).split("=", 1) for word in words]
        return dict(pairs)


def _filled(text: str, specifiers: Mapping[str, str]) -> str:
    return re.sub(r"%\w", lambda match: specifiers[match[0]], text)
