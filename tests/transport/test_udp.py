"""What is particular to real sockets."""

from __future__ import annotations

import errno
import socket
from contextlib import closing

import pytest

from resyncctl.errors import TransportError
from resyncctl.sip.uac import Ending
from resyncctl.transport.ip import IpNetwork
from resyncctl.transport.link import ending_of
from resyncctl.transport.udp import family_of
from tests.transport.phones import Mailbox


@pytest.mark.parametrize(
    ("number", "ending"),
    [
        (errno.ECONNREFUSED, Ending.REFUSED),
        (errno.EHOSTUNREACH, Ending.NO_ROUTE),
        (errno.ENETUNREACH, Ending.NO_ROUTE),
        (errno.ENOPROTOOPT, Ending.NO_ROUTE),
        (errno.EHOSTDOWN, Ending.NO_ROUTE),
        (errno.EMSGSIZE, Ending.NOT_SENT),
        (errno.EACCES, Ending.NOT_SENT),
        (0, Ending.NOT_SENT),
    ],
)
def test_an_error_number_says_how_the_request_ends(number: int, ending: Ending) -> None:
    assert ending_of(number) is ending


@pytest.mark.parametrize(
    ("address", "family"),
    [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6), ("::ffff:10.0.0.1", socket.AF_INET6)],
)
def test_an_address_with_a_colon_is_ipv6(address: str, family: socket.AddressFamily) -> None:
    assert family_of(address) is family


async def test_a_port_in_use_is_an_error_that_says_what_to_do() -> None:
    with closing(IpNetwork().open(("127.0.0.1", 0), Mailbox())) as link:
        with pytest.raises(TransportError) as caught:
            IpNetwork().open(link.local, Mailbox())
        assert str(caught.value) == (
            f"cannot open UDP port {link.local[1]} on 127.0.0.1: Address already in use; choose another"
            " --local-address, or port 0 for any free port"
        )


async def test_an_address_that_is_not_of_this_machine_is_an_error() -> None:
    with pytest.raises(TransportError, match=r"^cannot open UDP port 0 on 192\.0\.2\.1: Cannot assign requested"):
        IpNetwork().open(("192.0.2.1", 0), Mailbox())


async def test_a_machine_without_that_ip_version_is_a_transport_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", unsupported)
    with pytest.raises(TransportError, match="port 5060 on ::1: Address family not supported"):
        IpNetwork().open(("::1", 5060), Mailbox())
    with pytest.raises(TransportError) as caught:
        IpNetwork().source_for(("2001:db8::1", 5060))
    assert str(caught.value) == (
        "there is no route to 2001:db8::1 from this machine (Address family not supported by protocol);"
        " check --local-address"
    )


async def test_a_datagram_that_is_too_large_is_refused_by_the_system() -> None:
    with closing(IpNetwork().open(("127.0.0.1", 0), Mailbox())) as link:
        with pytest.raises(OSError, match="Message too long") as caught:
            link.send(b"x" * 70_000, link.local)
        assert caught.value.errno == errno.EMSGSIZE
