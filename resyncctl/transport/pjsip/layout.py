"""The parts of PJSIP 2.15.1's C structures that are used, its constants, and how memory of it is read and written.

Where a field is in a structure holds for this version on machines of 64 bits; `library.load` refuses others. Offsets
are from the headers `pjsip/sip_transport.h`, `sip_transaction.h`, `sip_event.h`, `sip_msg.h`, `sip_uri.h`, `sip_parser.h`,
`sip_transport_tls.h`, `sip_transport_tcp.h`, `sip_module.h`, `sip_config.h` and `pj/ssl_sock.h`.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

from resyncctl.errors import TransportError
from resyncctl.sip.hop import Transport
from resyncctl.sip.uas import Address

SYSTEM_ERROR: Final = 120_000
"""PJ_ERRNO_START_SYS: an errno is this much larger as a pj_status_t (pj/errno.h)."""
END_OF_FILE: Final = 70_016
"""PJ_EEOF: the peer has closed its end."""
TOO_MANY: Final = 70_010
"""PJ_ETOOMANY: no more sockets."""
TOO_BIG: Final = 70_017
"""PJ_ETOOBIG: the number of an open file is."""
TOO_LONG: Final = 171_023
"""PJSIP_EMSGTOOLONG: a message has more than PJSIP_MAX_PKT_LEN bytes."""
NOT_VERIFIED: Final = 171_173
"""PJSIP_TLS_ECERTVERIF."""

FAULT_OF_TIME: Final = 1 << 2
FAULT_OF_NAME: Final = 1 << 30
"""PJ_SSL_CERT_EVALIDITY_PERIOD and PJ_SSL_CERT_EIDENTITY_NOT_MATCH (pj/ssl_sock.h)."""

TRANSPORTS: Final = {Transport.UDP: 1, Transport.TCP: 2, Transport.TLS: 3}
IPV6: Final = 128
"""pjsip_transport_type_e of pjsip/sip_types.h; IPV6 is added."""

CONNECTED: Final = 0
DISCONNECTED: Final = 1
DESTROYED: Final = 3
"""pjsip_transport_state."""
EVENT_RECEIVED: Final = 3
EVENT_TIMER: Final = 1
"""pjsip_event_id_e."""

TLS_1_2: Final = 1 << 4
"""PJ_SSL_SOCK_PROTO_TLS1_2; this build knows no later one."""

Pointer = ctypes.c_void_p
Int = ctypes.c_int
Unsigned = ctypes.c_uint
Size = ctypes.c_size_t


class Text(ctypes.Structure):
    """pj_str_t: neither copied nor ended by zero."""

    _fields_ = (("at", Pointer), ("length", ctypes.c_ssize_t))


class HostPort(ctypes.Structure):
    """pjsip_host_port."""

    _fields_ = (("host", Text), ("port", Int))


class Selector(ctypes.Structure):
    """pjsip_tpselector: the transport, or what makes connections (a factory), that has to be used."""

    _fields_ = (("kind", Int), ("new", Int), ("chosen", Pointer))


class ErrorReport(ctypes.Structure):
    """pjsip_parser_err_report, one node of a list."""

    _fields_ = (("previous", Pointer), ("next", Pointer), ("code", Int), ("line", Int), ("column", Int), ("name", Text))


class Module(ctypes.Structure):
    """pjsip_module."""

    _fields_ = (
        ("previous", Pointer),
        ("next", Pointer),
        ("name", Text),
        ("id", Int),
        ("priority", Int),
        ("load", Pointer),
        ("start", Pointer),
        ("stop", Pointer),
        ("unload", Pointer),
        ("on_rx_request", Pointer),
        ("on_rx_response", Pointer),
        ("on_tx_request", Pointer),
        ("on_tx_response", Pointer),
        ("on_tsx_state", Pointer),
    )


class TcpSettings(ctypes.Structure):
    """pjsip_tcp_transport_cfg; `pjsip_tcp_transport_cfg_default` fills it."""

    _fields_ = (
        ("family", Int),
        ("bind", ctypes.c_char * 28),
        ("reuse", Int),
        ("published", HostPort),
        ("rest", ctypes.c_char * 128),
    )


class TlsSettings(ctypes.Structure):
    """pjsip_tls_setting."""

    _fields_ = (
        ("ca_file", Text),
        ("ca_path", Text),
        ("certificate_file", Text),
        ("key_file", Text),
        ("buffers_and_lookup", ctypes.c_char * 72),
        ("password", Text),
        ("method", Int),
        ("protocols", Unsigned),
        ("ciphers_to_entropy", ctypes.c_char * 72),
        ("verify_server", Int),
        ("verify_client", Int),
        ("require_client_certificate", Int),
        ("timeout", ctypes.c_long * 2),
        ("initial_timeout", Unsigned),
        ("reuse", Int),
        ("quality", ctypes.c_char * 12),
        ("ignore_quality_errors", Int),
        ("socket_options", ctypes.c_char * 104),
        ("ignore_socket_option_errors", Int),
        ("renegotiation", Int),
        ("callbacks", Pointer * 2),
    )


OnEnd = ctypes.CFUNCTYPE(None, Pointer, Pointer)
"""pjsip_endpt_send_callback: token, event."""
OnState = ctypes.CFUNCTYPE(None, Pointer, Int, Pointer)
"""pjsip_tp_state_callback: transport, state, pjsip_transport_state_info."""
OnMessage = ctypes.CFUNCTYPE(Int, Pointer)
"""What a pjsip_module does with a message: pjsip_rx_data or pjsip_tx_data."""
Destroy = ctypes.CFUNCTYPE(Int, Pointer)
"""pjsip_tpfactory.destroy."""

EVENT: Final = struct.Struct("=24xQQ4xi")
"""pjsip_event of a transaction: what caused it, the transaction, the kind of the cause."""
STATE: Final = struct.Struct("=i4xQ")
"""pjsip_transport_state_info: status, pjsip_tls_state_info."""

TX_POOL: Final = 16
TX_MESSAGE: Final = 392
TX_BUFFER: Final = 408
TX_NAME: Final = 464
TX_ADDRESSES: Final = 480
TX_TRANSPORT: Final = 1192
TX_DESTINATION: Final = 1200
"""pjsip_tx_data: pool, msg, buf (start, then end), dest_info.name, dest_info.addr, tp_info.transport, tp_info.dst_addr."""
ADDRESSES: Final = struct.Struct("=IIII28sI")
"""pjsip_server_addresses with one address: count, type, priority, weight, sockaddr, its length."""
RX_TRANSPORT: Final = 8
RX_SOURCE: Final = 4336
RX_TEXT: Final = 4424
RX_LENGTH: Final = 4432
"""pjsip_rx_data: tp_info.transport, pkt_info.src_addr, msg_info.msg_buf, msg_info.len."""
TRANSACTION_STATUS: Final = 176
TRANSACTION_ERROR: Final = 348
"""pjsip_transaction: status_code, transport_err."""
MESSAGE_URI: Final = 32
MESSAGE_BODY: Final = 104
"""pjsip_msg: line.req.uri, body."""
URI_SCHEME: Final = 8
"""pjsip_other_uri: scheme, and content after it."""
HEADER_NAME: Final = 24
"""pjsip_hdr: name, and sname after it."""
TRANSPORT_ADDRESS: Final = 148
"""pjsip_transport: local_addr."""
FACTORY_ADDRESS: Final = 96
FACTORY_DESTROY: Final = 168
"""pjsip_tpfactory: local_addr, destroy."""
TLS_VERIFIED: Final = 88
"""pj_ssl_sock_info: verify_status."""
SETTING_TCP_SWITCH: Final = 4
SETTING_TLS_SWITCH: Final = 5
SETTING_ALIAS: Final = 7
"""pjsip_cfg_t as numbers: endpt.disable_tcp_switch, endpt.disable_tls_switch, endpt.req_has_via_alias."""


def pack_address(address: Address) -> bytes:
    """Return an address as a sockaddr_in or sockaddr_in6; raise TransportError for one that is not numeric, or has a zone."""
    host, port = address
    try:
        if ":" in host:
            numeric = socket.inet_pton(socket.AF_INET6, host)
            return struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(port), 0, numeric, 0)
        return struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), socket.inet_pton(socket.AF_INET, host))
    except OSError as error:
        raise TransportError(f"--engine pjsua2 cannot use the address {host[:60]!r}; use --engine asyncio") from error


def address_at(pointer: int) -> Address:
    """Return the address in a pj_sockaddr."""
    data = ctypes.string_at(pointer, 28)
    family, port = struct.unpack_from("=HH", data)
    host = data[4:8] if family == socket.AF_INET else data[8:24]
    return socket.inet_ntop(family, host), socket.ntohs(port)


def text_of(data: bytes) -> Text:
    """Return a pj_str_t of bytes that live longer than it does."""
    return Text(ctypes.cast(ctypes.c_char_p(data), Pointer), len(data))


def pointer_at(address: int) -> int:
    """Read a pointer, or another number of 64 bits."""
    return ctypes.c_uint64.from_address(address).value


def write(address: int, value: int) -> None:
    """Write a pointer, or another number of 64 bits."""
    ctypes.c_uint64.from_address(address).value = value


def write_text(address: int, at: int, length: int) -> None:
    """Write a pj_str_t."""
    write(address, at)
    write(address + 8, length)


def received(rx: int) -> bytes:
    """Return the message in a pjsip_rx_data."""
    return ctypes.string_at(pointer_at(rx + RX_TEXT), Int.from_address(rx + RX_LENGTH).value)
