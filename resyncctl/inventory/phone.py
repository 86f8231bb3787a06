"""One registered binding as a source of phones gives it, checked field by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from resyncctl.errors import InputError, SipError
from resyncctl.rollout.device import PARAMETERS, Profile, normal_instance, normal_mac, parse_profile
from resyncctl.sip.digest import Credentials
from resyncctl.sip.grammar import CONTROL
from resyncctl.sip.headers import NameAddr, split_values
from resyncctl.sip.uri import Uri

FIELDS: Final = (
    "aor", "contact", "path", "user_agent", "vendor", "model", "mac", "instance", "site", "tags", "auth_username",
    "auth_password", "call_id", "received",
)  # fmt: skip
"""Columns of a phone list, besides the DBID_* parameters."""
MAX_FIELD: Final = 2048
"""Characters of one field."""

_PLAIN_URI: Final = re.compile(
    r"sips?:(?:[A-Za-z0-9\-_.!~*'()&=+$,]+@)?[A-Za-z0-9.\-_]+(?::[1-9][0-9]{0,3}|:[1-5][0-9]{4})?"
    r"(?:;[A-Za-z0-9\-_.!~*']+(?:=[A-Za-z0-9\-_.!~*'/:&+$]+)?)*"
)
"""URIs that need no closer look; anything else goes to the parser. Linear: no two quantifiers meet on one character."""
_TAGS: Final = re.compile(r"[\s,;]+")
_NO_PROFILE: Final = Profile()


@dataclass(frozen=True, slots=True, kw_only=True)
class Phone:
    """A binding. All text as given, addresses checked; `profile` is read from its DBID_* parameters."""

    aor: str = ""
    contact: str = ""
    path: str = ""
    user_agent: str = ""
    vendor: str = ""
    model: str = ""
    mac: str = ""
    instance: str = ""
    site: str = ""
    tags: str = ""
    auth_username: str = ""
    auth_password: str = field(default="", repr=False)
    call_id: str = ""
    received: str = ""
    profile: Profile = _NO_PROFILE


def parse_phone(values: Mapping[str, str]) -> Phone:
    """Make a phone of column names and text; raise InputError that names the column and what is wrong with it."""
    for name, text in values.items():
        if len(text) > MAX_FIELD:
            raise InputError(f"{name} is longer than {MAX_FIELD} characters")
        if not CONTROL.isdisjoint(text) or "\t" in text:
            raise InputError(f"{name} holds a control character or a tab")
    aor, contact = values.get("aor", ""), values.get("contact", "")
    if not aor and not contact:
        raise InputError("neither aor nor contact is given")
    if contact:
        _check_uri(contact := _bare(contact, "contact"), "contact")
    if aor:
        aor = _check_aor(_bare(aor, "aor"), alone=not contact)
    received = values.get("received", "")
    if received:
        _check_uri(received := _bare(received, "received"), "received")
    path = values.get("path", "")
    if path:
        parse_path(path)
    username, password = values.get("auth_username", ""), values.get("auth_password", "")
    if password and not username:
        raise InputError("auth_password is given without auth_username")
    parameters = {name: text for name, text in values.items() if text and name in PARAMETERS}
    return Phone(
        aor=aor,
        contact=contact,
        path=path,
        user_agent=values.get("user_agent", ""),
        vendor=values.get("vendor", "").lower(),
        model=values.get("model", ""),
        mac=normal_mac(values.get("mac", "")),
        instance=normal_instance(values.get("instance", "")),
        site=values.get("site", ""),
        tags=values.get("tags", ""),
        auth_username=username,
        auth_password=password,
        call_id=values.get("call_id", ""),
        received=received,
        profile=parse_profile(parameters) if parameters else _NO_PROFILE,
    )


def parse_path(text: str) -> list[NameAddr]:
    """Read Route URIs separated by commas, with or without angle brackets; raise InputError."""
    routes = []
    try:
        for value in split_values(text):
            route = NameAddr.parse(value if "<" in value else f"<{value}>")
            Uri.parse(route.uri)
            routes.append(route)
    except SipError as error:
        raise InputError(f"path: {error}") from error
    return routes


def credentials_of(username: str, password: str) -> Credentials | None:
    """Return the credentials of a phone, None without a user name."""
    return Credentials(username, password) if username else None


def line_key(address: str) -> str:
    """Return `user@host` (host in lower case), or the bare user, for comparing addresses of record of any spelling."""
    text = address.strip()
    if "<" in text:
        text = text.partition("<")[2].partition(">")[0]
    scheme, colon, rest = text.partition(":")
    if colon and scheme.lower() in {"sip", "sips"}:
        text = rest
    user, at, host = text.partition("@")
    if not at:
        return text.partition(";")[0]
    return f"{user}@{host.partition(';')[0].partition('?')[0].lower()}"


class Selection:
    """`--where FIELD=GLOB` conditions: one of the globs of each field must match. For tags, any one tag counts."""

    def __init__(self, conditions: list[str]) -> None:
        """Read the conditions; raise InputError for an unknown field or a missing '='."""
        self._globs: dict[str, list[str]] = {}
        known = (*FIELDS, *sorted(PARAMETERS))
        for condition in conditions:
            name, equals, glob = condition.partition("=")
            if not equals or name not in known:
                raise InputError(
                    f"--where {condition!r}: write FIELD=GLOB with a field of {', '.join(FIELDS)}, or a DBID_* one"
                )
            self._globs.setdefault(name, []).append(glob)

    def __bool__(self) -> bool:
        return bool(self._globs)

    def matches(self, values: Mapping[str, str]) -> bool:
        """Say whether a row is selected."""
        for name, globs in self._globs.items():
            text = values.get(name, "")
            texts = _TAGS.split(text) if name == "tags" else [text]
            if not any(fnmatchcase(one, glob) for one in texts for glob in globs):
                return False
        return True


def _bare(text: str, what: str) -> str:
    """Return the URI of `<uri>` or `"name" <uri>;params`, as registrars print contacts."""
    if "<" not in text:
        return text
    try:
        return NameAddr.parse(text).uri
    except SipError as error:
        raise InputError(f"{what}: {error}") from error


def _check_uri(text: str, what: str) -> None:
    if _PLAIN_URI.fullmatch(text):
        return
    try:
        Uri.parse(text)
    except SipError as error:
        raise InputError(f"{what}: {error}") from error


def _check_aor(text: str, *, alone: bool) -> str:
    if alone and "@" not in text:
        raise InputError(f"aor {text[:60]!r} is not user@host, and there is no contact to send to")
    if not text.lower().startswith(("sip:", "sips:")):
        if "@" not in text:
            return text  # a PBX's bare extension: a name only, the request goes to the contact
        text = f"sip:{text}"
    _check_uri(text, "aor")
    return text
