"""Phones by their extensions, as PBXs name them when something about these has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from resyncctl.inventory.phone import Selection, line_key


class Extensions(Selection):
    """`--where` conditions, and besides them a list: the phone's AOR, its AOR's user or its contact's user must be on it."""

    def __init__(self, conditions: list[str], extensions: Sequence[str]) -> None:
        """Take users, or AORs of any spelling; InputError for conditions that cannot be read."""
        super().__init__(conditions)
        self._names = frozenset(map(line_key, extensions))

    def __bool__(self) -> bool:
        return True

    def matches(self, values: Mapping[str, str]) -> bool:
        """Say whether a row is selected."""
        aor = line_key(values.get("aor", ""))
        user, at, _ = line_key(values.get("contact", "")).partition("@")
        named = {aor, aor.partition("@")[0], user if at else ""}
        return not self._names.isdisjoint(named - {""}) and super().matches(values)


def select(conditions: list[str], extensions: Sequence[str]) -> Selection:
    """Return the selection for conditions and, when there are any, extensions."""
    return Extensions(conditions, extensions) if extensions else Selection(conditions)
