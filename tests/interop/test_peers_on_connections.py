"""The peers of tests/peers over TCP, TLS and IPv6 do what other tests rely on, proved with requests written by hand.

What they really do is asserted here, as in test_peers.py: with Kamailio 5.6.3, PJSIP 2.15.1, baresip 1.0, SIPp 3.6.1.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.baresip import BaresipPhone
from tests.peers.certificates import NAME, Certificates
from tests.peers.kamailio import Kamailio, why_no_tls
from tests.peers.pjsip_phone import PjsipPhone
from tests.peers.plain_client import PlainClient, Transport, host_port
from tests.peers.ports import udp_port_is_open
from tests.peers.process import PeerError
from tests.peers.sipp import SippPhone, answers, trying_then_ok

CONNECTED: list[Transport] = ["tcp", "tls"]
HOSTS = {False: "127.0.0.1", True: "::1"}
HIDDEN = "192.0.2.7:5060"
"""The contact address of a phone behind a NAT: nobody can connect to it (RFC 5737)."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if (reason := why_no_tls()) is not None:
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return Certificates(tmp_path_factory.getbasetemp() / "certificates")


@pytest.fixture(scope="module")
def registrar(certificates: Certificates) -> Iterator[Kamailio]:
    """One registrar for all tests that use users of their own."""
    with Kamailio(tls=certificates.right, ipv6=True, relay_timeout=0.8) as kamailio:
        yield kamailio


@pytest.fixture
def client() -> Iterator[PlainClient]:
    with PlainClient() as plain:
        yield plain


def connected(host: str, transport: Transport, certificates: Certificates) -> PlainClient:
    """Return a plain client for that transport, which trusts the authority of the tests."""
    return PlainClient(host, transport=transport, context=certificates.context() if transport == "tls" else None)


# Certificates


@pytest.mark.needs("kamailio", "openssl")
@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [("wrong_name", "127.0.0.1", 64), ("wrong_name", NAME, 62), ("expired", NAME, 10), ("self_signed", NAME, 18)],
)
def test_client_that_trusts_the_authority_refuses_a_certificate_for_its_one_fault(
    certificates: Certificates, kind: str, name: str, code: int
) -> None:
    shown = {"wrong_name": certificates.wrong_name, "expired": certificates.expired}
    with Kamailio(tls=shown.get(kind, certificates.self_signed)) as proxy:
        listener = proxy.listener("tls")
        client = PlainClient(transport="tls", context=certificates.context(), name=name)
        with client, pytest.raises(ssl.SSLCertVerificationError) as refused:
            client.connect(listener.address)

    assert refused.value.verify_code == code


@pytest.mark.needs("kamailio", "openssl")
@pytest.mark.parametrize(("ipv6", "name"), [(False, None), (True, None), (False, NAME)])
def test_right_certificate_is_accepted_by_address_and_by_name(
    registrar: Kamailio, certificates: Certificates, ipv6: bool, name: str | None
) -> None:
    listener = registrar.listener("tls", ipv6=ipv6)
    with PlainClient(HOSTS[ipv6], transport="tls", context=certificates.context(), name=name) as client:
        assert client.exchange(client.compose("OPTIONS", listener.uri()), listener.address).status == 200


@pytest.mark.needs("openssl")
def test_certificates_of_a_directory_are_made_once(tmp_path: Path) -> None:
    first = Certificates(tmp_path / "certificates").right.certificate.read_bytes()

    assert Certificates(tmp_path / "certificates").right.certificate.read_bytes() == first


@pytest.mark.needs("kamailio", "openssl")
def test_kamailio_that_asks_for_client_certificates_wants_them_signed_by_the_authority(
    certificates: Certificates,
) -> None:
    with Kamailio(tls=certificates.right, clients_signed_by=certificates.ca) as proxy:
        listener = proxy.listener("tls")
        for shown in (None, certificates.self_signed):
            stranger = PlainClient(transport="tls", context=certificates.context(client=shown))
            with stranger, pytest.raises(ssl.SSLError, match=r"certificate required|unknown ca"):
                stranger.exchange(stranger.compose("OPTIONS", listener.uri()), listener.address)
        with PlainClient(transport="tls", context=certificates.context(client=certificates.client)) as known:
            assert known.exchange(known.compose("OPTIONS", listener.uri()), listener.address).status == 200


