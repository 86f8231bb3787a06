"""Every way to a phone as the peers see it: Path, strict routes, NAT, GRUU, maddr, IPv6, WebSocket; SIPp, Kamailio, PJSIP."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.interop.command_line import PhoneRow, Resyncctl, Rollout
from tests.peers.certificates import Certificates
from tests.peers.kamailio import Kamailio, Listener, why_no_tls
from tests.peers.message import TracedMessage
from tests.peers.pjsip_phone import PjsipPhone
from tests.peers.plain_client import Transport, host_port
from tests.peers.sipp import SippPhone, answers
from tests.peers.together import start_together

pytestmark = pytest.mark.needs("sipp")

ACCEPTED = ("accepted", 200, "OK")
ONCE = ("--attempts", "1", "--timeout", "5s")


# As SIPp sees it


@dataclass(frozen=True, slots=True)
class Way:
    """One phone of a list, where its request has to arrive, and with which request line and Route header.

    In the texts {udp4}, {udp6}, {tcp4} and {tcp6} stand for host and port of four SIPp phones, {udp4_port} for the port.
    Nobody has an address 192.0.2.7 or a name below `invalid`.
    """

    contact: str
    path: str = ""
    received: str = ""
    at: str = "udp4"
    request_uri: str = ""
    """'' = the contact."""
    route: str = ""


WAYS = {
    "outbound": Way("sip:u@{udp4};ob"),
    "gruu": Way("sip:u@{udp4};gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
    "gruu-at-its-proxy": Way("sip:u@pbx.invalid;gr=kjh29x97us97d;ob", path="<sip:{udp4};lr>", route="<sip:{udp4};lr>"),
    "uri-headers": Way("sip:u?1@{udp4}?Priority=urgent", request_uri="sip:u?1@{udp4}"),
    "ipv6": Way("sip:u@{udp6}", at="udp6"),
    "ipv6-tcp": Way("sip:u@{tcp6};transport=tcp", at="tcp6"),
    "maddr": Way("sip:u@phones.invalid:{udp4_port};maddr=127.0.0.1"),
    "maddr-ipv6": Way("sip:u@phones.invalid:{udp6_port};maddr=[::1]", at="udp6"),
    "received": Way("sip:u@192.0.2.7", received="sip:{udp4}"),
    "received-tcp": Way("sip:u@192.0.2.7:5060;transport=tcp", received="sip:{tcp4};transport=tcp", at="tcp4"),
    "received-ipv6": Way("sip:u@192.0.2.7;ob", received="sip:{udp6}", at="udp6"),
    "alias": Way("sip:u@192.0.2.7;alias=127.0.0.1~{udp4_port}~1;ob", request_uri="sip:u@192.0.2.7;ob"),
    "alias-tcp-ipv6": Way(
        "sip:u@192.0.2.7;transport=tcp;alias=[::1]~{tcp6_port}~2",
        at="tcp6",
        request_uri="sip:u@192.0.2.7;transport=tcp",
    ),
    "loose": Way(
        "sip:u@192.0.2.7",
        path="<sip:{udp4};lr;received=sip:10.0.0.9:40123%3Btransport%3Dtls>;x=y",
        route="<sip:{udp4};lr;received=sip:10.0.0.9:40123%3Btransport%3Dtls>;x=y",
    ),
    "loose-and-strict": Way(
        "sip:u@192.0.2.7;alias=10.0.0.9~40123~2",
        path="sip:{tcp4};transport=tcp;lr, <sip:edge.invalid>",
        at="tcp4",
        route="<sip:{tcp4};transport=tcp;lr>, <sip:edge.invalid>",
    ),
    "strict": Way("sip:u@192.0.2.7", path="<sip:{udp4}>", request_uri="sip:{udp4}", route="<sip:u@192.0.2.7>"),
    "strict-and-loose": Way(
        "sip:u@192.0.2.7;ob",
        path="<sip:edge@{udp6}>,<sip:10.0.0.2;lr>,<sip:10.0.0.3>",
        at="udp6",
        request_uri="sip:edge@{udp6}",
        route="<sip:10.0.0.2;lr>, <sip:10.0.0.3>, <sip:u@192.0.2.7;ob>",
    ),
}


@dataclass(frozen=True, slots=True)
class Arrived:
    """A rollout along all ways: what became of each, which phone got it, and the texts with their places filled in."""

    rollout: Rollout
    requests: Mapping[str, tuple[str, TracedMessage]]
    places: Mapping[str, str]


@pytest.fixture(scope="module")
def arrived(tmp_path_factory: pytest.TempPathFactory) -> Arrived:
    phones = {
        "udp4": SippPhone(answers(200)),
        "udp6": SippPhone(answers(200), host="::1"),
        "tcp4": SippPhone(answers(200), transport="tcp"),
        "tcp6": SippPhone(answers(200), host="::1", transport="tcp"),
    }
    places = {name: host_port(phone.address) for name, phone in phones.items()}
    places |= {f"{name}_port": str(phone.port) for name, phone in phones.items()}
    rows: list[PhoneRow] = [
        {
            "aor": f"sip:{name}@phones.test",
            "contact": way.contact.format(**places),
            "path": way.path.format(**places),
            "received": way.received.format(**places),
        }
        for name, way in WAYS.items()
    ]
    with ExitStack() as stack:
        start_together(stack, list(phones.values()))
        rollout = Resyncctl(tmp_path_factory.mktemp("ways")).run(rows, *ONCE)
        requests = {
            (request.header("To") or "").removeprefix("<sip:").partition("@")[0]: (name, request)
            for name, phone in phones.items()
            for request in phone.received()
        }
    return Arrived(rollout, requests, places)


def test_every_way_leads_to_an_answer(arrived: Arrived) -> None:
    assert {row.aor: row.verdict for row in arrived.rollout.rows} == {
        f"sip:{name}@phones.test": ACCEPTED for name in WAYS
    }
    assert arrived.rollout.exit_status == 0


@pytest.mark.parametrize("name", WAYS)
def test_request_line_and_route_are_what_the_way_asks_for(arrived: Arrived, name: str) -> None:
    way = WAYS[name]
    phone, request = arrived.requests[name]
    request_uri = (way.request_uri or way.contact).format(**arrived.places)

    assert phone == way.at
    assert request.start_line == f"NOTIFY {request_uri} SIP/2.0"
    assert ", ".join(request.headers("Route")) == way.route.format(**arrived.places)
    assert len(request.headers("Via")) == 1


# Phones behind a NAT, at a real registrar


def tls_certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return the certificates of this session, or skip where Kamailio has no TLS."""
    if (reason := why_no_tls()) is not None:
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return Certificates(tmp_path_factory.getbasetemp() / "certificates")


