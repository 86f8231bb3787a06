"""One binding, field by field; conditions that select phones; keys that compare lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.errors import InputError
from resyncctl.inventory.phone import (
    FIELDS,
    Phone,
    Selection,
    credentials_of,
    line_key,
    parse_path,
    parse_phone,
)
from resyncctl.sip.digest import Credentials
from resyncctl.sip.uri import Uri


def complaint(**values: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_phone(values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given_text", "contact"),
    [
        ("sip:1000@10.0.0.1", "sip:1000@10.0.0.1"),
        ("sip:1000@10.0.0.1:5060;transport=udp", "sip:1000@10.0.0.1:5060;transport=udp"),
        ("<sip:1000@10.0.0.1;ob>", "sip:1000@10.0.0.1;ob"),
        ("<sip:1000@10.0.0.1>;expires=60;q=0.5", "sip:1000@10.0.0.1"),
        ('"Reception, front" <sip:1000@10.0.0.1>', "sip:1000@10.0.0.1"),
        ("Bob <sip:bob@10.0.0.1>", "sip:bob@10.0.0.1"),
        ("sip:1000@[2001:db8::1]:5060", "sip:1000@[2001:db8::1]:5060"),
        ("<sip:[2001:db8::1]>", "sip:[2001:db8::1]"),
        ("sip:10.0.0.1", "sip:10.0.0.1"),
        ("sips:1000@pbx.example", "sips:1000@pbx.example"),
        ("SIP:1000@10.0.0.1", "SIP:1000@10.0.0.1"),
        ("sip:1000@10.0.0.1:65535", "sip:1000@10.0.0.1:65535"),
        ("sip:a%20b:pw@h?Subject=x", "sip:a%20b:pw@h?Subject=x"),
        ("sip:1@h;+sip.x=1;line=abc", "sip:1@h;+sip.x=1;line=abc"),
    ],
)
def test_a_contact_is_the_uri_in_it(given_text: str, contact: str) -> None:
    assert parse_phone({"contact": given_text}) == Phone(contact=contact)


@pytest.mark.parametrize(
    "contact",
    [
        "1000@10.0.0.1",
        "*",
        "sip:1000@10.0.0.1:0",
        "sip:1000@10.0.0.1:65536",
        "sip:1000@",
        "sip:1000@[::1",
        "sip:a b@h",
        "<sip:1@h",
        '"Bob <sip:1@h>',
        "<tel:+4930>",
    ],
)
def test_a_bad_contact_is_refused_and_the_column_named(contact: str) -> None:
    assert complaint(contact=contact).startswith("contact: ")


@pytest.mark.parametrize(
    ("given_text", "aor"),
    [
        ("sip:1000@pbx", "sip:1000@pbx"),
        ("1000@pbx", "sip:1000@pbx"),
        ("<sip:1000@pbx>", "sip:1000@pbx"),
        ("sip:1000@[::1]", "sip:1000@[::1]"),
    ],
)
def test_an_aor_alone_is_user_and_host(given_text: str, aor: str) -> None:
    assert parse_phone({"aor": given_text}) == Phone(aor=aor)


@pytest.mark.parametrize("aor", ["1000", "sip:1000", "sip:pbx.example", "reception"])
def test_an_aor_without_user_or_host_is_not_enough_without_a_contact(aor: str) -> None:
    assert complaint(aor=aor) == f"aor {aor!r} is not user@host, and there is no contact to send to"


@pytest.mark.parametrize("aor", ["1000", "sip:pbx.example", "reception"])
def test_an_aor_without_user_or_host_is_a_name_when_there_is_a_contact(aor: str) -> None:
    assert parse_phone({"aor": aor, "contact": "sip:1@h"}).aor == aor


def test_a_bad_aor_is_refused_also_beside_a_contact() -> None:
    assert complaint(aor="a@b@c", contact="sip:1@h").startswith("aor: ")
    assert complaint(aor="<sip:1@pbx", contact="sip:1@h").startswith("aor: ")


def test_neither_aor_nor_contact_is_no_phone() -> None:
    assert complaint(mac="001565abcdef") == "neither aor nor contact is given"
    assert complaint(aor="", contact="") == "neither aor nor contact is given"


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("bad", ["\r", "\n", "\t", "\0", "\x1f", "\x7f"])
def test_no_field_may_hold_a_control_character_or_a_tab(name: str, bad: str) -> None:
    assert complaint(**{"contact": "sip:1@h", name: f"a{bad}b"}) == f"{name} holds a control character or a tab"


@pytest.mark.parametrize("name", FIELDS)
def test_no_field_may_be_longer_than_2048_characters(name: str) -> None:
    assert complaint(**{"contact": "sip:1@h", name: "a" * 2049}) == f"{name} is longer than 2048 characters"


@pytest.mark.parametrize(
    ("text", "routes"),
    [
        ("sip:edge.example;lr", ["<sip:edge.example;lr>"]),
        ("<sip:edge.example;lr>", ["<sip:edge.example;lr>"]),
        ("<sip:a;lr>,<sip:b;lr>", ["<sip:a;lr>", "<sip:b;lr>"]),
        ("sip:a;lr , sip:b:5070", ["<sip:a;lr>", "<sip:b:5070>"]),
        ("<sip:u,v@a;lr>;x=1", ["<sip:u,v@a;lr>;x=1"]),
        ('"edge 1" <sip:a;lr>', ['"edge 1" <sip:a;lr>']),
        ("<sip:[2001:db8::1]:5060;lr>", ["<sip:[2001:db8::1]:5060;lr>"]),
    ],
)
def test_a_path_is_a_list_of_routes(text: str, routes: list[str]) -> None:
    assert [str(route) for route in parse_path(text)] == routes
    assert parse_phone({"contact": "sip:1@h", "path": text}).path == text


@pytest.mark.parametrize("path", ["edge.example", "sip:a,,sip:b", "<sip:a", "<sip:a>,<tel:1>", ","])
def test_a_bad_path_is_refused_and_the_column_named(path: str) -> None:
    assert complaint(contact="sip:1@h", path=path).startswith("path: ")


def test_credentials_are_user_name_and_password() -> None:
    phone = parse_phone({"contact": "sip:1@h", "auth_username": "1000", "auth_password": "geheim"})
    assert credentials_of(phone.auth_username, phone.auth_password) == Credentials("1000", "geheim")
    assert "geheim" not in repr(phone)


def test_without_a_user_name_there_are_no_credentials() -> None:
    assert credentials_of("", "") is None
    assert complaint(contact="sip:1@h", auth_password="geheim") == "auth_password is given without auth_username"


def test_an_empty_password_is_a_password() -> None:
    assert credentials_of("1000", "") == Credentials("1000", "")


def test_a_bad_parameter_of_the_profile_is_named() -> None:
    text = complaint(contact="sip:1@h", DBID_RESYNC_FROM_SIP="3")
    assert text == "DBID_RESYNC_FROM_SIP is '3', it takes 0, 1 or 2"


@given(st.text(st.sampled_from('sip:@<>;=,"[]1a%. -_?&'), max_size=40))
def test_any_contact_is_refused_or_a_uri(text: str) -> None:
    try:
        phone = parse_phone({"contact": text})
    except InputError:
        return
    assert str(Uri.parse(phone.contact)) == phone.contact


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("1000", "1000"),
        ("1000@pbx", "1000@pbx"),
        ("sip:1000@PBX.Example", "1000@pbx.example"),
        ("SIPS:Bob@pbx", "Bob@pbx"),
        ("<sip:1000@pbx>", "1000@pbx"),
        ("<sip:1000@pbx>;expires=60", "1000@pbx"),
        ('"Reception" <sip:1000@pbx;user=phone>', "1000@pbx"),
        ("sip:1000@pbx;transport=udp?Subject=x", "1000@pbx"),
        ("sip:1000@pbx:5070", "1000@pbx:5070"),
        (" 1000@pbx ", "1000@pbx"),
        ("sip:1000", "1000"),
        ("sip:pbx.example;lr", "pbx.example"),
        ("", ""),
    ],
)
def test_a_line_is_compared_by_user_and_host(address: str, key: str) -> None:
    assert line_key(address) == key


ROW = {"site": "berlin", "model": "T46S", "tags": "reception, floor-2;vip", "contact": "sip:1@10.0.0.1"}


@pytest.mark.parametrize(
    ("conditions", "selected"),
    [
        ([], True),
        (["site=berlin"], True),
        (["site=ber*"], True),
        (["site=hamburg"], False),
        (["site=hamburg", "site=berlin"], True),  # one of the globs of a field is enough
        (["site=berlin", "model=T4?S"], True),  # but every field must match
        (["site=berlin", "model=T5*"], False),
        (["model=t46s"], False),  # letter case counts
        (["tags=vip"], True),
        (["tags=floor-*"], True),
        (["tags=recep"], False),
        (["mac="], True),  # a column that the row does not have is empty
        (["mac=?*"], False),
        (["contact=*=*"], False),
        (["contact=sip:1@10.0.0.[12]"], True),
        (["DBID_RESYNC_FROM_SIP="], True),
    ],
)
def test_a_row_is_selected_by_field_and_glob(conditions: list[str], selected: bool) -> None:
    assert Selection(conditions).matches(ROW) is selected


def test_no_condition_is_no_selection() -> None:
    assert not Selection([])
    assert Selection(["site=*"])


@pytest.mark.parametrize("condition", ["site", "", "colour=red", "=x", "Site=x"])
def test_a_condition_without_a_known_field_is_refused(condition: str) -> None:
    with pytest.raises(InputError) as caught:
        Selection([condition])
    assert str(caught.value) == (
        f"--where {condition!r}: write FIELD=GLOB with a field of aor, contact, path, user_agent, vendor, model, mac,"
        " instance, site, tags, auth_username, auth_password, call_id, received, or a DBID_* one"
    )
