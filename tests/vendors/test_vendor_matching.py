"""Which make a User-Agent is: every known string, the traps of the order, and hostile text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resyncctl.vendors import Catalogue
from resyncctl.vendors.patterns import USER_AGENT_LIMIT, WAYS_LIMIT, ways


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load()


def matched(catalogue: Catalogue, user_agent: str) -> str | None:
    vendor = catalogue.match(user_agent)
    return None if vendor is None else vendor.id


def test_every_example_of_the_catalogue_is_its_own_vendors(catalogue: Catalogue) -> None:
    examples = {vendor.id: vendor.example for vendor in catalogue if vendor.example is not None}
    assert {vendor_id: matched(catalogue, example) for vendor_id, example in examples.items()} == {
        vendor_id: vendor_id for vendor_id in examples
    }
    assert len(examples) == 31


@pytest.mark.parametrize(
    ("user_agent", "vendor_id"),
    [
        ("Yealink SIP-T46U 108.86.0.20", "yealink"),
        ("Yealink SIP-T53W 96.86.0.45", "yealink"),
        ("VP530P 23.70.0.40 00:15:65:11:22:33", "yealink"),
        ("W52P 25.30.0.20 00:15:65:11:22:33", "yealink"),
        ("PolyEdge-Edge_E350-UA/8.3.1.0614_f04ea4691c59", "poly_edge"),
        ("PolycomVVX-VVX_450-UA/6.4.2.1234", "polycom"),
        ("PolycomSoundPointIP-SPIP_670-UA/4.0.7.2514", "polycom"),
        ("PolycomVVX-VVX_400-UA/4.1.4.7430_010203040506", "polycom"),
        ("Polycom/5.5.0.23866 PolycomVVX-VVX_501-UA/5.5.0.23866", "polycom"),
        ("Mozilla/4.0 (compatible; Snom M900 05.20.0001 000413b60680)", "snom_dect"),
        ("snomD862/10.1.226.13", "snom"),
        ("Grandstream GRP2615 1.0.13.122", "grandstream"),
        ("Grandstream HT801 1.0.3.2", "grandstream"),
        ("Cisco-CP-6841-3PCC/11.1.1 (00727826a4e1) (sip68xx.11-1-1MPP-897.loads)", "cisco_mpp"),
        ("Cisco-CP-7821-3PCC/11.0.0", "cisco_mpp"),
        ("Cisco/ATA192-MPP-11-1-0", "cisco_mpp"),
        ("Cisco/SPA504G-7.5.2", "cisco_spa"),
        ("Cisco/SPA122-1.3.5(004p)", "cisco_spa"),
        ("Linksys/SPA922-6.1.5", "cisco_spa"),
        ("Linksys/PAP2T-3.1.16(LS)", "cisco_spa"),
        ("Cisco-CP7960G/8.0", "cisco_7960"),
        ("Cisco-CP7912/8.0.1-060412A", "cisco_7960"),
        ("Cisco-CP7821/10.3.1", "cisco_enterprise"),
        ("Cisco-CP3905/9.4.1", "cisco_enterprise"),
        ("Fanvil X5U 2.12.15", "fanvil"),
        ("DX800A/41.175.00.000.000", "gigaset"),
        ("N510 IP PRO/42.258.00.000.000", "gigaset"),
        ("Gigaset N870 IP PRO/83.V2.11.0+build.a546b91;7C2F80E0D605", "gigaset"),
        ("Mitel-5320-SIP-Phone 06.05.00.11 010203040506", "mitel53"),
        ("Aastra 6865i/4.2.0.2023", "aastra_mitel"),
        ("Mitel6920 MAC:14-00-E9-1F-03-EA V:6.4.0.140-SIP", "aastra_mitel"),
        ("Panasonic_KX-UT670/01.022 (0080f000000)", "panasonic"),
        ("Htek UC926 2.0.4.2 00:1f:c1:00:00:00", "htek"),
        ("Digium D65 2_9_19", "digium"),
        ("Sangoma S305 V3.0.4.72", "sangoma"),
        ("OBIHAI/OBi1020-5.0.0.3201", "obihai"),
        ("Audiocodes-Sip-Gateway-MP-124 FXS/v.6.00A.034.003", "audiocodes_gw"),
        ("AUDC-IPPhone/2.2.8.61 (440HDG-Rev0; 00908F602AAC)", "audiocodes_phone"),
        ("AVAYA/SIP12x0\x17/04.00.04.00", "avaya_1200"),
        ("Mozilla/4.0 (compatible; MSIE 6.0) AVAYA/J179-4.1.3.0.6 (MAC:c81fea83e85a)", "avaya_j100"),
        ("Alcatel IP Touch 4068/2.01.20", "alcatel_iptouch"),
        ("ALE 8028s-GE 1.51.52.2204 487a55023075", "alcatel_ale"),
        ("ALE M3-CE 2.11.01.1604 3c28a620089e", "alcatel_ale"),
        ("OpenStage_40_V3 R5.13.0      SIP  190111", "unify"),
        ("SmartNode (Model:SN4112/JS/EUI; Serial:00A0BA08933C; Hardware Version:4.4)", "patton"),
        ("THOMSON ST2030 hw5 fw2.74 00-14-7F-E1-47-B3", "technicolor"),
        ("Algo-8186/1.7", "algo"),
        ("ES320VN2 v4.0", "escene"),
        ("Bittel HA9888", "bittel"),
        ("Flyingvoice FIP13G V0.6.24 00:21:F2:22:AE:F1", "flyingvoice"),
    ],
)
def test_user_agent_names_its_vendor(catalogue: Catalogue, user_agent: str, vendor_id: str) -> None:
    assert matched(catalogue, user_agent) == vendor_id


@pytest.mark.parametrize(
    ("user_agent", "vendor_id"),
    [
        ("Linksys/SPA8000-6.1.12", "cisco_spa8000"),
        ("Cisco/SPA8000-6.1.12", "cisco_spa8000"),
        ("Cisco-CP-8841-3PCC/11.3.1", "cisco_mpp"),
        ("Cisco-CP8841-3PCC/11.3.1", "cisco_mpp"),
        ("Cisco-CP8841/12.8.1", "cisco_enterprise"),
        ("Cisco-CP7940G/8.0", "cisco_7960"),
        ("Cisco-CP7941G/9.4.2", "cisco_enterprise"),
        ("snom-m9/9.6.6-a", "snom_dect"),
        ("snom m9/9.6.6-a", "snom_dect"),
        ("Snom M300 05.10", "snom_dect"),
        ("snomM300/05.10", "snom_dect"),
        ("snom360/8.7.3.25.5", "snom"),
        ("snomMP/7.1.30", "snom"),
        ("AVAYA/SIP11x0/04.00", "avaya_1200"),
        ("AVAYA/J129-4.0", "avaya_j100"),
        ("PolyEdge-Edge_B20-UA/1.0", "poly_edge"),
        ("Mitel 6867i/5.0", "aastra_mitel"),
    ],
)
def test_the_narrow_pattern_comes_before_the_wide_one(catalogue: Catalogue, user_agent: str, vendor_id: str) -> None:
    assert matched(catalogue, user_agent) == vendor_id


@pytest.mark.parametrize(
    ("user_agent", "vendor_id"),
    [
        ("aabbccddeeff Linksys/PAP2-3.1.9(LSc)", "cisco_spa"),
        ("aabbccddeeff Linksys/SPA8000-5.1.9", "cisco_spa8000"),
        ("AABBCCDDEEFF Cisco/ATA191-MPP-11-2-1", "cisco_mpp"),
        ("aabbccddeeff Cisco-CP-8851-3PCC/11.3.2", "cisco_mpp"),
    ],
)
def test_a_mac_before_the_make_is_no_obstacle(catalogue: Catalogue, user_agent: str, vendor_id: str) -> None:
    assert matched(catalogue, user_agent) == vendor_id


@pytest.mark.parametrize(
    "user_agent",
    ["", "Zoiper rv2.10", "Linphone/4.4", "Asterisk PBX 20.5", "venomsnomless", "PolycomVVX", "algorithm 1.0"],
)
def test_what_no_pattern_knows_is_no_vendor(catalogue: Catalogue, user_agent: str) -> None:
    assert matched(catalogue, user_agent) is None


def test_oem_phone_that_only_says_sip_t46_is_a_yealink(catalogue: Catalogue) -> None:
    assert matched(catalogue, "Acme SIP-T46S 66.84.0.15") == "yealink"


def test_letter_case_does_not_matter(catalogue: Catalogue) -> None:
    assert matched(catalogue, "GRANDSTREAM gxp2135") == "grandstream"


def test_only_the_beginning_of_a_long_user_agent_is_looked_at(catalogue: Catalogue) -> None:
    assert USER_AGENT_LIMIT == 256
    assert matched(catalogue, "x" * 200 + " Grandstream") == "grandstream"
    assert matched(catalogue, "x" * 256 + " Grandstream") is None


def test_remembered_matches_stay_bounded(catalogue: Catalogue) -> None:
    for number in range(5000):
        assert matched(catalogue, f"Htek UC926 2.0.4.2 {number:012x}") == "htek"
    assert catalogue._remembered.cache_info().currsize == 4096


@pytest.mark.parametrize(
    "hostile",
    [
        "polycom" * 150_000,
        "Cisco-" + "3PC" * 300_000,
        "Cisco-CP-8841" + "A" * 1_000_000,
        "-3PCC" * 200_000,
        "snom M12" * 125_000,
        " Cisco/SP" * 110_000,
        "a" * 1_000_000,
        "\x00" * 1_000_000,
        "\u017f" * 1_000_000,
    ],
    ids=["polycom", "3pc", "cp", "3pcc", "snom", "spa", "letters", "nul", "long-s"],
)
def test_a_million_hostile_characters_take_no_time(hostile: str) -> None:
    catalogue = Catalogue.load()  # a fresh one: nothing is remembered
    started = time.perf_counter()
    catalogue.match(hostile)
    assert time.perf_counter() - started < 0.05


@given(user_agent=st.text())
def test_any_text_can_be_matched(catalogue: Catalogue, user_agent: str) -> None:
    assert catalogue.match(user_agent) in {None, *catalogue}


@given(
    before=st.text(max_size=20),
    make=st.sampled_from(
        ["yealink", "Polycom-UA/", "snom M", "Cisco-CP-", "Linksys/", "Mitel-", "AVAYA/", "ALE ", "ES3"]
    ),
    after=st.text(max_size=20),
)
def test_any_text_around_a_make_can_be_matched(catalogue: Catalogue, before: str, make: str, after: str) -> None:
    assert catalogue.match(before + make + after) in {None, *catalogue}


def test_every_pattern_of_the_catalogue_has_bounded_work(catalogue: Catalogue) -> None:
    work = {vendor.id: ways(vendor.pattern) for vendor in catalogue if vendor.pattern is not None}
    assert {vendor_id: number for vendor_id, number in work.items() if number > 50} == {
        "polycom": 256,
        "cisco_mpp": 1027,
    }
    assert WAYS_LIMIT == 4096


@pytest.mark.parametrize(
    ("pattern", "number"),
    [
        ("snom", 1),
        ("(?i)snom", 1),
        (r"a?b", 2),
        (r"\d{2}", 1),
        (r"\d{1,3}", 3),
        (r"\d{,3}", 4),
        (r"\d{1,}", 256),
        (r"\S*x", 256),
        (r"\S+x\S+", 65536),
        ("a|b?|c", 4),
        ("(?:a|b)?c", 4),
        ("(?:a|a)(?:a|a)", 4),
        (r"[]*+?(]x", 1),
        (r"[^]*]x?", 2),
        (r"[\]*]", 1),
        (r"\*\(\?", 1),
    ],
)
def test_ways_of_a_pattern_are_counted(pattern: str, number: int) -> None:
    assert ways(pattern) == number


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(a+)+x", "repeats a group"),
        ("(?:ab)*", "repeats a group"),
        ("(?:a?){30}", "repeats a group"),
        (r"(a)\1", "back-reference"),
        ("(?=a)a", "group other than"),
        ("(?P<n>a)", "group other than"),
        ("(?s)a", "leading"),
        ("a{b", "opens no repeat"),
        ("a{,}", "opens no repeat"),
    ],
)
def test_a_pattern_whose_work_cannot_be_bounded_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ways(pattern)
