"""Answers in shares, who gets which, and which events make which phone reboot."""

from __future__ import annotations

import pytest

from resyncctl.errors import InputError
from resyncctl.sim.behaviour import Behaviour, Share, deal, event_kind, known_kinds, parse_answers, reboots
from resyncctl.vendors import Catalogue

CATALOGUE = Catalogue.load()


def test_answers_are_read_with_their_shares() -> None:
    assert parse_answers("200:90%, 404:5%,silent:5%") == (Share(200, 0.9), Share(404, 0.05), Share(0, 0.05))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("200", (Share(200, 1.0),)), ("200,480:25%", (Share(200, 0.75), Share(480, 0.25))), ("SILENT", (Share(0, 1.0),))],
)
def test_an_answer_without_a_share_gets_the_rest(text: str, expected: tuple[Share, ...]) -> None:
    assert parse_answers(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no final answer; write a code from 200 to 699, or silent"),
        ("ok:100%", "'ok' is no final answer"),
        ("180:100%", "'180' is no final answer"),
        ("700", "'700' is no final answer"),
        ("²00", "'²00' is no final answer"),
        ("401:100%", "401 needs a challenge"),
        ("200:90", "'90' is no share; write a percentage"),
        ("200:%", "'%' is no share"),
        ("200:-5%", "'-5%' is no share"),
        ("200:nan%", "'nan%' is no share"),
        ("200:²%", "'²%' is no share"),
        ("200:101%", "'101%' is no share"),
        ("200:90%,404:5%", "the shares add up to 95%, not 100%"),
        ("200:90%,404:20%", "the shares add up to 110%, not 100%"),
        ("200:60%,404:60%,486", "the shares add up to 120%, not 100%"),
        ("200,404", "2 answers have no share, one may"),
        ("200:50%,200:50%", "200 is there twice"),
        (",".join(["200:1%"] * 1000), "200 is there twice"),
    ],
)
def test_bad_answers_are_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_answers(text)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ({"loss": 1.5}, "loss is 1.5"),
        ({"mute_on_reboot": -0.1}, "mute_on_reboot is -0.1"),
        ({"delay": (2.0, 1.0)}, "delay is 2 to 1 seconds"),
        ({"boot_time": (-1.0, 1.0)}, "boot_time is -1 to 1 seconds"),
        ({"boot_time": (1.0, float("inf"))}, "boot_time is 1 to inf seconds"),
        ({"answers": (Share(200, 0.5),)}, "do not add up"),
        ({"answers": (Share(200, 1.5), Share(404, -0.5))}, "one is below 0"),
        ({"overloaded": -1}, "overloaded and retry_after"),
    ],
)
def test_a_behaviour_that_makes_no_sense_is_refused(behaviour: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Behaviour(**behaviour)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 3, 10, 99, 1000])
def test_shares_are_dealt_to_within_one(count: int) -> None:
    groups = deal([f"phone {n}" for n in range(count)], [0.9, 0.05, 0.05], seed=7)
    for group, share in enumerate([0.9, 0.05, 0.05]):
        assert abs(groups.count(group) - share * count) <= 1


def test_the_deal_depends_on_seed_and_name_and_not_on_order() -> None:
    names = [f"phone {n}" for n in range(100)]
    dealt = dict(zip(names, deal(names, [0.5, 0.5], seed=7), strict=True))
    backwards = names[::-1]
    assert dict(zip(backwards, deal(backwards, [0.5, 0.5], seed=7), strict=True)) == dealt
    assert dict(zip(names, deal(names, [0.5, 0.5], seed=8), strict=True)) != dealt


def test_event_kinds_are_those_of_the_catalogue() -> None:
    kinds = known_kinds(CATALOGUE)
    assert {"check-sync", "resync", "reboot_now", "reboot", "service-control"} <= kinds
    assert "presence" not in kinds
    assert event_kind(" Check-Sync ;reboot=true") == "check-sync"


@pytest.mark.parametrize(
    ("vendor", "event", "expected"),
    [
        (None, "check-sync", False),
        (None, "check-sync;reboot=true", True),
        (None, "check-sync; Reboot=TRUE ;x", True),
        (None, "check-sync;reboot=false", False),
        ("cisco_spa", "reboot_now", True),
        ("cisco_spa", "resync", False),
        ("obihai", "resync", True),
        ("digium", "check-sync", True),
        ("yealink", "check-sync;reboot=false", False),
        ("polycom", "check-sync", False),
    ],
)
def test_a_phone_reboots_when_asked_or_when_its_make_always_does(
    vendor: str | None, event: str, expected: bool
) -> None:
    make = CATALOGUE.get(vendor) if vendor else None
    assert (make is None) == (vendor is None)
    assert reboots(make, event, "") is expected


def test_the_same_event_reboots_or_not_by_its_body() -> None:
    cisco = CATALOGUE.get("cisco_enterprise")
    assert reboots(cisco, "service-control", "action=reset\r\nRegisterCallId={abc}\r\n")
    assert not reboots(cisco, "service-control", "action=restart\nRegisterCallId={abc}\n")
