"""Kamailio as the registrar and proxy between resyncctl and its phones: every way that an admin can point at a phone.

How a NOTIFY travelled is read from the Via header fields that the phone received: the ports of the hops, last hop first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import pytest

from tests.interop.command_line import PhoneRow, Resyncctl
from tests.peers.digest import Credentials, digest_parameters, is_right
from tests.peers.kamailio import Kamailio
from tests.peers.message import TracedMessage
from tests.peers.sipp import SippPhone, answers, challenge_verified, silent

pytestmark = pytest.mark.needs("kamailio", "sipp")


@dataclass(frozen=True, slots=True)
class Site:
    """A registrar with an edge proxy, a phone that is registered directly (100) and through the edge (101)."""

    registrar: Kamailio
    edge: Kamailio
    phone: SippPhone

    @property
    def proxy(self) -> str:
        """The registrar as `--outbound-proxy` takes it."""
        return f"sip:{self.registrar.host}:{self.registrar.port}"

    def exported(self) -> list[PhoneRow]:
        """Return the location table as an admin exports it: AOR, contact and Path."""
        bindings = sorted(self.registrar.contacts(), key=lambda binding: binding.aor)
        return [
            {"aor": f"sip:{binding.aor}@phones.test", "contact": binding.address, "path": binding.path or ""}
            for binding in bindings
        ]


@pytest.fixture
def site() -> Iterator[Site]:
    with Kamailio(relay_timeout=0.8) as registrar, Kamailio() as edge, SippPhone(answers(200)) as phone:
        registrar.register("100", phone.uri("100"))
        registrar.register("101", phone.uri("101"), path=edge.route)
        yield Site(registrar, edge, phone)


def hops(request: TracedMessage) -> list[int]:
    """Return the ports of the Via header fields without the last, which is resyncctl's own."""
    return [int(via.split(";")[0].rpartition(":")[2]) for via in request.headers("Via")[:-1]]


def by_user(received: list[TracedMessage]) -> dict[str, TracedMessage]:
    """Return each request by the user of its Request-URI; a user has one only."""
    found = {message.start_line.partition("sip:")[2].partition("@")[0]: message for message in received}
    assert len(found) == len(received)
    return found


def refusals(proxy: Kamailio, status: int) -> int:
    """Return how often Kamailio itself has answered with that status (RPC `sl.stats`)."""
    return cast("dict[str, int]", proxy.rpc("sl.stats"))[str(status)]


# Ways to a phone


def test_outbound_proxy_and_an_aor_of_a_domain_without_dns_reach_the_phones(site: Site, resyncctl: Resyncctl) -> None:
    rows = [{"aor": "sip:100@phones.test"}, {"aor": "101@phones.test"}]
    rollout = resyncctl.run(rows, "--outbound-proxy", site.proxy)
    received = by_user(site.phone.received())

    assert rollout.exit_status == 0
    assert {row.aor: row.verdict for row in rollout.rows} == {
        "sip:100@phones.test": ("accepted", 200, "OK"),
        "sip:101@phones.test": ("accepted", 200, "OK"),
    }
    assert hops(received["100"]) == [site.registrar.port]
    assert hops(received["101"]) == [site.edge.port, site.registrar.port]  # along the stored Path
    assert received["100"].start_line == f"NOTIFY {site.phone.uri('100')} SIP/2.0"
    assert received["100"].headers("To") == ["<sip:100@phones.test>"]
    assert received["101"].headers("Route") == []


def test_aor_at_the_registrars_address_needs_no_outbound_proxy(site: Site, resyncctl: Resyncctl) -> None:
    rollout = resyncctl.run([{"aor": site.registrar.aor("100")}])
    [request] = site.phone.received()

    assert [row.verdict for row in rollout.rows] == [("accepted", 200, "OK")]
    assert hops(request) == [site.registrar.port]