@dataclass(frozen=True, slots=True)
class Hidden:
    """Phones whose contact nobody can connect to, at a registrar that keeps their connection in the contact, and at an edge.

    The users of the one are tcp4, tcp6, tls4 and tls6, of the other edge-tcp and edge-tls.
    """

    registrar: Kamailio
    edge: Kamailio
    phones: Mapping[str, tuple[PjsipPhone, Listener]]
    """With the socket that each is registered over."""

    def exported(self, *users: str) -> list[PhoneRow]:
        """Return the location table as an admin exports it: AOR, contact and Path."""
        return [
            {"aor": f"sip:{binding.aor}@phones.test", "contact": binding.address, "path": binding.path or ""}
            for binding in self.registrar.contacts()
            if binding.aor in users
        ]

    def counts(self) -> dict[str, int]:
        """Return how many requests each phone has received so far."""
        return {user: len(phone.received()) for user, (phone, _) in self.phones.items()}


ALIASED = ("tcp4", "tcp6", "tls4", "tls6")
AT_THE_EDGE = ("edge-tcp", "edge-tls")


def hidden_contact(user: str, transport: Transport) -> str:
    """Return a contact at an address that nobody has."""
    return f"sip:{user}@192.0.2.7:5060;transport={transport}"


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hidden]:
    right = tls_certificates(tmp_path_factory).right
    with ExitStack() as stack:
        registrar = stack.enter_context(Kamailio(tls=right, ipv6=True, contact_alias=True))
        edge = stack.enter_context(Kamailio(tls=right, registrar=registrar.listener("tcp").uri()))
        phones: dict[str, tuple[PjsipPhone, Listener]] = {}
        for transport in ("tcp", "tls"):
            sockets = {
                f"{transport}4": registrar.listener(transport),
                f"{transport}6": registrar.listener(transport, ipv6=True),
                f"edge-{transport}": edge.listener(transport),
            }
            for user, listener in sockets.items():
                contact = hidden_contact(user, transport)
                phone = PjsipPhone(user, registrar=listener.address, transport=transport, contact=contact)
                phones[user] = (phone, listener)
        start_together(stack, [phone for phone, _ in phones.values()])
        yield Hidden(registrar, edge, phones)


def check_heard(hidden: Hidden, users: tuple[str, ...], before: Mapping[str, int], *, vias: int) -> None:
    """Assert that these phones have got one request each on their own connection, with the contact that they gave."""
    for user in users:
        phone, listener = hidden.phones[user]
        [request] = phone.wait_for(before[user] + 1)[before[user] :]
        assert request.source == host_port(listener.address)
        assert request.start_line == f"NOTIFY {hidden_contact(user, listener.transport)} SIP/2.0"
        assert len(request.headers("Via")) == vias
        assert request.headers("Route") == []


