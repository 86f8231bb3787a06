"""How hosts and places are written in settings. The checks raise ValueError that says what to write; pydantic collects it."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from resyncctl.errors import SipParseError
from resyncctl.sip.uri import parse_hostport

_COLLECTOR: Final = "hep:"
_CAPTURE_ID: Final = re.compile(r"\A[0-9]{1,10}@")
_LONGEST_NAME: Final = 253
"""Characters of a host name (RFC 1035 2.3.4, without the root's)."""


def checked_nameserver(text: str) -> str:
    """Take `IP`, `IP:PORT` and `[IPv6]:PORT`, and '' for none."""
    if text:
        try:
            host, _ = parse_hostport(_bracketed(text))
            ipaddress.ip_address(host.strip("[]"))
        except (SipParseError, ValueError) as error:  # a name could only be looked up with a name server
            raise ValueError(
                "is not the address of a name server; write IP, IP:PORT or [IPv6]:PORT, and no host name"
            ) from error
    return text


def checked_domain(text: str) -> str:
    """Return a host name or an IP address as it stands in a URI, an IPv6 address in brackets; '' is none."""
    try:
        host, port = parse_hostport(_bracketed(text)) if text else ("", None)
    except SipParseError:
        host, port = ".", None
    if port is not None or len(host) > _LONGEST_NAME or host[:1] in {".", "-"}:
        raise ValueError(
            "is not a host name or an IP address; write for example pbx.example.com, without sip:, user and port"
        )
    return host


def is_capture_file(place: str) -> bool:
    """Tell the name of a capture file from the URL of a collector, and from URLs that nothing can be made of."""
    return bool(place) and not place.lower().startswith(_COLLECTOR) and "://" not in place


def checked_collector(place: str) -> str:
    """Take `hep:[CAPTURE_ID@]HOST[:PORT]`, also with `//` before the host."""
    scheme, rest = place[: len(_COLLECTOR)].lower(), place[len(_COLLECTOR) :]
    if scheme != _COLLECTOR:
        raise ValueError("is neither a file nor a Homer collector; write FILE.pcap or hep:HOST[:PORT]")
    try:
        parse_hostport(_CAPTURE_ID.sub("", rest.removeprefix("//").removesuffix("/"), count=1))
    except SipParseError as error:
        raise ValueError(
            "is not a Homer collector; write hep:HOST, hep:HOST:PORT or hep:CAPTURE_ID@HOST:PORT, IPv6 in brackets"
        ) from error
    return place


def _bracketed(text: str) -> str:
    """Put the brackets of a URI around a bare IPv6 address."""
    return f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