# Kamailio


@pytest.mark.needs("kamailio", "openssl")
@pytest.mark.parametrize("transport", CONNECTED)
@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("contact_alias", [False, True])
def test_kamailio_reaches_a_connected_phone_on_its_connection_and_on_no_other(
    certificates: Certificates, client: PlainClient, transport: Transport, ipv6: bool, contact_alias: bool
) -> None:
    with Kamailio(tls=certificates.right, ipv6=ipv6, contact_alias=contact_alias) as registrar:
        listener = registrar.listener(transport, ipv6=ipv6)
        with connected(HOSTS[ipv6], transport, certificates) as phone:
            contact = f"sip:100@{HIDDEN};transport={transport}"
            answer = phone.register(listener.uri("100"), listener.address, extra=(f"Contact: <{contact}>",))
            client.send(client.notify(registrar.aor("100")), registrar.address)
            request = phone.receive()
            phone.answer(request)
            [binding] = registrar.contacts()

            assert answer.status == 200
            assert request.start_line == f"NOTIFY {contact} SIP/2.0"
            assert (request.header("Via") or "").startswith(
                f"SIP/2.0/{transport.upper()} {host_port(listener.address)};"
            )
            assert client.receive().status == 200
            assert (binding.address == contact, binding.received is None) == (not contact_alias, contact_alias)
            assert [connection.peer for connection in registrar.connections()] == [phone.address]
        registrar.wait_until(lambda: registrar.connections() == [], "noticing that the phone is gone")
        refused = client.exchange(client.notify(registrar.aor("100")), registrar.address)

    assert refused.status == 477  # it does not try to connect to the contact


@pytest.mark.needs("kamailio")
@pytest.mark.parametrize("contact_alias", [False, True])
def test_kamailio_writes_the_connection_beside_the_contact_or_into_it(client: PlainClient, contact_alias: bool) -> None:
    with Kamailio(contact_alias=contact_alias) as registrar, PlainClient(transport="tcp") as phone:
        contact = f"sip:100@{HIDDEN};transport=tcp"
        phone.register(registrar.aor("100"), registrar.address, extra=(f"Contact: <{contact}>",))
        [binding] = registrar.contacts()
        port = phone.address[1]

        if contact_alias:
            assert (binding.address, binding.received) == (f"{contact};alias=127.0.0.1~{port}~2", None)
            client.send(client.notify(binding.address, extra=(f"Route: {registrar.route}",)), registrar.address)
            assert phone.receive().start_line == f"NOTIFY {contact} SIP/2.0"
        else:
            assert (binding.address, binding.received) == (contact, f"sip:127.0.0.1:{port};transport=tcp")


@pytest.mark.needs("kamailio", "sipp", "openssl")
@pytest.mark.parametrize("transport", CONNECTED)
@pytest.mark.parametrize("ipv6", [False, True])
def test_kamailio_takes_a_notify_over_a_connection_for_a_phone_on_udp(
    registrar: Kamailio, certificates: Certificates, transport: Transport, ipv6: bool
) -> None:
    listener = registrar.listener(transport, ipv6=ipv6)
    with SippPhone(answers(200)) as phone, connected(HOSTS[ipv6], transport, certificates) as client:
        registrar.register("200", phone.uri("200"))
        to_aor = client.exchange(client.notify(listener.uri("200")), listener.address)
        routed = client.notify(phone.uri("200"), extra=(f"Route: {listener.route}",))
        by_route = client.exchange(routed, listener.address)
        registrar.register("200", phone.uri("200"), expires=0)

        assert (to_aor.status, by_route.status) == (200, 200)
        first, second = phone.received()
        assert [via.partition(" ")[0] for via in first.headers("Via")] == [
            "SIP/2.0/UDP",
            f"SIP/2.0/{transport.upper()}",
        ]
        assert second.headers("Route") == []


