"""One TOML table, read key by key; what is wrong with it is noted, never raised, so that all problems come together."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

_Choice = TypeVar("_Choice", bound=StrEnum)


class Table:
    """A reader of `values`; `where` is the place that its problems name, `problems` the list that they are added to.

    Every reader returns a value of the type asked for, whatever the file holds. `finish` reports the keys nobody read.
    """

    def __init__(self, values: object, where: str, problems: list[str]) -> None:
        self._where = where
        self._problems = problems
        self._values: dict[str, object] = {}
        self._read: set[str] = set()
        if isinstance(values, dict):
            self._values = values
        else:
            self.problem("", f"has to be a table, not {values!r}")

    def problem(self, key: str, text: str) -> None:
        """Note that the value at `key` ("" for the table itself) is wrong."""
        self._problems.append(f"{self.place(key)}: {text}")

    def place(self, key: str) -> str:
        """Return the name of `key` as problems write it."""
        if not key:
            return self._where.removesuffix(": ")
        return f"{self._where}.{key}" if self._where and not self._where.endswith(": ") else f"{self._where}{key}"

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self._take(key, default)
        if isinstance(value, bool):
            return value
        self.problem(key, f"has to be true or false, not {value!r}")
        return default

    def text(self, key: str) -> str | None:
        """Return a non-empty text of one line without control characters; None if the key is missing or wrong."""
        if key not in self._values:
            return None
        return self._line(key, self._take(key, None))

    def required(self, key: str) -> str:
        """Return a text as `text` does; a missing one is a problem, and "" stands for it."""
        if key not in self._values:
            self.problem(key, "is missing")
        return self.text(key) or ""

    def lines(self, key: str) -> str | None:
        """Return a text that may hold CR, LF and tabs, but no other control character."""
        value = self._take(key, None)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            self.problem(key, f"has to be a text, not {value!r}")
            return None
        if _has_control(value.translate({13: None, 10: None, 9: None})):
            self.problem(key, "has a control character other than CR, LF and tab")
            return None
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, empty if the key is missing."""
        found = (self._line(key, item) for item in self._list(key, "texts"))
        return tuple(text for text in found if text is not None)

    def pairs(self, key: str) -> tuple[tuple[str, str], ...]:
        """Return a table of texts as pairs, in the order of the file."""
        value = self._take(key, {})
        if not isinstance(value, dict):
            self.problem(key, f"has to be a table of texts, not {value!r}")
            return ()
        found = ((str(name), self._line(f"{key}.{name}", item)) for name, item in value.items())
        return tuple((name, text) for name, text in found if text is not None)

    def choice(self, key: str, kind: type[_Choice], default: _Choice) -> _Choice:
        """Return a member of `kind`, `default` if the key is missing or wrong."""
        value = self._take(key, default.value)
        for member in kind:
            if member.value == value:
                return member
        self.problem(key, f"has to be one of {', '.join(kind)}, not {value!r}")
        return default

    def table(self, key: str) -> Table:
        """Return the table at `key`, an empty one if it is missing."""
        return Table(self._take(key, {}), self.place(key), self._problems)

    def tables(self, key: str) -> list[Table]:
        """Return the array of tables at `key`."""
        items = self._list(key, "tables")
        return [Table(item, self.place(f"{key}[{number}]"), self._problems) for number, item in enumerate(items, 1)]

    def rename(self, where: str) -> None:
        """Let the problems found from now on name `where`."""
        self._where = where

    def finish(self) -> None:
        """Note every key that was not read: a misspelt key would else be a setting without effect."""
        for key in self._values:
            if key not in self._read:
                self.problem(key, "is not a key of the catalogue")

    def _take(self, key: str, default: object) -> object:
        self._read.add(key)
        return self._values.get(key, default)

    def _list(self, key: str, kind: str) -> list[object]:
        value = self._take(key, [])
        if isinstance(value, list):
            return value
        self.problem(key, f"has to be a list of {kind}, not {value!r}")
        return []

    def _line(self, key: str, value: object) -> str | None:
        if not isinstance(value, str) or not value.strip():
            self.problem(key, f"has to be a text, not {value!r}")
        elif _has_control(value):
            self.problem(key, "has a line break or another control character")
        else:
            return value
        return None


def _has_control(text: str) -> bool:
    return any(character < " " or "\x7f" <= character <= "\x9f" for character in text)
