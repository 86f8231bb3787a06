"""The vendor catalogue: which make a phone is, and what it has to be sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from resyncctl.vendors.model import (
    FALLBACK_EVENT,
    GENERAL_REBOOT_EVENT,
    Intent,
    Reboots,
    Trigger,
    Vendor,
)
from resyncctl.vendors.patterns import USER_AGENT_LIMIT
from resyncctl.vendors.reader import read_vendors

_MATCHES_KEPT = 4096
"""Answers remembered by User-Agent. A fleet has a few hundred, unless they carry a MAC; 4096 take 5 MB at worst."""


class Catalogue:
    """Vendors in the order in which their patterns are tried; immutable once built, apart from remembered matches."""

    def __init__(self, vendors: Sequence[Vendor]) -> None:
        self._vendors = tuple(vendors)
        self._by_id: dict[str, Vendor] = {vendor.id: vendor for vendor in self._vendors}
        self._patterns = [(re.compile(v.pattern), v) for v in self._vendors if v.pattern is not None]
        self._remembered = lru_cache(_MATCHES_KEPT)(self._search)
        self._general = {intent: _general_trigger(intent) for intent in Intent}

    @classmethod
    def load(cls, path: Path | None = None) -> Catalogue:
        """Read a catalogue file, None being the one that comes with the package.

        Raise InputError, with all problems of the file in one message, if any part of it cannot be used.
        """
        return cls(read_vendors(Path(__file__).with_name("catalogue.toml") if path is None else path))

    def __iter__(self) -> Iterator[Vendor]:
        return iter(self._vendors)

    def __len__(self) -> int:
        return len(self._vendors)

    def get(self, vendor_id: str) -> Vendor | None:
        """Return the vendor with this id, None if there is none."""
        return self._by_id.get(vendor_id)

    def match(self, user_agent: str) -> Vendor | None:
        """Return the first vendor whose pattern is found in a User-Agent, None if no pattern is.

        Any text may be given. It is remote input: only its first USER_AGENT_LIMIT characters are looked at.
        """
        return self._remembered(user_agent[:USER_AGENT_LIMIT])

    def trigger(self, vendor: Vendor | None, intent: Intent) -> Trigger | None:
        """Return what to send for an intent, None if this vendor's phones cannot do it on NOTIFY.

        `vendor` None is a phone of unknown make: it gets check-sync, with ;reboot=true if it is to reboot.
        """
        if vendor is None:
            return self._general[intent]
        chosen = vendor.resync if intent is Intent.RESYNC else vendor.reboot
        return chosen if isinstance(chosen, Trigger) else None

    def is_dangerous(self, vendor: Vendor | None, event: str) -> bool:
        """Tell whether `event`, an Event header's value, can factory-reset such a phone.

        A phone of unknown make (`vendor` None) can be any: what is dangerous to one vendor's phones is dangerous to it.
        """
        candidates = self._vendors if vendor is None else (vendor,)
        return any(candidate.endangered_by(event) for candidate in candidates)

    def _search(self, user_agent: str) -> Vendor | None:
        return next((vendor for pattern, vendor in self._patterns if pattern.search(user_agent)), None)


def _general_trigger(intent: Intent) -> Trigger:
    """Return the trigger for a phone of unknown make; the events are those this program is defined by."""
    return Trigger(
        FALLBACK_EVENT if intent is Intent.RESYNC else GENERAL_REBOOT_EVENT,
        headers=(),
        content_type=None,
        body=None,
        reboots=Reboots.UNKNOWN,
        sourced=True,
        needs_call_id=False,
        note="The make of the phone is not known: it gets the general event, and its own settings decide whether it"
        " re-fetches, reboots or ignores it.",
    )
