"""catalogue.toml into vendors: everything that can be wrong with the file is found before any of it is used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from string import ascii_letters, digits

from resyncctl.errors import InputError
from resyncctl.vendors.model import (
    CALL_ID_PLACEHOLDER,
    FALLBACK_EVENT,
    GENERAL_REBOOT_EVENT,
    Confidence,
    Intent,
    OtherEvent,
    Reboots,
    Trigger,
    Unsupported,
    Vendor,
    VendorId,
)
from resyncctl.vendors.patterns import WAYS_LIMIT, ways
from resyncctl.vendors.table import Table

_TOKEN = frozenset(ascii_letters + digits + "-.!%*_+`'~")  # RFC 3261 25.1, token
_ID = frozenset(ascii_letters.lower() + digits + "_")

_FOREIGN_HEADERS = frozenset(
    [
        "authorization",
        "call-id",
        "contact",
        "content-encoding",
        "content-length",
        "content-type",
        "cseq",
        "event",
        "from",
        "max-forwards",
        "proxy-authorization",
        "record-route",
        "route",
        "to",
        "via",
    ]
)
"""Headers that whoever builds the NOTIFY sets. An Event among the further headers would also get past the check for
dangerous events; so would its compact form, and all compact forms are refused (one letter: RFC 3261 7.3.3, RFC 6665 8.4)."""


def read_vendors(path: Path) -> tuple[Vendor, ...]:
    """Read and check a catalogue; raise InputError naming the file, the vendor and the key of every problem in it."""
    problems: list[str] = []
    try:
        with path.open("rb") as file:
            top = Table(tomllib.load(file), "", problems)
    except OSError as error:
        raise InputError(f"{path}: the vendor catalogue cannot be read: {error.strerror}. Check its path.") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError; arrays nested too deep
        raise InputError(f"{path}: the vendor catalogue is not TOML: {error}. Correct the file.") from error
    vendors = tuple(_vendor(table, number) for number, table in enumerate(top.tables("vendor"), 1))
    top.finish()
    if not vendors and not problems:
        problems.append("it has no [[vendor]]")
    problems += _conflicts(vendors)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise InputError(
            f"{path}: {count}, the vendor catalogue was not loaded: {'; '.join(problems)}. Correct the file."
        )
    return vendors


def _vendor(table: Table, number: int) -> Vendor:
    vendor_id = table.required("id")
    table.rename(f"vendor {vendor_id or number}: ")
    if not _ID.issuperset(vendor_id):
        table.problem("id", f"has to be of a-z, 0-9 and _, not {vendor_id!r}")
    if "confidence" not in table:
        table.problem("confidence", "is missing")
    sources = table.texts("sources")
    resync, reboot = _triggers(table, sourced=bool(sources))
    vendor = Vendor(
        id=VendorId(vendor_id),
        name=table.required("name"),
        confidence=table.choice("confidence", Confidence, Confidence.NONE),
        pattern=_pattern(table),
        example=table.text("example"),
        ua_source=table.text("ua_source"),
        resync=resync,
        reboot=reboot,
        other=tuple(_other(item) for item in table.tables("other")),
        dangerous=_dangerous(table, "dangerous"),
        dangerous_parameters=_dangerous(table, "dangerous_parameters"),
        auth=table.text("auth"),
        auth_detail=table.text("auth_detail"),
        parameters=table.texts("parameters"),
        effect=table.text("effect"),
        on_call=table.text("on_call"),
        quirks=table.texts("quirks"),
        alternates=table.texts("alternates"),
        sources=sources,
    )
    table.finish()
    for intent, trigger in ((Intent.RESYNC, resync), (Intent.REBOOT, reboot)):
        if isinstance(trigger, Trigger) and vendor.endangered_by(trigger.event):
            table.problem(f"{intent}.event", f"{trigger.event} is listed as dangerous: it can factory-reset the phone")
    return vendor


def _conflicts(vendors: tuple[Vendor, ...]) -> list[str]:
    """Return what is wrong between vendors, or between a vendor and the events for phones of unknown make."""
    problems = []
    seen: set[str] = set()
    for vendor in vendors:
        if vendor.id and vendor.id in seen:
            problems.append(f"vendor {vendor.id}: id: is used twice")
        seen.add(vendor.id)
        problems += [
            f"vendor {vendor.id}: dangerous: {event} is what every phone of unknown make is sent"
            for event in (FALLBACK_EVENT, GENERAL_REBOOT_EVENT)
            if vendor.endangered_by(event)
        ]
    return problems


def _triggers(table: Table, *, sourced: bool) -> tuple[Trigger | Unsupported, Trigger | Unsupported]:
    resync = _named_trigger(table.table("resync"), Intent.RESYNC, sourced=sourced)
    reboot = _named_trigger(table.table("reboot"), Intent.REBOOT, sourced=sourced)
    if isinstance(resync, Trigger) and isinstance(reboot, Trigger):
        same = (resync.event, resync.body) == (reboot.event, reboot.body)
        if same and resync.reboots is not reboot.reboots:
            table.problem("resync.reboots", f"is {resync.reboots}, and {reboot.reboots} for the same event of reboot")
    return (
        _fallback(Intent.RESYNC, note=resync, opposite=reboot) if isinstance(resync, str) else resync,
        _fallback(Intent.REBOOT, note=reboot, opposite=resync) if isinstance(reboot, str) else reboot,
    )


def _named_trigger(table: Table, intent: Intent, *, sourced: bool) -> Trigger | Unsupported | str:
    """Return what the file says of one intent; a text is the note beside an event that no source names."""
    supported = table.flag("supported", default=True)
    event, note = table.text("event"), table.text("note") or ""
    headers, content_type, body = table.pairs("headers"), table.text("content_type"), table.lines("body")
    reboots = table.choice("reboots", Reboots, Reboots.UNKNOWN)
    for key in ("event", "headers", "content_type", "body", "reboots"):
        if key in table and not supported:
            table.problem(key, "cannot stand beside supported = false")
        elif key in table and "event" not in table:
            table.problem(key, "needs an event")
    table.finish()
    if not supported:
        return Unsupported(note)
    if event is None:
        return note
    if not sourced:
        table.problem("event", "needs the vendor's sources")
    if reboots is Reboots.NO and intent is Intent.REBOOT:
        table.problem("reboots", "cannot be no for the event that is to reboot the phone")
    _check_event(table, event)
    _check_headers(table, headers)
    _check_content(table, content_type, body)
    return Trigger(
        event,
        headers=headers,
        content_type=content_type,
        body=body,
        reboots=reboots,
        sourced=True,
        needs_call_id=body is not None and CALL_ID_PLACEHOLDER in body,
        note=note,
    )


def _fallback(intent: Intent, *, note: str, opposite: Trigger | Unsupported | str) -> Trigger:
    """Return plain check-sync for an intent without a sourced event; `opposite` is what is known of the other intent.

    When the same event is known as the other intent's, it does what it does there. As a reboot event it then reboots,
    unless the phone decides.
    """
    reboots = Reboots.UNKNOWN
    told = [f"No source names a {intent} event for these phones, so plain {FALLBACK_EVENT} is sent."]
    if isinstance(opposite, Trigger) and opposite.body is None and opposite.event.casefold() == FALLBACK_EVENT:
        if intent is Intent.REBOOT:
            reboots = opposite.reboots
            told.append("It is the event that resyncs them.")
        else:
            reboots = Reboots.DEPENDS if opposite.reboots is Reboots.DEPENDS else Reboots.ALWAYS
            told.append("It is the event that reboots them.")
    if note:
        told.append(note)
    return Trigger(
        FALLBACK_EVENT,
        headers=(),
        content_type=None,
        body=None,
        reboots=reboots,
        sourced=False,
        needs_call_id=False,
        note=" ".join(told),
    )


def _check_event(table: Table, event: str) -> None:
    """Check an Event value: a type, then parameters as `name` or `name=value`, all tokens (RFC 6665 8.4)."""
    kind, *parameters = event.split(";")
    tokens = [kind, *(part for parameter in parameters for part in parameter.split("=", 1))]
    if not all(token and _TOKEN.issuperset(token) for token in tokens):
        table.problem("event", f"{event!r} is not an event type with parameters, such as check-sync;reboot=true")


def _check_headers(table: Table, headers: tuple[tuple[str, str], ...]) -> None:
    for name, value in headers:
        if not name or not _TOKEN.issuperset(name):
            table.problem("headers", f"{name!r} is not the name of a header")
        elif len(name) == 1 or name.lower() in _FOREIGN_HEADERS:
            table.problem("headers", f"{name} is not for the catalogue to set")
        if not value.isascii():
            table.problem(f"headers.{name}", "has to be ASCII")


def _check_content(table: Table, content_type: str | None, body: str | None) -> None:
    if (content_type is None) != (body is None):  # RFC 3261 20.15: a body has a Content-Type
        table.problem("body", "goes together with content_type")
    if content_type is not None and not (content_type.isascii() and "/" in content_type):
        table.problem("content_type", f"has to be a media type, not {content_type!r}")


def _other(table: Table) -> OtherEvent:
    other = OtherEvent(
        purpose=table.required("purpose"),
        event=table.text("event"),
        content_type=table.text("content_type"),
        body=table.text("body"),
        note=table.text("note"),
        source=table.text("source"),
    )
    if other.event is not None:
        _check_event(table, other.event)
    table.finish()
    return other


def _pattern(table: Table) -> str | None:
    """Return the User-Agent pattern, checked: it compiles, it does not match every phone, and its work is bounded."""
    pattern = table.text("pattern")
    if pattern is None:
        return None
    try:
        if re.compile(pattern).search(""):
            table.problem("pattern", "matches every User-Agent")
        if ways(pattern) > WAYS_LIMIT:
            table.problem("pattern", "can be tried in too many ways on one User-Agent; use fewer repeats")
    except (re.error, OverflowError, RecursionError) as error:
        table.problem("pattern", f"is not a regular expression: {error}")
    except ValueError as error:
        table.problem("pattern", f"may need too long on a hostile User-Agent: {error}")
    return pattern


def _dangerous(table: Table, key: str) -> tuple[str, ...]:
    words = table.texts(key)
    for word in words:
        if not _TOKEN.issuperset(word):
            table.problem(key, f"{word!r} is not a token")
    return tuple(word.casefold() for word in words)
