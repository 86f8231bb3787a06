"""Which bindings are one phone, and what its DBID_* parameters say."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.errors import InputError
from resyncctl.rollout.device import (
    PARAMETERS,
    FromSip,
    Profile,
    group_bindings,
    key_of,
    normal_instance,
    normal_mac,
    parse_profile,
)

SEED_PARAMETERS = [
    "DBID_PRV_SIPPNP_ENABLED",
    "DBID_RESYNC_ON_RESET",
    "DBID_PRV_OPTION66_ENABLED",
    "DBID_PRV_OPTION67_ENABLED",
    "DBID_RESYNC_AFTER_UPGRADE",
    "DBID_RESYNC_RETRY_DELAY",
    "DBID_RESYNC_PERIODIC",
    "DBID_RESYNC_FROM_SIP",
    "DBID_RESYNC_DELAY",
    "DBID_RANDOM_DELAY",
    "DBID_PRV_CONFIGFILE",
    "DBID_PRV_HTTP_AUTHENTRCATION",
    "DBID_PROFILE_RULE",
    "DBID_PRV_HTTP_AUTHENTRCATION2",
    "DBID_PROFILE_RULE2",
    "DBID_UPGRADE_ENABLED",
    "DBID_UPGRADE_RETRY_DELAY",
    "DBID_UPGRADE_RULE",
]
"""Every DBID_ name in the phones' provisioning manual, in its order."""
SWITCHES = [
    "DBID_PRV_SIPPNP_ENABLED",
    "DBID_RESYNC_ON_RESET",
    "DBID_PRV_OPTION66_ENABLED",
    "DBID_PRV_OPTION67_ENABLED",
    "DBID_RESYNC_AFTER_UPGRADE",
    "DBID_UPGRADE_ENABLED",
]
NUMBERS = [
    "DBID_RESYNC_RETRY_DELAY",
    "DBID_RESYNC_PERIODIC",
    "DBID_RESYNC_DELAY",
    "DBID_RANDOM_DELAY",
    "DBID_UPGRADE_RETRY_DELAY",
]
TEXTS = ["DBID_PRV_CONFIGFILE", "DBID_PROFILE_RULE", "DBID_PROFILE_RULE2", "DBID_UPGRADE_RULE"]


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("", ""),
        ("001565abcdef", "001565abcdef"),
        ("00:15:65:AB:CD:EF", "001565abcdef"),
        ("00-15-65-ab-cd-ef", "001565abcdef"),
        ("0015.65AB.CDEF", "001565abcdef"),
        (" 001565ABCDEF ", "001565abcdef"),
        ("00:00:00:00:00:00", ""),
        ("FFFFFFFFFFFF", ""),
    ],
)
def test_a_mac_address_of_any_spelling_is_twelve_lower_case_digits(text: str, mac: str) -> None:
    assert normal_mac(text) == mac


@pytest.mark.parametrize(
    "text", ["00:15:65:ab:cd", "001565abcdef00", "001565abcdeg", "00 15 65 ab cd ef", "phone", " ", "001565abcdef\n1"]
)
def test_anything_else_is_no_mac_address(text: str) -> None:
    with pytest.raises(InputError, match=r"^not a MAC address: '"):
        normal_mac(text)


@pytest.mark.parametrize(
    ("text", "instance"),
    [
        ("", ""),
        ('"<urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6>"', "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ("<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        (" urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6 ", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ("<>", ""),
    ],
)
def test_an_instance_id_is_compared_without_quotes_brackets_and_case(text: str, instance: str) -> None:
    assert normal_instance(text) == instance


def test_keys_are_the_same_on_every_machine() -> None:
    assert key_of("mac", "001565abcdef") == 9002176428226713101
    assert key_of("a", "b") == 9214550154729315665
    assert key_of("") == 8238016292129134938


@given(st.lists(st.text(st.characters(exclude_categories=["Cc"]), max_size=10), min_size=1, max_size=3))
def test_keys_have_63_bits_and_are_never_zero(parts: list[str]) -> None:
    assert 0 < key_of(*parts) < 2**63


def test_the_parts_of_a_key_are_told_apart() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")


@pytest.mark.parametrize(
    ("instances", "macs", "first"),
    [
        ([], [], []),
        ([0, 0, 0], [0, 0, 0], [0, 1, 2]),  # without either, none is merged
        ([7, 0, 7], [0, 0, 0], [0, 1, 0]),  # the same instance-id
        ([0, 0, 0], [5, 6, 5], [0, 1, 0]),  # the same MAC
        ([7, 7, 0], [0, 5, 5], [0, 0, 0]),  # one by instance-id, the next by MAC
        ([0, 0, 7, 7], [5, 6, 6, 5], [0, 0, 0, 0]),  # transitive over both
        ([7, 8], [5, 5], [0, 0]),
        ([7, 0, 0, 8], [7, 8, 0, 0], [0, 1, 2, 3]),  # an instance-id is never compared with a MAC
    ],
)
def test_bindings_of_one_phone_are_grouped(instances: list[int], macs: list[int], first: list[int]) -> None:
    assert list(group_bindings([array("q", instances), array("q", macs)])) == first


def test_bindings_of_no_column_are_none() -> None:
    assert list(group_bindings([])) == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40))