def test_contact_with_its_path_goes_through_the_edge_and_not_through_the_registrar(
    site: Site, resyncctl: Resyncctl
) -> None:
    rows = site.exported()
    rollout = resyncctl.run(rows)
    received = by_user(site.phone.received())

    assert [row["path"] for row in rows] == ["", site.edge.route]
    assert rollout.counts() == {"accepted": 2}
    assert hops(received["100"]) == []
    assert hops(received["101"]) == [site.edge.port]
    assert received["101"].headers("Route") == []
    assert received["101"].headers("Max-Forwards") == ["69"]


def test_contact_with_an_outbound_proxy_goes_through_the_proxy_and_then_along_its_path(
    site: Site, resyncctl: Resyncctl
) -> None:
    rollout = resyncctl.run(site.exported(), "--outbound-proxy", site.proxy)
    received = by_user(site.phone.received())

    assert rollout.counts() == {"accepted": 2}
    assert hops(received["100"]) == [site.registrar.port]
    assert hops(received["101"]) == [site.edge.port, site.registrar.port]
    assert [message.headers("Route") for message in received.values()] == [[], []]


def test_path_without_angle_brackets_and_through_two_proxies_is_followed_in_order(
    site: Site, resyncctl: Resyncctl
) -> None:
    path = f"sip:127.0.0.1:{site.registrar.port};lr, sip:127.0.0.1:{site.edge.port};lr"
    rollout = resyncctl.run([{"contact": site.phone.uri("102"), "path": path}])
    [request] = site.phone.received()

    assert [row.verdict for row in rollout.rows] == [("accepted", 200, "OK")]
    assert hops(request) == [site.edge.port, site.registrar.port]


def test_proxy_sees_where_the_request_came_from_and_its_answer_comes_back(site: Site, resyncctl: Resyncctl) -> None:
    resyncctl.run([{"aor": site.registrar.aor("100")}])
    [request] = site.phone.received()
    ours = request.headers("Via")[-1]
    port = ours.partition(";")[0].rpartition(":")[2]

    assert f";rport={port}" in ours  # RFC 3581: filled in by the proxy, so it was there
    assert ";received=127.0.0.1" in ours


def test_unknown_aor_is_rejected_and_a_dead_phone_unreachable_by_the_proxys_word(
    site: Site, resyncctl: Resyncctl
) -> None:
    with SippPhone(silent()) as dead:
        site.registrar.register("102", dead.uri("102"))
        rows = [{"aor": site.registrar.aor(user)} for user in ("100", "102", "999")]
        rollout = resyncctl.run(rows, "--attempts", "1")

        assert rollout.exit_status == 1
        assert [rollout.row(row["aor"]).verdict for row in rows] == [
            ("accepted", 200, "OK"),
            ("unreachable", 408, "Request Timeout"),
            ("rejected", 404, "Not Found"),
        ]
        assert rollout.counts("responses") == {"200": 1, "404": 1, "408": 1}
        assert [message.header("Call-ID") for message in dead.received()] == [dead.received()[0].header("Call-ID")] * 2


def test_unknown_aor_is_not_tried_again_but_a_dead_phone_is(site: Site, resyncctl: Resyncctl) -> None:
    with SippPhone(silent()) as dead:
        site.registrar.register("102", dead.uri("102"))
        rows = [{"aor": site.registrar.aor(user)} for user in ("102", "999")]
        rollout = resyncctl.run(rows, "--attempts", "2", "--retry-delay", "100ms")

        assert [rollout.row(row["aor"]).attempts for row in rows] == [2, 1]
        assert len({message.header("Call-ID") for message in dead.received()}) == 2
        assert refusals(site.registrar, 404) == 1


def test_proxy_that_is_down_makes_every_phone_behind_it_unreachable(site: Site, resyncctl: Resyncctl) -> None:
    site.edge.stop()
    rollout = resyncctl.run(site.exported(), "--attempts", "1", within=10.0)

    assert [row.verdict for row in sorted(rollout.rows, key=lambda row: row.aor)] == [
        ("accepted", 200, "OK"),
        ("unreachable", 0, "refused: nothing listens at that port"),
    ]


