"""Where a request comes from."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import Request

LOCAL = "127.0.0.1"
"""Stands for a client on a Unix socket."""


def address_of(request: Request) -> str:
    """Return the address of a client.

    `X-Forwarded-For` is believed only when the connection comes from loopback, that is from a proxy on this machine: then
    it is the last address in it that is not loopback itself. A proxy has to append to the header or to set it, as nginx,
    Caddy and HAProxy do; what a client writes into it stands further left and is never looked at.
    """
    peer = _plain(request.client.host) if request.client else LOCAL
    if not _is_loopback(peer):
        return peer
    chain = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    for text in reversed(chain):
        hop = text.strip().strip("[]")
        try:
            ip_address(hop)
        except ValueError:
            return peer
        if not _is_loopback(_plain(hop)):
            return _plain(hop)
    return peer


def _plain(text: str) -> str:
    """Return an address in its shortest form; an IPv4 one that came through an IPv6 socket as IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return text
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _is_loopback(text: str) -> bool:
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return False
