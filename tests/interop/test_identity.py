"""Who a NOTIFY says it is from, as SIPp, PJSIP and a phone behind Kamailio see it: From, P-Asserted-Identity, Contact, Via."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.interop.command_line import PhoneRow, Resyncctl
from tests.peers.certificates import Certificates
from tests.peers.kamailio import Kamailio, why_no_tls
from tests.peers.message import TracedMessage
from tests.peers.pjsip_phone import PjsipPhone
from tests.peers.sipp import SippPhone, answers
from tests.peers.together import start_together

pytestmark = pytest.mark.needs("kamailio", "pjsua2", "sipp", "openssl")


@dataclass(frozen=True, slots=True)
class Phones:
    """Phones on every transport, and one on UDP that is reached through TLS to a proxy; by name."""

    peers: Mapping[str, SippPhone | PjsipPhone]
    rows: list[PhoneRow]
    ca: str

    def run(self, resyncctl: Resyncctl, *options: str) -> dict[str, TracedMessage]:
        """Notify all of them once; return what each has received."""
        known = {name: len(peer.received()) for name, peer in self.peers.items()}
        rollout = resyncctl.run(self.rows, "--tls-ca", self.ca, "--attempts", "1", *options)
        assert rollout.states() == {"accepted": len(self.rows)}
        heard = {name: peer.received()[known[name] :] for name, peer in self.peers.items()}
        assert {name: len(requests) for name, requests in heard.items()} == dict.fromkeys(self.peers, 1)
        return {name: requests[0] for name, requests in heard.items()}


@pytest.fixture(scope="module")
def phones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phones]:
    if (reason := why_no_tls()) is not None:
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    certificates = Certificates(tmp_path_factory.getbasetemp() / "certificates")
    proxy = Kamailio(tls=certificates.right)
    sipps = {
        "udp": SippPhone(answers(200)),
        "udp6": SippPhone(answers(200), host="::1"),
        "tcp": SippPhone(answers(200), transport="tcp"),
        "proxied": SippPhone(answers(200)),
    }
    pjsips = {
        "tls": PjsipPhone("tls", transport="tls", tls=certificates.right),
        "sips": PjsipPhone("sips", transport="tls", tls=certificates.right, sips=True),
    }
    with ExitStack() as stack:
        start_together(stack, [proxy, *sipps.values(), *pjsips.values()])
        contacts = {name: phone.uri(name) for name, phone in sipps.items()}
        contacts |= {name: phone.uri for name, phone in pjsips.items()}
        route = f"<{proxy.listener('tls').sips_uri};lr>"
        rows: list[PhoneRow] = [
            {"aor": f"sip:{name}@phones.test", "contact": contact, "path": route if name == "proxied" else ""}
            for name, contact in contacts.items()
        ]
        yield Phones({**sipps, **pjsips}, rows, str(certificates.ca))


@pytest.fixture(scope="module")
def plain(phones: Phones, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TracedMessage]:
    """What each phone receives when the command line says nothing of who we are."""
    return phones.run(Resyncctl(tmp_path_factory.mktemp("plain")))


def values(heard: Mapping[str, TracedMessage], name: str) -> dict[str, tuple[str, ...]]:
    """Return a header field of every phone's request, without the tag."""
    return {
        phone: tuple(one.partition(";tag=")[0] for one in request.headers(name)) for phone, request in heard.items()
    }


def test_from_and_identity_are_what_the_command_line_says(phones: Phones, resyncctl: Resyncctl) -> None:
    heard = phones.run(
        resyncctl, "--from", "sip:provisioning@pbx.example", "--identity", "sip:+15550100@pbx.example;user=phone"
    )

    assert values(heard, "From") == dict.fromkeys(heard, ("<sip:provisioning@pbx.example>",))
    assert values(heard, "P-Asserted-Identity") == dict.fromkeys(heard, ("<sip:+15550100@pbx.example;user=phone>",))
    assert all(";tag=" in (request.header("From") or "") for request in heard.values())


def test_without_them_we_are_the_address_that_we_send_from_and_assert_nothing(plain: dict[str, TracedMessage]) -> None:
    six = {"udp6": ("<sip:resyncctl@[::1]>",)}

    assert values(plain, "From") == dict.fromkeys(plain, ("<sip:resyncctl@127.0.0.1>",)) | six
    assert values(plain, "P-Asserted-Identity") == dict.fromkeys(plain, ())


def test_contact_is_where_the_request_came_from_over_what_it_came(plain: dict[str, TracedMessage]) -> None:
    vias = {name: request.headers("Via")[-1].partition(";")[0].partition(" ") for name, request in plain.items()}
    here = {name: address for name, (_, _, address) in vias.items()}

    assert values(plain, "Contact") == {
        "udp": (f"<sip:resyncctl@{here['udp']}>",),
        "udp6": (f"<sip:resyncctl@{here['udp6']}>",),
        "tcp": (f"<sip:resyncctl@{here['tcp']};transport=tcp>",),
        "tls": (f"<sip:resyncctl@{here['tls']};transport=tls>",),
        "sips": (f"<sips:resyncctl@{here['sips']}>",),
        "proxied": (f"<sips:resyncctl@{here['proxied']}>",),  # for its topmost Route was a sips: URI
    }
    over = {name: protocol.removeprefix("SIP/2.0/") for name, (protocol, _, _) in vias.items()}
    assert over == {"udp": "UDP", "udp6": "UDP", "tcp": "TCP", "tls": "TLS", "sips": "TLS", "proxied": "TLS"}
    assert [plain[name].source for name in ("tls", "sips")] == [here["tls"], here["sips"]]
