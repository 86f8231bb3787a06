"""Which bindings are one phone, and the phone's own provisioning profile (the DBID_* parameters)."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

from resyncctl.errors import InputError

_NOT_HEX: Final = re.compile(r"[:.\-]")
_MAC: Final = re.compile(r"[0-9a-f]{12}\Z")
_NO_MAC: Final = frozenset({"0" * 12, "f" * 12})


def normal_mac(text: str) -> str:
    """Return a MAC address as twelve lower-case hex digits; raise InputError for anything else. '' stays ''.

    All zeros or all ones is what systems write that do not know the address: '', so that it makes no two phones one.
    """
    if not text:
        return ""
    digits = _NOT_HEX.sub("", text.strip().lower())
    if not _MAC.match(digits):
        raise InputError(f"not a MAC address: {text[:40]!r}")
    return "" if digits in _NO_MAC else digits


def normal_instance(text: str) -> str:
    """Return an instance-id without quotes and angle brackets, in lower case (RFC 5626 4.1 compares URNs)."""
    return text.strip().strip('"').strip("<>").lower()


def key_of(*parts: str) -> int:
    """Return a 63-bit key above zero for an identity; equal parts give equal keys on every machine."""
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 1) or 1


def group_bindings(identities: Sequence[array[int]]) -> array[int]:
    """Return for each binding the index of the first binding of its device.

    `identities` are columns of keys (instance-ids, MACs, …), 0 = has none. Bindings that share a key in any column are one
    device; a binding without any key is a device of its own.
    """
    count = len(identities[0]) if identities else 0
    parent = array("l", range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for column in identities:
        order = sorted((index for index in range(count) if column[index]), key=column.__getitem__)
        for left, right in pairwise(order):
            if column[left] == column[right]:
                first, second = sorted((root(left), root(right)))
                parent[second] = first
    for index in range(count):
        parent[index] = root(index)
    return parent


class FromSip(Enum):
    """DBID_RESYNC_FROM_SIP: what the phone does on `check-sync`."""

    REBOOT_IF_ASKED = "0"
    ALWAYS_REBOOT = "1"
    IGNORE = "2"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a phone's DBID_* parameters say about a resync; None = not given."""

    from_sip: FromSip | None = None
    random_delay: float | None = None
    """DBID_RANDOM_DELAY, seconds."""
    forced_delay: float | None = None
    """DBID_RESYNC_DELAY, seconds."""


_SWITCHES: Final = frozenset(
    {"DBID_PRV_SIPPNP_ENABLED", "DBID_RESYNC_ON_RESET", "DBID_PRV_OPTION66_ENABLED", "DBID_PRV_OPTION67_ENABLED",
     "DBID_RESYNC_AFTER_UPGRADE", "DBID_UPGRADE_ENABLED"}
)  # fmt: skip
_NUMBERS: Final = frozenset(
    {
        "DBID_RESYNC_RETRY_DELAY",
        "DBID_RESYNC_PERIODIC",
        "DBID_RESYNC_DELAY",
        "DBID_RANDOM_DELAY",
        "DBID_UPGRADE_RETRY_DELAY",
    }
)
_AUTHENTICATION: Final = frozenset({"DBID_PRV_HTTP_AUTHENTRCATION", "DBID_PRV_HTTP_AUTHENTRCATION2"})
_TEXTS: Final = frozenset({"DBID_PRV_CONFIGFILE", "DBID_PROFILE_RULE", "DBID_PROFILE_RULE2", "DBID_UPGRADE_RULE"})
PARAMETERS: Final = _SWITCHES | _NUMBERS | _AUTHENTICATION | _TEXTS | {"DBID_RESYNC_FROM_SIP"}
"""Every DBID_* parameter of the phones' provisioning manual."""
MAX_DELAY: Final = 30 * 86_400
"""Seconds; a longer delay is taken for a mistake."""


def parse_profile(values: dict[str, str]) -> Profile:
    """Read a phone's parameters (name to text, empty = not given); raise InputError naming the first bad one."""
    for name, text in values.items():
        if not text:
            continue
        if name in _SWITCHES and text not in {"0", "1"}:
            raise InputError(f"{name} is {text[:20]!r}, it takes 0 or 1")
        if name in _NUMBERS and not (
            text.isascii() and text.isdigit() and int(text[:10]) <= MAX_DELAY and len(text) < 9
        ):
            raise InputError(f"{name} is {text[:20]!r}, it takes a whole number of at most {MAX_DELAY}")
        if name in _AUTHENTICATION and text not in {"Basic", "Digest", "Digests"}:  # the manual has both spellings
            raise InputError(f"{name} is {text[:20]!r}, it takes Basic or Digest")
        if name == "DBID_RESYNC_FROM_SIP" and text not in {"0", "1", "2"}:
            raise InputError(f"{name} is {text[:20]!r}, it takes 0, 1 or 2")
    from_sip = values.get("DBID_RESYNC_FROM_SIP")
    random_delay, forced_delay = values.get("DBID_RANDOM_DELAY"), values.get("DBID_RESYNC_DELAY")
    return Profile(
        from_sip=FromSip(from_sip) if from_sip else None,
        random_delay=float(random_delay) if random_delay else None,
        forced_delay=float(forced_delay) if forced_delay else None,
    )
