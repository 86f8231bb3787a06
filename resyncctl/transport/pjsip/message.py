"""Have PJSIP read a request that it shall send, so that it writes the Request-URI and the Route set as they are."""

from __future__ import annotations

import ctypes
from ctypes import byref
from typing import Final

from resyncctl.errors import SipError, TransportError
from resyncctl.transport.pjsip import layout as pj
from resyncctl.transport.pjsip.layout import Pointer, pointer_at, text_of, write, write_text
from resyncctl.transport.pjsip.library import Library

_HIDDEN: Final = b" sip:x SIP/2.0\r\nRoute: <sip:x;lr;hide>\r\n"
"""PJSIP looks at the first Route even when it has been told the destination. One with `hide` it does not write."""
_ROUTE: Final = b"Route"
_OTHER_ROUTE: Final = b"X-Route"
"""What the Route set is called until PJSIP has read it: by another name it is only text."""
_NO_BODY: Final = b"\r\nContent-Length: 0"
"""PJSIP writes its own where there is no body."""


def read_request(library: Library, pool: int, data: bytes, request_uri: str) -> int:
    """Return the message (pjsip_msg), in memory of the pool; raise SipError when PJSIP cannot read it."""
    method, _, rest = data.partition(b" ")
    head, _, body = rest.partition(b"\r\n\r\n")
    _, _, fields = head.partition(b"\r\n")
    before, routed, after = fields.partition(b"\r\n%b: " % _ROUTE)
    if routed:
        fields = b"%b\r\n%b: %b" % (before, _OTHER_ROUTE, after)
    if not body:
        fields = fields.replace(_NO_BODY, b"", 1)
    text = b"".join((method, _HIDDEN, fields, b"\r\n\r\n", body))
    message = _parse(library, pool, text)
    _set_uri(library, pool, message, request_uri)
    if routed:
        header = library.find_header(message, byref(text_of(_OTHER_ROUTE)), None)
        name = copied(library, pool, _ROUTE)
        for field in (header + pj.HEADER_NAME, header + pj.HEADER_NAME + ctypes.sizeof(pj.Text)):
            write_text(field, name, len(_ROUTE))
    if body:
        write(pointer_at(message + pj.MESSAGE_BODY) + 8, 0)  # no type, for PJSIP would write it twice
    return message


def tx_data(library: Library, endpoint: Pointer) -> int:
    """Return a new pjsip_tx_data, which has a pool; whoever gets it has to send it or drop it."""
    made = Pointer()
    error = library.create_tx_data(endpoint, byref(made))
    if error or made.value is None:
        raise TransportError(f"PJSIP cannot make a request: {library.explain(error)}")
    library.keep_tx_data(made)
    return made.value


def copied(library: Library, pool: int, data: bytes) -> int:
    """Return where the bytes are in memory of the pool, ended by a zero."""
    at = library.allocate(pool, len(data) + 1)
    ctypes.memmove(at, data, len(data) + 1)  # a bytes object ends with a zero that does not count
    return at


def _parse(library: Library, pool: int, text: bytes) -> int:
    report = pj.ErrorReport()
    report.previous = report.next = ctypes.addressof(report)
    message = library.parse(pool, copied(library, pool, text), len(text), byref(report))
    if not message or report.next != ctypes.addressof(report):
        name = pj.ErrorReport.from_address(report.next).name if report.next != ctypes.addressof(report) else None
        what = ctypes.string_at(name.at, name.length).decode("utf-8", "replace") if name and name.at else "request"
        raise SipError(f"PJSIP cannot read this: {what}")
    return message


def _set_uri(library: Library, pool: int, message: int, request_uri: str) -> None:
    """Set the Request-URI as text: read as a URI, PJSIP would put its parameters into another order."""
    text = request_uri.encode("utf-8", "surrogateescape")
    colon = text.find(b":")
    if colon < 0:
        raise SipError(f"not a URI: {request_uri[:60]!r}")
    uri, at = library.create_uri(pool), copied(library, pool, text)
    write_text(uri + pj.URI_SCHEME, at, colon)
    write_text(uri + pj.URI_SCHEME + ctypes.sizeof(pj.Text), at + colon + 1, len(text) - colon - 1)
    write(message + pj.MESSAGE_URI, uri)
