"""What each vendor is sent for an intent, and what is never sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.errors import InputError
from resyncctl.vendors import Catalogue, Intent, Reboots, Trigger, Unsupported, Vendor


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load()


def vendor_named(catalogue: Catalogue, vendor_id: str) -> Vendor:
    vendor = catalogue.get(vendor_id)
    assert vendor is not None
    return vendor


def trigger_of(catalogue: Catalogue, vendor_id: str, intent: Intent) -> Trigger:
    trigger = catalogue.trigger(vendor_named(catalogue, vendor_id), intent)
    assert trigger is not None
    return trigger


RESYNC = {
    # vendor: event, does it reboot the phone, does a source name it
    "yealink": ("check-sync;reboot=false", "depends", True),
    "poly_edge": ("check-sync", "depends", True),
    "polycom": ("check-sync", "depends", True),
    "snom_dect": ("check-sync", "depends", True),
    "snom": ("check-sync;reboot=false", "depends", True),
    "grandstream": ("resync", "no", True),
    "cisco_mpp": ("resync", "unknown", True),
    "cisco_spa8000": ("check-sync", "unknown", True),
    "cisco_spa": ("resync", "unknown", True),
    "cisco_7960": ("check-sync", "depends", False),
    "cisco_enterprise": ("service-control", "no", True),
    "fanvil": ("check-sync", "unknown", True),
    "gigaset": ("check-sync;reboot=false", "depends", True),
    "mitel53": ("check-sync", "unknown", False),
    "aastra_mitel": ("check-sync", "always", False),
    "panasonic": ("check-sync", "unknown", True),
    "htek": ("resync", "unknown", True),
    "digium": ("check-sync", "always", False),
    "sangoma": ("resync", "unknown", True),
    "obihai": ("resync", "always", True),
    "audiocodes_gw": ("check-sync;reboot=false", "unknown", True),
    "audiocodes_phone": ("check-sync", "always", False),
    "avaya_1200": ("check-sync", "unknown", True),
    "avaya_j100": ("check-sync;reboot=false", "unknown", True),
    "alcatel_iptouch": None,
    "alcatel_ale": ("check-sync", "unknown", True),
    "unify": ("check-sync;reboot=false", "unknown", True),
    "patton": ("check-sync", "depends", True),
    "technicolor": ("check-sync;reboot=false", "no", True),
    "algo": ("check-sync", "depends", True),
    "auerswald": ("check-sync", "unknown", True),
    "escene": ("check-sync", "unknown", False),
    "vtech_snom_c": ("check-sync", "unknown", False),
    "bittel": ("check-sync;reboot=false", "unknown", True),
    "flyingvoice": ("check-sync", "unknown", False),
    "cyberdata": ("check-sync", "unknown", True),
    "issabel_generic": ("check-sync", "unknown", False),
    "zultys": None,
    "no_source": ("check-sync", "unknown", False),
}

REBOOT = {
    "yealink": ("check-sync;reboot=true", "always", True),
    "poly_edge": ("check-sync", "depends", True),
    "polycom": ("check-sync", "depends", True),
    "snom_dect": ("check-sync;reboot=true", "unknown", True),
    "snom": ("check-sync;reboot=true", "depends", True),
    "grandstream": ("check-sync;reboot=true", "depends", True),
    "cisco_mpp": ("check-sync", "unknown", False),
    "cisco_spa8000": ("check-sync", "unknown", False),
    "cisco_spa": ("reboot_now", "always", True),
    "cisco_7960": ("check-sync", "depends", True),
    "cisco_enterprise": ("service-control", "always", True),
    "fanvil": ("check-sync;reboot=true", "unknown", True),
    "gigaset": ("check-sync;reboot=true", "depends", True),
    "mitel53": ("check-sync", "unknown", False),
    "aastra_mitel": ("check-sync", "always", True),
    "panasonic": ("check-sync;reboot=true", "unknown", True),
    "htek": ("check-sync;reboot=true", "unknown", True),
    "digium": ("check-sync", "always", True),
    "sangoma": ("check-sync;reboot=true", "unknown", True),
    "obihai": ("resync", "always", True),
    "audiocodes_gw": ("check-sync", "unknown", False),
    "audiocodes_phone": ("check-sync", "always", True),
    "avaya_1200": ("check-sync", "unknown", False),
    "avaya_j100": ("check-sync;reboot=true", "unknown", True),
    "alcatel_iptouch": None,
    "alcatel_ale": ("check-sync", "unknown", False),
    "unify": ("check-sync;reboot=true", "unknown", True),
    "patton": ("check-sync", "depends", True),
    "technicolor": ("check-sync;reboot=true", "always", True),
    "algo": ("check-sync;reboot=true", "depends", True),
    "auerswald": ("check-sync", "unknown", False),
    "escene": ("check-sync;reboot=true", "unknown", True),
    "vtech_snom_c": ("check-sync", "unknown", False),
    "bittel": ("check-sync;reboot=true", "unknown", True),
    "flyingvoice": ("check-sync", "unknown", False),
    "cyberdata": ("check-sync", "unknown", False),
    "issabel_generic": ("check-sync;reboot=true", "unknown", True),
    "zultys": None,
    "no_source": ("check-sync", "unknown", False),
}


@pytest.mark.parametrize(("intent", "expected"), [(Intent.RESYNC, RESYNC), (Intent.REBOOT, REBOOT)])
def test_every_vendor_is_sent_its_own_event(
    catalogue: Catalogue, intent: Intent, expected: dict[str, tuple[str, str, bool] | None]
) -> None:
    sent = {vendor.id: catalogue.trigger(vendor, intent) for vendor in catalogue}
    assert {
        vendor_id: None if trigger is None else (trigger.event, trigger.reboots.value, trigger.sourced)
        for vendor_id, trigger in sent.items()
    } == expected


def test_only_cisco_enterprise_is_sent_headers_or_a_body(catalogue: Catalogue) -> None:
    for vendor in catalogue:
        for intent in Intent:
            trigger = catalogue.trigger(vendor, intent)
            if trigger is None or vendor.id == "cisco_enterprise":
                continue
            assert (trigger.headers, trigger.content_type, trigger.body) == ((), None, None)
            assert not trigger.needs_call_id


def test_phone_of_unknown_make_is_sent_the_general_event(catalogue: Catalogue) -> None:
    resync = catalogue.trigger(None, Intent.RESYNC)
    reboot = catalogue.trigger(None, Intent.REBOOT)
    assert resync is not None
    assert reboot is not None
    assert (resync.event, resync.sourced, resync.reboots) == ("check-sync", True, Reboots.UNKNOWN)
    assert (reboot.event, reboot.sourced, reboot.reboots) == ("check-sync;reboot=true", True, Reboots.UNKNOWN)


def test_fallback_says_that_it_is_one_and_keeps_the_note_of_the_file(catalogue: Catalogue) -> None:
    assert trigger_of(catalogue, "cisco_mpp", Intent.REBOOT).note == (
        "No source names a reboot event for these phones, so plain check-sync is sent."
        " reboot_now and restart_now are known from the SPA line; no source has them for MPP."
    )


def test_fallback_that_is_the_known_reboot_event_says_so(catalogue: Catalogue) -> None:
    assert trigger_of(catalogue, "audiocodes_phone", Intent.RESYNC).note == (
        "No source names a resync event for these phones, so plain check-sync is sent. It is the event that reboots them."
    )


def test_fallback_that_is_the_known_resync_event_says_so(catalogue: Catalogue) -> None:
    assert trigger_of(catalogue, "avaya_1200", Intent.REBOOT).note == (
        "No source names a reboot event for these phones, so plain check-sync is sent. It is the event that resyncs them."
    )


def test_vendor_without_notify_is_sent_nothing_and_says_why(catalogue: Catalogue) -> None:
    vendor = vendor_named(catalogue, "alcatel_iptouch")
    assert catalogue.trigger(vendor, Intent.REBOOT) is None
    assert vendor.reboot == Unsupported("NOTIFY is not supported; only telnet 'reset soft' (wazo_alcatel v2_01_x).")


def test_every_answer_whether_a_sourced_event_reboots_has_its_reason(catalogue: Catalogue) -> None:
    for vendor in catalogue:
        for intent in Intent:
            trigger = catalogue.trigger(vendor, intent)
            assert trigger is None or trigger.note


def test_cisco_enterprise_resync_carries_the_call_id_of_the_registration(catalogue: Catalogue) -> None:
    trigger = trigger_of(catalogue, "cisco_enterprise", Intent.RESYNC)
    assert trigger.needs_call_id
    assert trigger.headers == (("Subscription-State", "active"),)
    assert trigger.content_type == "text/plain"
    assert trigger.render_body(call_id="001b2a89-3698011e@192.0.2.7") == (
        "action=restart\n"
        "RegisterCallId={001b2a89-3698011e@192.0.2.7}\n"
        "ConfigVersionStamp={0000000000000000}\n"
        "DialplanVersionStamp={0000000000000000}\n"
        "SoftkeyVersionStamp={0000000000000000}"
    )


def test_cisco_enterprise_reboot_body_has_crlf_line_ends(catalogue: Catalogue) -> None:
    trigger = trigger_of(catalogue, "cisco_enterprise", Intent.REBOOT)
    assert trigger.render_body(call_id="a@b") == "action=reset\r\nRegisterCallId={a@b}\r\n"


def test_call_id_may_hold_braces_and_even_the_placeholder(catalogue: Catalogue) -> None:
    trigger = trigger_of(catalogue, "cisco_enterprise", Intent.REBOOT)
    assert trigger.render_body(call_id="{call_id}") == "action=reset\r\nRegisterCallId={{call_id}}\r\n"


@pytest.mark.parametrize(
    "call_id", ["a\r\nb", "a\rb", "a\nb", "a\x00b", "a\x7fb", "a\x85b", "a\u2028b", "a b", "é@b", "\t"]
)
def test_call_id_that_could_not_stand_in_a_register_is_refused(catalogue: Catalogue, call_id: str) -> None:
    trigger = trigger_of(catalogue, "cisco_enterprise", Intent.RESYNC)
    with pytest.raises(InputError, match="only visible ASCII characters"):
        trigger.render_body(call_id=call_id)


def test_missing_call_id_is_refused_where_the_body_needs_it(catalogue: Catalogue) -> None:
    with pytest.raises(InputError, match="none is known"):
        trigger_of(catalogue, "cisco_enterprise", Intent.RESYNC).render_body(call_id="")


def test_trigger_without_body_renders_nothing(catalogue: Catalogue) -> None:
    assert trigger_of(catalogue, "snom", Intent.RESYNC).render_body(call_id="") == ""


@given(call_id=st.text())
def test_rendered_body_never_has_more_lines_than_the_catalogue_gives_it(catalogue: Catalogue, call_id: str) -> None:
    trigger = trigger_of(catalogue, "cisco_enterprise", Intent.RESYNC)
    try:
        body = trigger.render_body(call_id=call_id)
    except InputError:
        return
    assert len(body.splitlines()) == 5


@pytest.mark.parametrize(
    "event", ["reset", "RESET", "Reset", " reset ", "reset;reboot=false", "reset ;x", "reset;", "\treset"]
)
def test_reset_is_dangerous_to_a_grandstream(catalogue: Catalogue, event: str) -> None:
    assert catalogue.is_dangerous(vendor_named(catalogue, "grandstream"), event)


@pytest.mark.parametrize("event", ["resync", "check-sync;reboot=true", "check-sync;x=reset", "reset-all", "", ";reset"])
def test_other_events_are_not_dangerous_to_a_grandstream(catalogue: Catalogue, event: str) -> None:
    assert not catalogue.is_dangerous(vendor_named(catalogue, "grandstream"), event)


@pytest.mark.parametrize(
    "event",
    [
        "factory-reset",
        "check-sync;factory-reset",
        "check-sync;action=Factory-Reset",
        'check-sync; action = "factory-reset"',
    ],
)
@pytest.mark.parametrize("vendor_id", ["snom", "gigaset"])
def test_factory_reset_is_dangerous_to_a_snom_wherever_it_stands(
    catalogue: Catalogue, vendor_id: str, event: str
) -> None:
    assert catalogue.is_dangerous(vendor_named(catalogue, vendor_id), event)


def test_what_is_dangerous_to_one_make_is_not_to_another(catalogue: Catalogue) -> None:
    assert not catalogue.is_dangerous(vendor_named(catalogue, "yealink"), "reset")


def test_phone_of_unknown_make_may_be_any_make(catalogue: Catalogue) -> None:
    assert catalogue.is_dangerous(None, "reset")
    assert catalogue.is_dangerous(None, "check-sync;action=factory-reset")
    assert not catalogue.is_dangerous(None, "check-sync;reboot=true")


@pytest.mark.parametrize("intent", list(Intent))
def test_no_intent_reaches_a_dangerous_event(catalogue: Catalogue, intent: Intent) -> None:
    for vendor in (None, *catalogue):
        trigger = catalogue.trigger(vendor, intent)
        assert trigger is None or not catalogue.is_dangerous(None, trigger.event)


@given(event=st.text())
def test_any_text_can_be_asked_about(catalogue: Catalogue, event: str) -> None:
    for vendor in (None, *catalogue):
        assert catalogue.is_dangerous(vendor, event) in {True, False}
