"""Reading a catalogue file: the packaged one as a whole, and every way in which a file can be wrong."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.errors import InputError
from resyncctl.vendors import Catalogue, Confidence, Intent, OtherEvent, Reboots
from resyncctl.vendors.table import Table

Load = Callable[[str], Catalogue]

ACME = """
[[vendor]]
id = "acme"
name = "Acme"
confidence = "low"
sources = ["acme.example/manual"]
"""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load()


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def write_and_load(text: str) -> Catalogue:
        path = tmp_path / "site.toml"
        path.write_text(text, encoding="utf-8")
        return Catalogue.load(path)

    return write_and_load


def problems_of(load: Load, text: str) -> str:
    with pytest.raises(InputError) as caught:
        load(text)
    return str(caught.value)


def test_packaged_catalogue_has_39_vendors_in_order(catalogue: Catalogue) -> None:
    assert len(catalogue) == 39
    assert [vendor.id for vendor in catalogue][:6] == [
        "yealink",
        "poly_edge",
        "polycom",
        "snom_dect",
        "snom",
        "grandstream",
    ]


def test_vendor_is_found_by_its_id(catalogue: Catalogue) -> None:
    vendor = catalogue.get("technicolor")
    assert vendor is not None
    assert vendor.name == "Thomson / Technicolor ST20xx, TB30"
    assert vendor.confidence is Confidence.MEDIUM
    assert vendor.pattern == "(?i)thomson|technicolor"
    assert vendor.ua_source == "HTTP form, wazo_technicolor/common/common.py:83; SIP UA unknown"
    assert vendor.auth == "source IP"
    assert vendor.auth_detail == "AuthNotifyCheckSync=<allowed IP> (0.0.0.0 in Wazo)"
    assert vendor.parameters == ("sw_notify_autoprovision=1", "AuthNotifyCheckSync", "AutoprovisionFlag=1")
    assert vendor.effect == "as event says"
    assert vendor.on_call is None
    assert vendor.sources == (
        "easymanua.ls/technicolor/tb30 p.192",
        "wazo-platform/wazo-provd-plugins@2321a3f3 plugins/wazo_technicolor",
    )


def test_unknown_id_is_no_vendor(catalogue: Catalogue) -> None:
    assert catalogue.get("acme") is None


def test_event_that_no_intent_sends_is_kept(catalogue: Catalogue) -> None:
    vendor = catalogue.get("aastra_mitel")
    assert vendor is not None
    assert vendor.other == (
        OtherEvent(
            purpose="XML push",
            event="aastra-xml",
            content_type="application/xml",
            body=None,
            note="needs 'sip xml notify event: 1'; triggers 'action uri xml sip notify'",
            source="asterisk sample; Aastra guide",
        ),
    )


def test_vendor_with_an_event_names_its_sources(catalogue: Catalogue) -> None:
    assert all(vendor.sources for vendor in catalogue)


def test_packaged_catalogue_loads_in_30_milliseconds() -> None:
    def seconds() -> float:
        re.purge()  # compiling the patterns is part of loading
        started = time.perf_counter()
        Catalogue.load()
        return time.perf_counter() - started

    assert min(seconds() for _ in range(5)) < 0.030


def test_importing_the_package_does_not_read_the_catalogue() -> None:
    script = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == 'open' else None)\n"
        "import resyncctl.vendors\n"
        "assert not [path for path in opened if path.endswith('.toml')], opened\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_smallest_vendor_gets_plain_check_sync_for_both_intents(load: Load) -> None:
    catalogue = load(ACME)
    for intent in Intent:
        trigger = catalogue.trigger(catalogue.get("acme"), intent)
        assert trigger is not None
        assert (trigger.event, trigger.sourced) == ("check-sync", False)


def test_fallback_that_is_the_reboot_event_always_reboots_even_if_the_file_does_not_say_so(load: Load) -> None:
    catalogue = load(ACME + '[vendor.reboot]\nevent = "Check-Sync"')
    trigger = catalogue.trigger(catalogue.get("acme"), Intent.RESYNC)
    assert trigger is not None
    assert trigger.reboots is Reboots.ALWAYS


def test_fallback_that_is_the_reboot_event_depends_where_that_depends(load: Load) -> None:
    catalogue = load(ACME + '[vendor.reboot]\nevent = "check-sync"\nreboots = "depends"')
    trigger = catalogue.trigger(catalogue.get("acme"), Intent.RESYNC)
    assert trigger is not None
    assert trigger.reboots is Reboots.DEPENDS


def test_fallback_that_is_the_resync_event_does_what_that_does(load: Load) -> None:
    catalogue = load(ACME + '[vendor.resync]\nevent = "check-sync"\nreboots = "no"')
    trigger = catalogue.trigger(catalogue.get("acme"), Intent.REBOOT)
    assert trigger is not None
    assert (trigger.reboots, trigger.sourced) == (Reboots.NO, False)


def test_reboot_event_with_a_parameter_is_not_the_fallback(load: Load) -> None:
    catalogue = load(ACME + '[vendor.reboot]\nevent = "check-sync;reboot=true"\nreboots = "always"')
    trigger = catalogue.trigger(catalogue.get("acme"), Intent.RESYNC)
    assert trigger is not None
    assert trigger.reboots is Reboots.UNKNOWN


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('modell = "X1"', "vendor acme: modell: is not a key of the catalogue"),
        ('example = "A\\rB"', "vendor acme: example: has a line break or another control character"),
        ("example = 5", "vendor acme: example: has to be a text, not 5"),
        ('example = " "', "vendor acme: example: has to be a text, not ' '"),
        ('quirks = "none"', "vendor acme: quirks: has to be a list of texts, not 'none'"),
        ("quirks = [1]", "vendor acme: quirks: has to be a text, not 1"),
        ('pattern = "acme("', "vendor acme: pattern: is not a regular expression: missing ), unterminated subpattern"),
        ('pattern = "a{99999999999999}"', "vendor acme: pattern: is not a regular expression"),
        ('pattern = "acme|"', "vendor acme: pattern: matches every User-Agent"),
        ('pattern = "(a+)+x"', "vendor acme: pattern: may need too long on a hostile User-Agent: it repeats a group"),
        ('pattern = "a.*b.*c"', "vendor acme: pattern: can be tried in too many ways"),
        ('dangerous = ["re set"]', "vendor acme: dangerous: 're set' is not a token"),
        (
            'dangerous = ["check-sync"]',
            "vendor acme: dangerous: check-sync is what every phone of unknown make is sent",
        ),
        (
            'dangerous_parameters = ["reboot"]',
            "vendor acme: dangerous: check-sync;reboot=true is what every phone of unknown make is sent",
        ),
        ('resync = "check-sync"', "vendor acme: resync: has to be a table, not 'check-sync'"),
        ('[vendor.resync]\nevnt = "resync"', "vendor acme: resync.evnt: is not a key of the catalogue"),
        ('[vendor.resync]\nevent = ""', "vendor acme: resync.event: has to be a text, not ''"),
        ('[vendor.resync]\nevent = "resync\\r\\nX: y"', "vendor acme: resync.event: has a line break"),
        ('[vendor.resync]\nevent = "re sync"', "vendor acme: resync.event: 're sync' is not an event type"),
        ('[vendor.resync]\nevent = "resync;"', "vendor acme: resync.event: 'resync;' is not an event type"),
        ('[vendor.resync]\nevent = "resync;a="', "vendor acme: resync.event: 'resync;a=' is not an event type"),
        ('[vendor.resync]\nevent = "resync;a=b=c"', "vendor acme: resync.event: 'resync;a=b=c' is not an event type"),
        (
            '[vendor.resync]\nevent = "resync"\nheaders = { X-A = "b\\nc" }',
            "vendor acme: resync.headers.X-A: has a line break or another control character",
        ),
        (
            '[vendor.resync]\nevent = "resync"\nheaders = { "X-A\\n" = "b" }',
            "vendor acme: resync.headers: 'X-A\\n' is not the name of a header",
        ),
        (
            '[vendor.resync]\nevent = "resync"\nheaders = { event = "reset" }',
            "vendor acme: resync.headers: event is not for the catalogue to set",
        ),
        (
            '[vendor.resync]\nevent = "resync"\nheaders = { O = "reset" }',
            "vendor acme: resync.headers: O is not for the catalogue to set",
        ),
        (
            '[vendor.resync]\nevent = "resync"\nheaders = { X-A = "é" }',
            "vendor acme: resync.headers.X-A: has to be ASCII",
        ),
        (
            '[vendor.resync]\nevent = "resync"\nheaders = ["X-A: b"]',
            "vendor acme: resync.headers: has to be a table of texts, not ['X-A: b']",
        ),
        (
            '[vendor.resync]\nevent = "resync"\nbody = "x"',
            "vendor acme: resync.body: goes together with content_type",
        ),
        (
            '[vendor.resync]\nevent = "resync"\ncontent_type = "text/plain"',
            "vendor acme: resync.body: goes together with content_type",
        ),
        (
            '[vendor.resync]\nevent = "resync"\ncontent_type = "text"\nbody = "x"',
            "vendor acme: resync.content_type: has to be a media type, not 'text'",
        ),
        (
            '[vendor.resync]\nevent = "resync"\ncontent_type = "text/plain"\nbody = "a\\u0000"',
            "vendor acme: resync.body: has a control character other than CR, LF and tab",
        ),
        (
            '[vendor.resync]\nevent = "resync"\ncontent_type = "text/plain"\nbody = 5',
            "vendor acme: resync.body: has to be a text, not 5",
        ),
        (
            '[vendor.resync]\nevent = "resync"\nreboots = "maybe"',
            "vendor acme: resync.reboots: has to be one of no, depends, always, unknown, not 'maybe'",
        ),
        ('[vendor.resync]\nreboots = "no"', "vendor acme: resync.reboots: needs an event"),
        ("[vendor.resync]\nsupported = 1", "vendor acme: resync.supported: has to be true or false, not 1"),
        (
            '[vendor.resync]\nsupported = false\nevent = "resync"',
            "vendor acme: resync.event: cannot stand beside supported = false",
        ),
        (
            '[vendor.reboot]\nevent = "reboot"\nreboots = "no"',
            "vendor acme: reboot.reboots: cannot be no for the event that is to reboot the phone",
        ),
        (
            '[vendor.resync]\nevent = "x"\nreboots = "depends"\n[vendor.reboot]\nevent = "x"\nreboots = "always"',
            "vendor acme: resync.reboots: is depends, and always for the same event of reboot",
        ),
        (
            'dangerous = ["Reset"]\n[vendor.reboot]\nevent = "RESET;x=1"',
            "vendor acme: reboot.event: RESET;x=1 is listed as dangerous: it can factory-reset the phone",
        ),
        (
            'dangerous_parameters = ["wipe"]\n[vendor.resync]\nevent = "resync;how=Wipe"',
            "vendor acme: resync.event: resync;how=Wipe is listed as dangerous: it can factory-reset the phone",
        ),
        ('[[vendor.other]]\nevent = "x"', "vendor acme: other[1].purpose: is missing"),
        ('[[vendor.other]]\npurpose = "p"\nevent = "a b"', "vendor acme: other[1].event: 'a b' is not an event type"),
        ('[[vendor.other]]\npurpose = "p"\nevnt = "a"', "vendor acme: other[1].evnt: is not a key of the catalogue"),
        ('other = ["x"]', "vendor acme: other[1]: has to be a table, not 'x'"),
    ],
)
def test_a_wrong_value_is_named_by_file_vendor_and_key(load: Load, tmp_path: Path, lines: str, problem: str) -> None:
    message = problems_of(load, ACME + lines)
    assert message.startswith(f"{tmp_path / 'site.toml'}: ")
    assert problem in message
    assert message.endswith("Correct the file.")


def test_event_without_a_source_is_refused(load: Load) -> None:
    text = '[[vendor]]\nid = "acme"\nname = "Acme"\nconfidence = "low"\n[vendor.resync]\nevent = "resync"'
    assert "vendor acme: resync.event: needs the vendor's sources" in problems_of(load, text)


def test_unknown_confidence_is_refused(load: Load) -> None:
    text = '[[vendor]]\nid = "acme"\nname = "Acme"\nconfidence = "certain"'
    assert "vendor acme: confidence: has to be one of high, medium, low, none, not 'certain'" in problems_of(load, text)


def test_vendor_without_id_name_and_confidence_is_named_by_its_number(load: Load) -> None:
    message = problems_of(load, ACME + "[[vendor]]\nsources = []")
    assert "3 problems" in message
    assert "vendor[2].id: is missing" in message
    assert "vendor 2: name: is missing" in message
    assert "vendor 2: confidence: is missing" in message


def test_id_is_of_small_letters_digits_and_underscores(load: Load) -> None:
    assert "id: has to be of a-z, 0-9 and _, not 'Acme-1'" in problems_of(load, ACME.replace('"acme"', '"Acme-1"'))


def test_id_used_twice_is_refused(load: Load) -> None:
    assert "vendor acme: id: is used twice" in problems_of(load, ACME + ACME)


def test_all_problems_of_a_file_come_together(load: Load, tmp_path: Path) -> None:
    text = 'title = "mine"' + ACME + 'pattern = "("\ncolour = "red"\n[vendor.resync]\nevent = "a b"'
    assert problems_of(load, text) == (
        f"{tmp_path / 'site.toml'}: 4 problems, the vendor catalogue was not loaded:"
        " vendor acme: resync.event: 'a b' is not an event type with parameters, such as check-sync;reboot=true;"
        " vendor acme: pattern: is not a regular expression: missing ), unterminated subpattern at position 0;"
        " vendor acme: colour: is not a key of the catalogue;"
        " title: is not a key of the catalogue."
        " Correct the file."
    )


def test_file_without_a_vendor_is_refused(load: Load) -> None:
    assert "it has no [[vendor]]" in problems_of(load, "")


def test_single_table_instead_of_an_array_is_refused(load: Load) -> None:
    assert "vendor: has to be a list of tables" in problems_of(load, '[vendor]\nid = "acme"')


def test_file_that_is_not_toml_is_refused_with_the_place(load: Load) -> None:
    assert "is not TOML: Expected '=' after a key" in problems_of(load, "vendor")


def test_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(InputError, match="is not TOML"):
        Catalogue.load(path)


def test_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"site\.toml: the vendor catalogue cannot be read: No such file"):
        Catalogue.load(tmp_path / "site.toml")


TOML_VALUES = st.recursive(
    st.one_of(st.text(), st.integers(), st.floats(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=5,
)


@given(value=TOML_VALUES)
def test_reading_a_table_notes_problems_and_never_raises(value: object) -> None:
    problems: list[str] = []
    table = Table({"key": value}, "here", problems)
    table.flag("key", default=False)
    table.text("key")
    table.required("key")
    table.lines("key")
    table.texts("key")
    table.pairs("key")
    table.choice("key", Reboots, Reboots.UNKNOWN)
    table.table("key").finish()
    table.tables("key")
    assert all(problem.startswith("here.key") for problem in problems)