@pytest.mark.needs("kamailio", "sipp", "openssl")
def test_kamailio_knows_itself_by_a_sips_uri_and_by_its_names(certificates: Certificates) -> None:
    proxy = Kamailio(tls=certificates.right, names=(NAME,))
    with proxy, SippPhone(answers(200)) as phone, connected("127.0.0.1", "tls", certificates) as client:
        listener = proxy.listener("tls")
        proxy.register("100", phone.uri("100"))
        aors = [listener.sips_uri.replace("sips:", "sips:100@"), f"sip:100@{NAME}", f"sips:100@{NAME}"]
        statuses = [client.exchange(client.notify(aor), listener.address).status for aor in aors]
        routed = client.notify(phone.uri("100"), extra=(f"Route: <{listener.sips_uri};lr>",))

        assert statuses == [200, 200, 200]
        assert client.exchange(routed, listener.address).status == 200
        assert len(proxy.connections()) == 1


@pytest.mark.needs("kamailio", "openssl")
@pytest.mark.parametrize("transport", CONNECTED)
def test_kamailio_answers_a_keep_alive(registrar: Kamailio, certificates: Certificates, transport: Transport) -> None:
    listener = registrar.listener(transport)
    with connected("127.0.0.1", transport, certificates) as client:
        client.connect(listener.address)

        assert client.ping() == b"\r\n"
        assert client.exchange(client.compose("OPTIONS", listener.uri()), listener.address).status == 200


@pytest.mark.needs("kamailio", "openssl")
@pytest.mark.parametrize("transport", CONNECTED)
def test_edge_proxy_writes_the_connection_of_a_phone_into_its_path(
    certificates: Certificates, client: PlainClient, transport: Transport
) -> None:
    with (
        Kamailio() as registrar,
        Kamailio(tls=certificates.right, registrar=registrar.listener("tcp").uri()) as edge,
        connected("127.0.0.1", transport, certificates) as phone,
    ):
        listener = edge.listener(transport)
        contact = f"sip:100@{HIDDEN};transport={transport}"
        phone.register(listener.uri("100"), listener.address, extra=(f"Contact: <{contact}>", "Supported: path"))
        [binding] = registrar.contacts()
        client.send(client.notify(registrar.aor("100")), registrar.address)
        along_the_path = phone.receive()
        phone.answer(along_the_path)
        client.send(client.notify(contact, extra=(f"Route: {binding.path}",)), edge.address)
        by_route = phone.receive()
        phone.answer(by_route)
        accepted = client.receive(), client.receive()
        phone.close()
        edge.wait_until(
            lambda: phone.address not in [each.peer for each in edge.connections()], "noticing that the phone is gone"
        )
        refused = client.exchange(client.notify(contact, extra=(f"Route: {binding.path}",)), edge.address)

        received = f"sip:127.0.0.1:{phone.address[1]}%3Btransport%3D{transport}"
        assert (binding.address, binding.received) == (contact, None)
        assert binding.path == f"<sip:127.0.0.1:{edge.port};transport=tcp;lr;received={received}>"
        assert len(along_the_path.headers("Via")) == 3
        assert len(by_route.headers("Via")) == 2
        assert [answer.status for answer in (*accepted, refused)] == [200, 200, 477]


@pytest.mark.needs("kamailio", "sipp")
def test_killed_kamailio_closes_its_connections_and_comes_back_without_bindings(client: PlainClient) -> None:
    with Kamailio() as proxy, SippPhone(answers(200)) as phone, PlainClient(transport="tcp") as connection:
        proxy.register("100", phone.uri("100"))
        assert connection.exchange(connection.notify(proxy.aor("100")), proxy.address).status == 200
        proxy.kill()

        assert not proxy.running
        assert not udp_port_is_open(proxy.port)
        with pytest.raises((EOFError, ConnectionResetError)):
            connection.receive()
        with PlainClient(transport="tcp") as again, pytest.raises(ConnectionRefusedError):
            again.connect(proxy.address)
        proxy.start()
        assert client.exchange(client.notify(proxy.aor("100")), proxy.address).status == 404
        assert (
            client.exchange(client.notify(phone.uri("100"), extra=(f"Route: {proxy.route}",)), proxy.address).status
            == 200
        )