@pytest.mark.needs("kamailio", "pjsua2", "openssl")
def test_a_contact_with_an_alias_is_reached_through_the_proxy_that_wrote_it(
    hidden: Hidden, resyncctl: Resyncctl
) -> None:
    rows, before = hidden.exported(*ALIASED), hidden.counts()
    rollout = resyncctl.run(rows, "--outbound-proxy", hidden.registrar.listener("udp").uri(), *ONCE)

    assert all(";alias=" in row["contact"] and row["path"] == "" for row in rows)
    assert [row.verdict for row in rollout.rows] == [ACCEPTED] * len(ALIASED)
    check_heard(hidden, ALIASED, before, vias=2)


@pytest.mark.needs("kamailio", "pjsua2", "openssl")
def test_an_alias_alone_leads_to_where_the_phone_was_seen_which_does_not_listen_there(
    hidden: Hidden, resyncctl: Resyncctl
) -> None:
    before = hidden.counts()
    rollout = resyncctl.run(hidden.exported(*ALIASED), *ONCE)

    assert {row.verdict for row in rollout.rows} == {("unreachable", 0, "refused: nothing listens at that port")}
    assert (len(rollout.rows), rollout.exit_status) == (len(ALIASED), 1)
    assert hidden.counts() == before


@pytest.mark.needs("kamailio", "pjsua2", "openssl")
@pytest.mark.parametrize("through_registrar", [False, True])
def test_the_path_of_an_edge_proxy_leads_to_the_connection_of_the_phone(
    hidden: Hidden, resyncctl: Resyncctl, through_registrar: bool
) -> None:
    rows, before = hidden.exported(*AT_THE_EDGE), hidden.counts()
    proxy = ["--outbound-proxy", hidden.registrar.listener("tcp").uri()] if through_registrar else []
    rollout = resyncctl.run(rows, *proxy, *ONCE)

    assert all("received=" in row["path"] for row in rows)
    assert [row.verdict for row in rollout.rows] == [ACCEPTED] * len(AT_THE_EDGE)
    check_heard(hidden, AT_THE_EDGE, before, vias=3 if through_registrar else 2)


# WebSocket


ON_WEBSOCKET = "on WebSocket, reached only through its proxy: no path, no outbound proxy"
NOT_SPOKEN = "transport not spoken (only UDP, TCP and TLS)"


def browsers(edge: SippPhone) -> list[PhoneRow]:
    """Return browser phones, one that speaks SCTP, and one whose Path leads through `edge`."""
    contacts = {
        "ws": "sip:x9f2@k3a8.invalid;transport=ws",
        "wss": "sip:x9f3@k3a8.invalid;transport=WSS;ob",
        "sctp": "sip:u@192.0.2.7;transport=sctp",
        "ws-with-path": "sip:x9f4@k3a8.invalid;transport=ws",
    }
    path = {"ws-with-path": f"<{edge.uri('edge')};lr>"}
    return [
        {"aor": f"sip:{name}@phones.test", "contact": contact, "path": path.get(name, "")}
        for name, contact in contacts.items()
    ]


def test_phones_on_websocket_are_skipped_with_the_reason_unless_a_path_leads_to_them(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as edge:
        rows = browsers(edge)
        planned = resyncctl.call("--json", "plan", str(resyncctl.write_phones(rows)), "--now")
        rollout = resyncctl.run(rows, *ONCE)
        [request] = edge.received()
    plan = json.loads(planned.stdout)

    assert plan["skipped_reasons"] == rollout.counts("skipped_reasons") == {ON_WEBSOCKET: 2, NOT_SPOKEN: 1}
    assert set(plan["skipped_examples"]) == {ON_WEBSOCKET, NOT_SPOKEN}
    assert {row.aor.partition("@")[0]: row.verdict for row in rollout.rows} == {
        "sip:ws": ("skipped", 0, ON_WEBSOCKET),
        "sip:wss": ("skipped", 0, ON_WEBSOCKET),
        "sip:sctp": ("skipped", 0, NOT_SPOKEN),
        "sip:ws-with-path": ACCEPTED,
    }
    assert rollout.exit_status == 0
    assert request.start_line == "NOTIFY sip:x9f4@k3a8.invalid;transport=ws SIP/2.0"


def test_phones_on_websocket_are_left_to_an_outbound_proxy(resyncctl: Resyncctl) -> None:
    with SippPhone(answers(200)) as proxy:
        rows = browsers(proxy)
        rollout = resyncctl.run(rows, "--outbound-proxy", f"sip:{host_port(proxy.address)}", *ONCE)
        received = proxy.received()

    assert [row.verdict for row in rollout.rows] == [ACCEPTED] * len(rows)
    assert sorted(request.start_line for request in received) == sorted(
        f"NOTIFY {row['contact']} SIP/2.0" for row in rows
    )
    assert all(
        (request.header("Route") or "").startswith(f"<sip:{host_port(proxy.address)};lr>") for request in received
    )
