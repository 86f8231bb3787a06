"""What a PBX tells a hook, read from the JSON, form and query forms that its scripts use."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable
from urllib.parse import parse_qsl

from resyncctl.errors import InputError

MOST: Final = 10_000
"""Extensions of one event."""
LONGEST: Final = 256
"""Characters of one extension, or of the reason."""
_NAMES: Final = ("extension", "extensions", "aor", "aors")
_FIELDS: Final = 20_000
"""Fields of a form, at most."""


@runtime_checkable
class _MultiMapping(Protocol):
    """A mapping in which a name may have several values, as web frameworks hand a query over."""

    def multi_items(self) -> list[tuple[str, str]]:
        """Return all pairs in the order in which they came."""
        ...


Query = Mapping[str, str] | Sequence[tuple[str, str]]
"""The parameters of a URL, decoded: pairs, or a mapping; of one with `multi_items` every value counts."""


@dataclass(frozen=True, slots=True)
class HookEvent:
    """Something has changed on a PBX. `extensions` are users or AORs as the PBX names them; () = all phones of the order."""

    extensions: tuple[str, ...] = ()
    reason: str = ""


def pairs_of(query: Query) -> list[tuple[str, str]]:
    """Return all parameters of a URL."""
    if isinstance(query, _MultiMapping):
        return [*query.multi_items()]
    return [*query.items()] if isinstance(query, Mapping) else [*query]


def parse_event(content_type: str, body: bytes, query: Query) -> HookEvent:
    """Read an event from body and URL, whose extensions are united; nothing in either means all phones.

    JSON is known by its brace, since scripts forget the header. Fields that nobody knows are ignored. Raises InputError for
    what cannot be read, for an extension that is empty (a variable that was not set must not resync everybody), and for more
    than MOST extensions or one longer than LONGEST.
    """
    found = _read_pairs(pairs_of(query), "the query")
    if text := _text(body):
        kind = content_type.partition(";")[0].strip().lower()
        if text.startswith("{") or kind.endswith("json"):
            found = found + _read_json(text)
        elif kind in {"", "application/x-www-form-urlencoded", "text/plain"} and "=" in text:
            found = found + _read_pairs(_form(text), "the form")
        else:
            raise InputError(
                f"the body ({kind or 'no content type'}) cannot be read; send JSON like"
                ' {"extension": "1001"}, a form like extension=1001, or nothing for all phones'
            )
    if len(found.extensions) > MOST:
        raise InputError(f"{len(found.extensions)} extensions in one call, at most {MOST}; name none for all phones")
    return HookEvent(found.extensions, found.reason)


@dataclass(frozen=True, slots=True)
class _Found:
    extensions: tuple[str, ...] = ()
    reason: str = ""

    def __add__(self, other: _Found) -> _Found:
        united = dict.fromkeys((*self.extensions, *other.extensions))
        return _Found(tuple(united), other.reason or self.reason)


def _text(body: bytes) -> str:
    try:
        return body.decode().strip()
    except UnicodeDecodeError as error:
        raise InputError(f"the body is not UTF-8 (at byte {error.start})") from error


def _form(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
    except ValueError as error:
        raise InputError(f"the form cannot be read: {error}") from error


def _read_pairs(pairs: Iterable[tuple[str, str]], where: str) -> _Found:
    names: list[str] = []
    reason = ""
    for name, value in pairs:
        if name in _NAMES:
            names += _split(value, f"{name} in {where}")
        elif name == "reason":
            reason = value
    return _Found(tuple(dict.fromkeys(names)), _clean(reason))


def _read_json(text: str) -> _Found:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError('the body is JSON, but no object; write {"extension": "1001"}')
    names: list[str] = []
    for field in _NAMES:
        if field in values:
            names += _listed(values[field], field)
    reason = values.get("reason") or ""
    if not isinstance(reason, str):
        raise InputError("reason: write text")
    return _Found(tuple(dict.fromkeys(names)), _clean(reason))


def _listed(value: object, field: str) -> list[str]:
    """Return the extensions of a JSON field: text, a whole number, or a list of these."""
    members = value if isinstance(value, list) else [value]
    if not members:
        raise InputError(f"{field}: the list is empty; leave the field out for all phones")
    names: list[str] = []
    for member in members:
        if isinstance(member, bool) or not isinstance(member, str | int):
            raise InputError(f"{field}: write an extension or a list of extensions, each as text")
        names += _split(str(member), field)
    return names


def _split(text: str, what: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not name:
            raise InputError(f"{what}: an empty extension; leave it out for all phones")
        if len(name) > LONGEST:
            raise InputError(f"{what}: an extension longer than {LONGEST} characters")
        if not name.isprintable():
            raise InputError(f"{what}: {name!r} holds a control character")
    return names


def _clean(reason: str) -> str:
    return "".join(one if one.isprintable() else " " for one in reason[:LONGEST])