@pytest.mark.needs("kamailio")
@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_kamailio_can_live_at_another_address(host: str) -> None:
    with Kamailio(host=host) as registrar, PlainClient(host, transport="tcp") as client:
        assert (
            client.exchange(client.compose("OPTIONS", registrar.listener("tcp").uri()), registrar.address).status == 200
        )
        assert registrar.register("100", "sip:100@127.0.0.1:9").status == 200
        assert [binding.aor for binding in registrar.contacts()] == ["100"]


# PJSIP


@pytest.mark.needs("kamailio", "pjsua2", "openssl")
@pytest.mark.parametrize("transport", ["udp", *CONNECTED])
@pytest.mark.parametrize("ipv6", [False, True])
def test_pjsip_phone_registers_over_any_transport_and_is_notified_on_it(
    registrar: Kamailio, certificates: Certificates, client: PlainClient, transport: Transport, ipv6: bool
) -> None:
    listener = registrar.listener(transport, ipv6=ipv6)
    user = f"{transport}{'6' if ipv6 else '4'}"
    with PjsipPhone(user, registrar=listener.address, transport=transport, ca=certificates.ca) as phone:
        binding = registrar.wait_for_contact(user)
        answer = client.exchange(client.notify(registrar.aor(user)), registrar.address)
        [request] = phone.wait_for(1)

    assert answer.status == 200
    assert request.source == host_port(
        listener.address
    )  # a connection that Kamailio had opened would have another port
    assert (binding.received is None) is (transport == "udp")
    assert (binding.instance or "").startswith("<urn:uuid:") is (transport != "udp")


@pytest.mark.needs("kamailio", "pjsua2", "openssl")
@pytest.mark.parametrize("transport", CONNECTED)
def test_pjsip_phones_behind_a_nat_are_two_devices_and_are_notified(
    certificates: Certificates, client: PlainClient, transport: Transport
) -> None:
    with Kamailio(tls=certificates.right, authenticate_register=True) as registrar:
        address = registrar.listener(transport).address
        contacts = {user: f"sip:{user}@{HIDDEN};transport={transport}" for user in ("300", "301")}
        one, other = (
            PjsipPhone(user, registrar=address, password=registrar.password, transport=transport, contact=contact)
            for user, contact in contacts.items()
        )
        with one, other:
            bindings = registrar.contacts()
            statuses = [
                client.exchange(client.notify(registrar.aor(user)), registrar.address).status for user in contacts
            ]
            heard = [phone.wait_for(1)[0].start_line for phone in (one, other)]

    assert {binding.aor: binding.address for binding in bindings} == contacts
    assert len({binding.instance for binding in bindings}) == 2
    assert statuses == [200, 200]
    assert heard == [f"NOTIFY {contact} SIP/2.0" for contact in contacts.values()]


@pytest.mark.needs("pjsua2", "openssl")
@pytest.mark.parametrize("transport", CONNECTED)
@pytest.mark.parametrize("ipv6", [False, True])
def test_pjsip_phone_answers_clients_that_connect_to_it(
    certificates: Certificates, transport: Transport, ipv6: bool
) -> None:
    phone = PjsipPhone("300", transport=transport, host=HOSTS[ipv6], tls=certificates.right)
    with (
        phone,
        connected(HOSTS[ipv6], transport, certificates) as one,
        connected(HOSTS[ipv6], transport, certificates) as two,
    ):
        for client in (one, two, one, two):
            assert client.exchange(client.notify(phone.uri), phone.address).status == 200
        assert [request.source for request in phone.wait_for(4)] == [host_port(each.address) for each in (one, two)] * 2
        with pytest.raises(TimeoutError):
            one.ping(within=0.2)