def test_retry_goes_through_the_same_outbound_proxy(site: Site, resyncctl: Resyncctl) -> None:
    rows = [{"aor": "sip:100@phones.test"}, {"aor": "sip:103@phones.test"}]
    first = resyncctl.run(rows, "--outbound-proxy", site.proxy)
    site.registrar.register("103", site.phone.uri("103"))
    second = resyncctl.retry(first.id)

    assert first.row("sip:103@phones.test").verdict == ("rejected", 404, "Not Found")
    assert [(row.aor, row.verdict) for row in second.rows] == [("sip:103@phones.test", ("accepted", 200, "OK"))]
    assert sorted(by_user(site.phone.received())) == ["100", "103"]


# Authentication


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("qop", [True, False])
def test_kamailio_accepts_our_answer_to_its_407(
    resyncctl: Resyncctl, algorithm: Literal["MD5", "SHA-256"], qop: bool
) -> None:
    proxy = Kamailio(authenticate_notify=True, algorithm=algorithm, qop=qop)
    with proxy as registrar, SippPhone(answers(200)) as phone:
        for user in ("100", "101", "102"):
            registrar.register(user, phone.uri(user))
        right = {"aor": registrar.aor("100"), "auth_username": "100", "auth_password": registrar.password}
        wrong = {"aor": registrar.aor("101"), "auth_username": "101", "auth_password": "guess"}
        none = {"aor": registrar.aor("102")}
        rollout = resyncctl.run([right, wrong, none])

        assert rollout.exit_status == 1
        assert [(rollout.row(row["aor"]).state, rollout.row(row["aor"]).status) for row in (right, wrong, none)] == [
            ("accepted", 200),
            ("unauthorized", 407),
            ("unauthorized", 407),
        ]
        assert [row.attempts for row in rollout.rows] == [1, 1, 1]
        assert refusals(registrar, 407) == 1 + 2 + 1  # a wrong password ends after one retry
        [request] = phone.received()
        assert request.header("CSeq") == "2 NOTIFY"
        assert request.header("Proxy-Authorization") is None  # Kamailio keeps it to itself


def test_proxy_and_phone_that_both_challenge_are_both_answered(resyncctl: Resyncctl) -> None:
    with (
        Kamailio(authenticate_notify=True) as registrar,
        SippPhone(challenge_verified(Credentials("100", "open-sesame"))) as phone,
    ):
        registrar.register("100", phone.uri("100"))
        row = {"aor": registrar.aor("100"), "auth_username": "100", "auth_password": registrar.password}
        rollout = resyncctl.run([row])
        first, second = phone.received()

        assert rollout.rows[0].verdict == ("accepted", 200, "OK")
        assert [message.header("CSeq") for message in (first, second)] == ["2 NOTIFY", "3 NOTIFY"]
        assert first.header("Authorization") is None
        assert digest_parameters(second.header("Authorization") or "")["realm"] == "phone.test"
        assert is_right(second.header("Authorization") or "", Credentials("100", "open-sesame"))
        assert refusals(registrar, 407) == 1  # our answer to the proxy stayed in the third request (RFC 3261 22.3)


def test_credentials_go_through_an_outbound_proxy_with_a_host_name_for_a_contact_too(resyncctl: Resyncctl) -> None:
    with Kamailio(authenticate_notify=True, algorithm="SHA-256") as proxy, SippPhone(answers(200)) as phone:
        known = {"auth_username": "100", "auth_password": proxy.password}
        row = {"aor": "sip:100@phones.test", "contact": phone.uri("100"), **known}
        rollout = resyncctl.run([row], "--outbound-proxy", f"sip:localhost:{proxy.port};lr")

        assert rollout.rows[0].verdict == ("accepted", 200, "OK")
        assert hops(phone.received()[0]) == [proxy.port]
