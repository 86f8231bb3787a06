"""Who the simulated phones are: made up from a seed or taken from a phone list, and the list to send to."""

from __future__ import annotations

import csv
import random
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from resyncctl.errors import InputError, SipError
from resyncctl.sip.headers import NameAddr
from resyncctl.sip.uri import Uri
from resyncctl.vendors import Catalogue, Intent

COLUMNS: Final = (
    "aor", "contact", "user_agent", "vendor", "mac", "instance", "site", "auth_username", "auth_password",
)  # fmt: skip
"""Columns of the phone list that a fleet writes, in front of those that a phone keeps from the list it came from."""
FIRST_USER: Final = 1000
"""The first made-up extension."""

_MAC: Final = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{2}([:\-]?)[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}(?![0-9A-Fa-f])")
_SITE_SIZE: Final = 50
"""Made-up phones of one site, on average."""


@dataclass(frozen=True, slots=True)
class SimulatedPhone:
    """One phone, without its behaviour. All text as a phone list has it; '' = none. Without a user name it never challenges.

    `other` are columns of the phone list that it came from and that the list of the fleet repeats.
    """

    user: str
    domain: str
    username: str = ""
    password: str = field(default="", repr=False)
    user_agent: str = ""
    vendor: str = ""
    mac: str = ""
    instance: str = ""
    site: str = ""
    other: tuple[tuple[str, str], ...] = ()

    @property
    def aor(self) -> str:
        """The address of record."""
        return f"sip:{self.user}@{self.domain}"

    @classmethod
    def from_row(cls, values: Mapping[str, str]) -> SimulatedPhone:
        """Make the double of a phone of a list, by column name; raise InputError for an address that is none.

        `contact`, `path` and `call_id` belong to the real phone and are dropped.
        """
        try:
            contact = _uri(values.get("contact", ""))
            uri = _uri(values.get("aor", "")) or contact
        except SipError as error:
            raise InputError(f"aor or contact: {error}; write sip:USER@DOMAIN") from error
        if uri is None:
            raise InputError("neither aor nor contact is given")
        port = f":{uri.port}" if uri.port else ""
        user, domain = uri.user, uri.host + port
        if user is None:  # a PBX's bare extension, as in the phone list
            user, domain = uri.host, contact.host if contact is not None else ""
        if not domain:
            raise InputError(f"aor {values.get('aor', '')!r} has no domain; write sip:USER@DOMAIN")
        return cls(
            user,
            domain,
            username=values.get("auth_username", ""),
            password=values.get("auth_password", ""),
            user_agent=values.get("user_agent", ""),
            vendor=values.get("vendor", ""),
            mac=values.get("mac", ""),
            instance=values.get("instance", ""),
            site=values.get("site", ""),
            other=tuple((n, v) for n, v in values.items() if n not in {*COLUMNS, "path", "call_id"}),
        )

    def row(self, contact: str) -> dict[str, str]:
        """Return the phone's row of a phone list."""
        texts = (
            self.aor, contact, self.user_agent, self.vendor, self.mac, self.instance, self.site, self.username, self.password
        )  # fmt: skip
        return {**dict(zip(COLUMNS, texts, strict=True)), **dict(self.other)}


def make_phones(count: int, *, domain: str, seed: int, catalogue: Catalogue) -> list[SimulatedPhone]:
    """Make up phones: extensions from FIRST_USER on, of makes that can be asked both to resync and to reboot.

    A phone depends on its number and the seed alone: making more moves none. MACs are of the locally administered range,
    so that none is a real phone's.
    """
    makes = [
        vendor.example
        for vendor in catalogue
        if vendor.example and all((t := catalogue.trigger(vendor, i)) and not t.needs_call_id for i in Intent)
    ]
    if not makes:
        raise InputError("the vendor catalogue has no phone with an example User-Agent that can resync and reboot")
    return [_make_phone(number, makes, domain=domain, seed=seed) for number in range(count)]


def write_csv(path: Path, rows: Iterable[Mapping[str, str]]) -> int:
    """Write a phone list, readable for its owner only as it holds passwords; return the number of rows. Raises InputError."""
    listed = list(rows)
    columns = dict.fromkeys((*COLUMNS, *(name for row in listed for name in row)))
    try:
        path.touch(mode=0o600)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(listed)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); name a file in a directory of yours"
        ) from error
    return len(listed)


def _make_phone(number: int, makes: list[str], *, domain: str, seed: int) -> SimulatedPhone:
    rng = random.Random(f"{seed}/{number}")  # noqa: S311  (a rehearsal repeats by its seed; passwords of no real phone)
    mac = f"02{rng.getrandbits(16):04x}{number & 0xFFFFFF:06x}"
    user = str(FIRST_USER + number)
    return SimulatedPhone(
        user,
        domain,
        username=user,
        password=f"{rng.getrandbits(64):016x}",
        user_agent=_MAC.sub(lambda found: _like(found.group(), found.group(1), mac), rng.choice(makes)),
        mac=mac,
        instance=f"urn:uuid:{uuid.UUID(int=rng.getrandbits(128), version=4)}",
        site=f"site-{number // _SITE_SIZE + 1}",
    )


def _like(example: str, separator: str, mac: str) -> str:
    """Write a MAC as the example is written."""
    text = separator.join(mac[place : place + 2] for place in range(0, 12, 2))
    return text.upper() if example.upper() == example else text


def _uri(text: str) -> Uri | None:
    if not text:
        return None
    bare = NameAddr.parse(text).uri if "<" in text else text
    return Uri.parse(bare if bare.lower().startswith(("sip:", "sips:")) else f"sip:{bare}")
