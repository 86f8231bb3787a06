"""The nouns of the catalogue: a vendor, what to send it for an intent, and how sure we are."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import NewType

from resyncctl.errors import InputError

VendorId = NewType("VendorId", str)

FALLBACK_EVENT = "check-sync"
"""Sent where no source names an event: the one that most makes react to."""

GENERAL_REBOOT_EVENT = "check-sync;reboot=true"
"""Asks a phone of unknown make to reboot; FALLBACK_EVENT asks it to resync."""

CALL_ID_PLACEHOLDER = "{call_id}"
"""Stands in a body for the Call-ID of the phone's own REGISTER. Other braces in a body are literal."""


class Intent(StrEnum):
    """What the operator wants of a phone."""

    RESYNC = "resync"
    REBOOT = "reboot"


class Confidence(StrEnum):
    """How well a vendor's entry is sourced; the catalogue's opening comment says what each level asks for."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NONE = "none"


class Reboots(StrEnum):
    """Whether a phone that acts on an event reboots; a setting that makes it ignore the event does not count."""

    NO = "no"
    DEPENDS = "depends"  # on a setting, or on the model
    ALWAYS = "always"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Trigger:
    """What a NOTIFY has to carry so that one kind of phone resyncs or reboots.

    `event` is the whole value of the Event header, parameters included; `headers` come in addition to those that every
    NOTIFY has. `content_type` and `body` are both set or both None. `sourced` is False when no source names an event
    for this intent and plain check-sync is a guess; `note` says so.
    """

    event: str
    _: KW_ONLY
    headers: tuple[tuple[str, str], ...]
    content_type: str | None
    body: str | None
    reboots: Reboots
    sourced: bool
    needs_call_id: bool
    note: str

    def render_body(self, *, call_id: str) -> str:
        """Return the body for one phone, `call_id` being that of its current REGISTER; "" if there is no body.

        Raise InputError if the body needs a Call-ID and `call_id` is empty or holds anything but visible ASCII: a Call-ID
        is made of such characters (RFC 3261 25.1, callid), and a line break in it would add lines of its own to the body.
        """
        if self.body is None:
            return ""
        if not self.needs_call_id:
            return self.body
        if not call_id:
            raise InputError(
                f"Event {self.event}: its body has to name the Call-ID of the phone's REGISTER, and none is known."
                " Take the phones from a registrar that reports it."
            )
        if not all("!" <= character <= "~" for character in call_id):
            raise InputError(
                f"Call-ID {call_id!r}: only visible ASCII characters can be sent in the body of Event {self.event}."
                " Correct it where the phone list comes from."
            )
        return self.body.replace(CALL_ID_PLACEHOLDER, call_id)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The vendor's phones cannot do this on NOTIFY; `note` says why, or what they offer instead."""

    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherEvent:
    """An event that the vendor's phones know and that no intent sends; `event` None: its text is not known.

    `body` describes the body in words, it is not ready to be sent.
    """

    purpose: str
    event: str | None
    content_type: str | None
    body: str | None
    note: str | None
    source: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One entry of the catalogue; its fields are explained at the top of catalogue.toml. None: no source says."""

    id: VendorId
    name: str
    confidence: Confidence
    pattern: str | None
    example: str | None
    ua_source: str | None
    resync: Trigger | Unsupported
    reboot: Trigger | Unsupported
    other: tuple[OtherEvent, ...]
    dangerous: tuple[str, ...]
    dangerous_parameters: tuple[str, ...]
    auth: str | None
    auth_detail: str | None
    parameters: tuple[str, ...]
    effect: str | None
    on_call: str | None
    quirks: tuple[str, ...]
    alternates: tuple[str, ...]
    sources: tuple[str, ...]

    def endangered_by(self, event: str) -> bool:
        """Tell whether `event`, an Event header's value, can factory-reset such a phone.

        The event type is compared without regard to case or parameters. `dangerous_parameters` are words that are
        dangerous as the name or the value of a parameter, whatever the type.
        """
        kind, *parameters = (part.strip().casefold() for part in event.split(";"))
        if kind in self.dangerous:
            return True
        words = {word.strip(' \t"') for parameter in parameters for word in parameter.split("=")}
        return not words.isdisjoint(self.dangerous_parameters)