@pytest.mark.needs("kamailio", "pjsua2", "openssl")
def test_pjsip_phone_registers_a_sips_contact_and_answers_at_a_sip_uri_too(
    registrar: Kamailio, certificates: Certificates
) -> None:
    listener = registrar.listener("tls")
    phone = PjsipPhone(
        "sips", registrar=listener.address, transport="tls", sips=True, ca=certificates.ca, tls=certificates.right
    )
    with phone, connected("127.0.0.1", "tls", certificates) as client:
        binding = registrar.wait_for_contact("sips")
        uris = [phone.uri, f"sip:sips@{host_port(phone.address)};transport=tls"]

        assert binding.address.startswith("sips:sips@127.0.0.1:")
        assert binding.address.endswith(";transport=TLS;ob")
        assert [client.exchange(client.notify(uri), phone.address).status for uri in uris] == [200, 200]


@pytest.mark.needs("kamailio", "pjsua2", "openssl")
def test_pjsip_phone_does_not_register_where_the_certificate_has_another_name(certificates: Certificates) -> None:
    with Kamailio(tls=certificates.wrong_name) as registrar:
        address = registrar.listener("tls").address
        with pytest.raises(PeerError, match=r"registration failed: 503[\s\S]*SSL certificate verification error"):
            PjsipPhone("300", registrar=address, transport="tls", ca=certificates.ca).start()
        with PjsipPhone("300", registrar=address, transport="tls"):
            assert registrar.wait_for_contact("300").received is not None


@pytest.mark.needs("pjsua2", "openssl")
def test_pjsip_phone_that_speaks_tls_1_1_only_fails_the_handshake_of_a_client_that_wants_1_2(
    certificates: Certificates,
) -> None:
    phone = PjsipPhone("300", transport="tls", tls=certificates.right, tls_version="1.1")
    with phone, connected("127.0.0.1", "tls", certificates) as client, pytest.raises(ssl.SSLError) as refused:
        client.connect(phone.address)

    assert refused.value.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE"  # it says that no cipher fits, not what is too old


# baresip


@pytest.mark.needs("kamailio", "baresip", "openssl")
@pytest.mark.parametrize("transport", CONNECTED)
def test_baresip_registers_over_a_connection_and_is_notified_on_it(
    registrar: Kamailio, client: PlainClient, transport: Transport
) -> None:
    user = f"baresip-{transport}"
    listener = registrar.listener(transport)
    with BaresipPhone(user, registrar=listener.address, transport=transport) as phone:
        binding = registrar.wait_for_contact(user)
        answer = client.exchange(client.notify(registrar.aor(user)), registrar.address)
        [request] = phone.received()

    assert (answer.status, request.method) == (481, "NOTIFY")
    assert request.source == host_port(listener.address)
    assert (binding.received or "").partition(";")[0] not in binding.address


# SIPp


@pytest.mark.needs("sipp")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_sipp_phone_on_tcp_answers_on_the_connection_that_was_used(host: str) -> None:
    with (
        SippPhone(answers(200), host=host, transport="tcp", linger=0.1) as phone,
        PlainClient(host, transport="tcp") as one,
        PlainClient(host, transport="tcp") as two,
    ):
        assert phone.uri() == f"sip:100@{host_port(phone.address)};transport=tcp"
        for client in (one, two, one, two):
            assert client.exchange(client.notify(phone.uri()), phone.address).status == 200
        phone.finish()
        counts = phone.counts()

    assert (counts.calls, counts.successful, counts.failed) == (4, 4, 0)


@pytest.mark.needs("sipp")
def test_sipp_phone_on_tcp_reads_requests_however_they_are_cut(client: PlainClient) -> None:
    with SippPhone(trying_then_ok(pause=0.1), transport="tcp") as phone, PlainClient(transport="tcp") as stream:
        both = stream.notify(phone.uri()) + stream.notify(phone.uri())
        for start in range(0, len(both), 100):
            stream.send(both[start : start + 100], phone.address)

        assert [stream.receive().status for _ in range(4)] == [100, 100, 200, 200]
        assert len(phone.received()) == 2