def test_groups_are_the_connected_bindings_and_are_named_by_their_first(bindings: list[tuple[int, int]]) -> None:
    columns = [array("q", [binding[column] for binding in bindings]) for column in (0, 1)]
    expected = list(range(len(bindings)))
    for _ in bindings:  # the slow way: spread the smallest number until nothing changes
        for left, one in enumerate(bindings):
            for right, other in enumerate(bindings):
                if any(a and a == b for a, b in zip(one, other, strict=True)):
                    expected[left] = expected[right] = min(expected[left], expected[right])
    assert list(group_bindings(columns)) == expected


def test_every_parameter_of_the_manual_is_known_and_no_other() -> None:
    assert sorted(PARAMETERS) == sorted(SEED_PARAMETERS)


@pytest.mark.parametrize("name", SEED_PARAMETERS)
def test_a_parameter_that_is_not_given_says_nothing(name: str) -> None:
    assert parse_profile({name: ""}) == Profile()


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("text", ["0", "1"])
def test_a_switch_takes_0_and_1(name: str, text: str) -> None:
    assert parse_profile({name: text}) == Profile()


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("text", ["2", "yes", "01", "-1"])
def test_a_switch_takes_nothing_else(name: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_profile({name: text})
    assert str(caught.value) == f"{name} is {text!r}, it takes 0 or 1"


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["0", "40", "1440", "3600", "2592000"])
def test_a_number_is_whole_seconds_up_to_thirty_days(name: str, text: str) -> None:
    parse_profile({name: text})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["-1", "1.5", "40s", "2592001", "9" * 40, "\uff11", "1e3", " 1"])
def test_a_number_is_nothing_else(name: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_profile({name: text})
    assert str(caught.value) == f"{name} is {text[:20]!r}, it takes a whole number of at most 2592000"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("0", FromSip.REBOOT_IF_ASKED), ("1", FromSip.ALWAYS_REBOOT), ("2", FromSip.IGNORE)],
)
def test_resync_from_sip_says_what_the_phone_does_on_check_sync(text: str, meaning: FromSip) -> None:
    assert parse_profile({"DBID_RESYNC_FROM_SIP": text}) == Profile(from_sip=meaning)


def test_resync_from_sip_takes_0_1_or_2() -> None:
    with pytest.raises(InputError, match=r"^DBID_RESYNC_FROM_SIP is '3', it takes 0, 1 or 2$"):
        parse_profile({"DBID_RESYNC_FROM_SIP": "3"})


@pytest.mark.parametrize("name", ["DBID_PRV_HTTP_AUTHENTRCATION", "DBID_PRV_HTTP_AUTHENTRCATION2"])
def test_the_type_of_authentication_is_basic_or_digest_also_as_the_manual_misspells_it(name: str) -> None:
    for text in ("Basic", "Digest", "Digests"):
        assert parse_profile({name: text}) == Profile()
    with pytest.raises(InputError) as caught:
        parse_profile({name: "NTLM"})
    assert str(caught.value) == f"{name} is 'NTLM', it takes Basic or Digest"


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_anything(name: str) -> None:
    assert parse_profile({name: "https://prov.example/$(MA).cfg"}) == Profile()


def test_the_two_delays_are_read_and_zero_is_not_the_same_as_not_given() -> None:
    assert parse_profile({"DBID_RANDOM_DELAY": "40", "DBID_RESYNC_DELAY": "1440"}) == Profile(None, 40.0, 1440.0)
    assert parse_profile({"DBID_RANDOM_DELAY": "0"}) == Profile(random_delay=0.0)


def test_the_first_bad_parameter_is_the_one_that_is_named() -> None:
    with pytest.raises(InputError, match=r"^DBID_RESYNC_DELAY is "):
        parse_profile({"DBID_RANDOM_DELAY": "40", "DBID_RESYNC_DELAY": "soon", "DBID_UPGRADE_ENABLED": "7"})
