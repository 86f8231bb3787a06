"""UDP, TCP and TLS, IPv4 and IPv6, through Kamailio and straight to PJSIP phones; certificates that are not in order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.interop.command_line import PhoneRow, Resyncctl, Rollout
from tests.peers.certificates import Certificates
from tests.peers.kamailio import Kamailio, why_no_tls
from tests.peers.message import TracedMessage
from tests.peers.pjsip_phone import PjsipPhone
from tests.peers.plain_client import Transport, host_port
from tests.peers.ports import free_port
from tests.peers.sipp import SippPhone, answers
from tests.peers.together import start_together

pytestmark = pytest.mark.needs("kamailio", "pjsua2", "sipp", "openssl")

Socket = tuple[Transport, bool]
"""A transport, and whether it is that of IPv6."""
SOCKETS: list[Socket] = [(transport, ipv6) for transport in ("udp", "tcp", "tls") for ipv6 in (False, True)]
ACCEPTED = ("accepted", 200, "OK")
ENGINES = ("asyncio", "pjsua2")
ONCE = ("--attempts", "1", "--timeout", "5s")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if (reason := why_no_tls()) is not None:
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return Certificates(tmp_path_factory.getbasetemp() / "certificates")


@dataclass(frozen=True, slots=True)
class Office:
    """A registrar with six sockets, and at each a phone that is registered over it."""

    registrar: Kamailio
    phones: Mapping[Socket, PjsipPhone]
    ca: str

    def heard(self) -> dict[Socket, list[TracedMessage]]:
        """Return the NOTIFYs of each phone."""
        return {socket: phone.received() for socket, phone in self.phones.items()}

    def exported(self) -> list[PhoneRow]:
        """Return the phones as a list of AORs."""
        return [{"aor": f"sip:{phone.user}@phones.test"} for phone in self.phones.values()]


@pytest.fixture(scope="module")
def office(certificates: Certificates) -> Iterator[Office]:
    with ExitStack() as stack:
        registrar = stack.enter_context(Kamailio(tls=certificates.right, ipv6=True))
        phones: dict[Socket, PjsipPhone] = {
            (transport, ipv6): PjsipPhone(
                f"{transport}{6 if ipv6 else 4}",
                registrar=registrar.listener(transport, ipv6=ipv6).address,
                transport=transport,
                ca=certificates.ca,
                tls=certificates.right,
            )
            for transport, ipv6 in SOCKETS
        }
        start_together(stack, list(phones.values()))
        yield Office(registrar, phones, str(certificates.ca))


def sent_by(request: TracedMessage) -> tuple[str, str]:
    """Return transport and address of our own Via header field, the last one."""
    protocol, _, address = request.headers("Via")[-1].partition(";")[0].partition(" ")
    return protocol.removeprefix("SIP/2.0/"), address


# Through the registrar


@pytest.mark.parametrize(("transport", "ipv6"), SOCKETS)
def test_every_phone_is_notified_on_its_own_connection_whatever_leads_to_the_registrar(
    office: Office, resyncctl: Resyncctl, transport: Transport, ipv6: bool
) -> None:
    ours = office.registrar.listener(transport, ipv6=ipv6)
    connections, known = office.registrar.connections(), office.heard()
    rollout = resyncctl.run(office.exported(), "--outbound-proxy", ours.uri(), "--tls-ca", office.ca, *ONCE)

    assert rollout.exit_status == 0
    assert [(row.verdict, row.attempts) for row in rollout.rows] == [(ACCEPTED, 1)] * len(SOCKETS)
    for socket, phone in office.phones.items():
        theirs = office.registrar.listener(socket[0], ipv6=socket[1])
        [request] = phone.wait_for(len(known[socket]) + 1)[len(known[socket]) :]
        assert request.source == host_port(theirs.address)  # one that Kamailio had opened would have another port
        assert [via.partition(";")[0] for via in request.headers("Via")[:-1]] == [
            f"SIP/2.0/{socket[0].upper()} {host_port(theirs.address)}"
        ]
        assert sent_by(request)[0] == transport.upper()
        assert sent_by(request)[1].startswith("[::1]:" if ipv6 else "127.0.0.1:")
    office.registrar.wait_until(
        lambda: set(office.registrar.connections()) == set(connections), "closing our connection and no other"
    )


# Straight to phones that listen


@dataclass(frozen=True, slots=True)
class Straight:
    """A rollout to the phones where they listen, two AORs each; what each of them received of it."""

    rollout: Rollout
    heard: Mapping[str, list[TracedMessage]]


@pytest.fixture(scope="module", params=ENGINES)
def straight(
    office: Office,
    certificates: Certificates,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Straight]:
    secure = PjsipPhone("sips4", transport="tls", tls=certificates.right, sips=True)
    with secure:
        phones = [*office.phones.values(), secure]
        known = {phone.user: len(phone.received()) for phone in phones}
        rows: list[PhoneRow] = [
            {"aor": f"sip:{number}@phones.test", "contact": phone.uri.replace(phone.user, number)}
            for phone in phones
            for number in (phone.user, f"9{phone.user}")
        ]
        resyncctl = Resyncctl(tmp_path_factory.mktemp("straight"))
        rollout = resyncctl.run(rows, "--tls-ca", office.ca, "--engine", str(request.param), *ONCE)
        yield Straight(rollout, {phone.user: phone.received()[known[phone.user] :] for phone in phones})


def test_a_phone_that_listens_is_reached_straight_over_the_transport_of_its_contact(straight: Straight) -> None:
    assert [(row.verdict, row.attempts) for row in straight.rollout.rows] == [(ACCEPTED, 1)] * 14
    assert straight.rollout.exit_status == 0
    for user, requests in straight.heard.items():
        assert [
            request.start_line.partition("@")[0] for request in sorted(requests, key=lambda one: one.start_line)
        ] in (
            [f"NOTIFY sip:9{user}", f"NOTIFY sip:{user}"],
            [f"NOTIFY sips:9{user}", f"NOTIFY sips:{user}"],
        )
        assert {sent_by(request)[0] for request in requests} == {"TLS" if user[:3] == "sip" else user[:3].upper()}


def test_two_requests_to_one_phone_share_a_connection_and_say_truly_where_they_come_from(straight: Straight) -> None:
    for requests in straight.heard.values():
        [address] = {sent_by(request)[1] for request in requests}
        assert {request.source for request in requests} == {address}


# Larger than a datagram should be


@pytest.mark.parametrize("engine", ENGINES)
def test_a_large_request_goes_over_tcp_and_over_udp_where_that_is_not_spoken(resyncctl: Resyncctl, engine: str) -> None:
    port = free_port()
    with ExitStack() as stack:
        on_udp, on_tcp = SippPhone(answers(200), port=port), SippPhone(answers(200), port=port, transport="tcp")
        only_udp, proxy = SippPhone(answers(200)), Kamailio()
        start_together(stack, [on_udp, on_tcp, only_udp, proxy])
        rows: list[PhoneRow] = [
            {"aor": "sip:100@phones.test", "contact": on_udp.uri("100")},
            {"aor": "sip:101@phones.test", "contact": only_udp.uri("101")},
            {"aor": "sip:102@phones.test", "contact": only_udp.uri("102"), "path": proxy.route},
        ]
        rollout = resyncctl.run(rows, "--from", f"sip:{'resync' * 200}@pbx.test", "--engine", engine, *ONCE)
        [over_tcp] = on_tcp.received()
        fallen_back, proxied = sorted(only_udp.received(), key=lambda request: request.start_line)

        assert [(row.verdict, row.attempts) for row in rollout.rows] == [(ACCEPTED, 1)] * 3
        assert on_udp.received() == []
        assert len(over_tcp.text) > 1300
        assert [sent_by(request)[0] for request in (over_tcp, fallen_back, proxied)] == ["TCP", "UDP", "TCP"]
        assert (over_tcp.header("Contact") or "").endswith(";transport=tcp>")
        assert "transport=" not in (fallen_back.header("Contact") or "")
        assert len(proxied.headers("Via")) == 2


# Certificates


@dataclass(frozen=True, slots=True)
class Guarded:
    """A phone list: the same phone behind proxies, each with another fault of its TLS."""

    rows: list[PhoneRow]
    certificates: Certificates
    phone: SippPhone

    def run(self, resyncctl: Resyncctl, *options: str) -> dict[str, tuple[str, int, str]]:
        """Return the verdict on each proxy; nothing may hang and nothing be tried twice."""
        rollout = resyncctl.run(self.rows, *ONCE, *options, within=20.0)
        assert {row.attempts for row in rollout.rows} == {1}
        assert rollout.exit_status == (0 if rollout.states() == {"accepted": len(self.rows)} else 1)
        return {row.aor.removeprefix("sip:").removesuffix("@phones.test"): row.verdict for row in rollout.rows}

    def reached(self) -> list[str]:
        """Return the users whose NOTIFY the phone has received."""
        return sorted(request.start_line.partition("sip:")[2].partition("@")[0] for request in self.phone.received())


@pytest.fixture(scope="module")
def guarded(certificates: Certificates) -> Iterator[Guarded]:
    right = Kamailio(tls=certificates.right)
    strict = Kamailio(tls=certificates.right, clients_signed_by=certificates.ca)
    wrong_name, expired, self_signed = (
        Kamailio(tls=one) for one in (certificates.wrong_name, certificates.expired, certificates.self_signed)
    )
    old = PjsipPhone("old", transport="tls", tls=certificates.right, tls_version="1.1")
    phone = SippPhone(answers(200))
    proxies = {
        "right": right,
        "wrong_name": wrong_name,
        "expired": expired,
        "self_signed": self_signed,
        "strict": strict,
    }
    with ExitStack() as stack:
        start_together(stack, [*proxies.values(), old, phone])
        rows: list[PhoneRow] = [
            {"aor": f"sip:{name}@phones.test", "contact": phone.uri(name), "path": proxy.listener("tls").route}
            for name, proxy in proxies.items()
        ]
        yield Guarded([*rows, {"aor": "sip:old@phones.test", "contact": old.uri}], certificates, phone)


NO_TLS = ("unreachable", 0, "TLS: the handshake failed")
NOT_TRUSTED = ("unreachable", 0, "TLS: the certificate is of nobody we trust")


def test_a_certificate_that_is_not_in_order_is_named_in_the_results_and_nothing_is_sent(
    guarded: Guarded, resyncctl: Resyncctl
) -> None:
    before = len(guarded.reached())
    assert guarded.run(resyncctl, "--tls-ca", str(guarded.certificates.ca)) == {
        "right": ACCEPTED,
        "wrong_name": ("unreachable", 0, "TLS: the certificate is for another name"),
        "expired": ("unreachable", 0, "TLS: the certificate has expired"),
        "self_signed": NOT_TRUSTED,
        "strict": NO_TLS,
        "old": NO_TLS,
    }
    assert guarded.reached()[before:] == ["right"]


def test_nobody_is_trusted_whom_the_system_does_not_know(guarded: Guarded, resyncctl: Resyncctl) -> None:
    before = guarded.reached()
    verdicts = guarded.run(resyncctl)

    assert verdicts.pop("old") == NO_TLS
    assert set(verdicts.values()) == {NOT_TRUSTED}
    assert guarded.reached() == before


def test_any_certificate_will_do_without_verification_and_ours_is_shown_to_who_asks(
    guarded: Guarded, resyncctl: Resyncctl
) -> None:
    own = guarded.certificates.client
    before = len(guarded.reached())
    verdicts = guarded.run(resyncctl, "--tls-no-verify", "--tls-cert", str(own.certificate), "--tls-key", str(own.key))

    assert {name for name, verdict in verdicts.items() if verdict == ACCEPTED} == {
        "right",
        "wrong_name",
        "expired",
        "self_signed",
        "strict",
    }
    assert verdicts["old"] == NO_TLS
    assert len(guarded.reached()) == before + 5
