"""PJSIP's C functions, which the wheel `pjsua2-python` exports beside the classes of pjsua2."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Callable
from typing import Final

from resyncctl.errors import TransportError
from resyncctl.transport.pjsip.layout import Int, OnEnd, OnState, Pointer, Size, Text, Unsigned

VERSION: Final = b"2.15.1"
"""The only one whose structures are known here."""

INSTALL: Final = "--engine pjsua2 needs the PJSIP wheel: pip install 'resyncctl[pjsua2]'"


class Library:
    """The functions, each with its types. One is made by `load`."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        get = self._get
        self.set_log_level = get("pj_log_set_level", None, Int)
        self.init = get("pj_init", Int)
        self.init_utilities = get("pjlib_util_init", Int)
        self.is_registered = get("pj_thread_is_registered", Int)
        self.register_thread = get("pj_thread_register", Int, ctypes.c_char_p, Pointer, Pointer)
        self.strerror = get("pj_strerror", Text, Int, ctypes.c_char_p, Size)
        self.init_pools = get("pj_caching_pool_init", None, Pointer, Pointer, Size)
        self.allocate = get("pj_pool_alloc", Pointer, Pointer, Size)
        self.create_endpoint = get("pjsip_endpt_create", Int, Pointer, ctypes.c_char_p, Pointer)
        self.init_transactions = get("pjsip_tsx_layer_init_module", Int, Pointer)
        self.set_timers = get("pjsip_tsx_set_timers", None, Unsigned, Unsigned, Unsigned, Unsigned)
        self.handle_events = get("pjsip_endpt_handle_events2", Int, Pointer, Pointer, Pointer)
        self.register_module = get("pjsip_endpt_register_module", Int, Pointer, Pointer)
        self.manager = get("pjsip_endpt_get_tpmgr", Pointer, Pointer)
        self.state_callback = get("pjsip_tpmgr_get_state_cb", Pointer, Pointer)
        self.set_state_callback = get("pjsip_tpmgr_set_state_cb", Int, Pointer, OnState)
        self.attach_udp = get(
            "pjsip_udp_transport_attach2", Int, Pointer, Int, ctypes.c_long, Pointer, Unsigned, Pointer
        )
        self.tcp_defaults = get("pjsip_tcp_transport_cfg_default", None, Pointer, Int)
        self.start_tcp = get("pjsip_tcp_transport_start3", Int, Pointer, Pointer, Pointer)
        self.start_tls = get("pjsip_tls_transport_start2", Int, *[Pointer] * 4, Unsigned, Pointer)
        self.acquire = get("pjsip_endpt_acquire_transport2", Int, Pointer, Int, Pointer, Int, *[Pointer] * 3)
        self.release = get("pjsip_transport_dec_ref", Int, Pointer)
        self.shut_down = get("pjsip_transport_shutdown2", Int, Pointer, Int)
        self.create_tx_data = get("pjsip_endpt_create_tdata", Int, Pointer, Pointer)
        self.keep_tx_data = get("pjsip_tx_data_add_ref", None, Pointer)
        self.drop_tx_data = get("pjsip_tx_data_dec_ref", Int, Pointer)
        self.select_transport = get("pjsip_tx_data_set_transport", Int, Pointer, Pointer)
        self.parse = get("pjsip_parse_msg", Pointer, Pointer, Pointer, Size, Pointer)
        self.find_header = get("pjsip_msg_find_hdr_by_name", Pointer, Pointer, Pointer, Pointer)
        self.create_uri = get("pjsip_other_uri_create", Pointer, Pointer)
        self.send_request = get("pjsip_endpt_send_request", Int, Pointer, Pointer, ctypes.c_int32, Pointer, OnEnd)
        self.find_transaction = get("pjsip_tsx_layer_find_tsx", Pointer, Pointer, Int)
        self.terminate = get("pjsip_tsx_terminate", Int, Pointer, Int)
        self.respond = get("pjsip_endpt_respond_stateless", Int, Pointer, Pointer, Int, *[Pointer] * 3)
        self.verify_texts = get("pj_ssl_cert_get_verify_status_strings", Int, ctypes.c_uint32, Pointer, Pointer)
        self.settings = (Unsigned * 24).in_dll(library, "pjsip_sip_cfg_var")

    @property
    def version(self) -> bytes:
        """PJSIP's version."""
        function = self._library["pj_get_version"]
        function.restype = ctypes.c_char_p
        return bytes(function())

    def explain(self, error: int) -> str:
        """Return PJSIP's text for a pj_status_t."""
        buffer = ctypes.create_string_buffer(256)
        self.strerror(error, buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace")

    def _get(self, name: str, result: type | None, *arguments: type) -> Callable[..., int]:
        function = self._library[name]
        function.restype, function.argtypes = result, arguments
        return function


def load() -> Library:
    """Load the wheel's library; raise TransportError when it is not installed, or is not the one that is known here."""
    try:
        found = importlib.util.find_spec("pjsua2._pjsua2")
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        late = "" if sys.version_info < (3, 13) else " (there is none for Python 3.13 yet: use Python 3.11 or 3.12)"
        raise TransportError(INSTALL + late)
    try:
        library = Library(ctypes.CDLL(found.origin))
    except (OSError, AttributeError, ValueError) as error:
        raise TransportError(f"--engine pjsua2: {found.origin} is not a library that can be used: {error}") from error
    version = library.version
    if version != VERSION or ctypes.sizeof(Pointer) != 8:
        raise TransportError(
            f"--engine pjsua2 works with PJSIP {VERSION.decode()} on 64 bits, and this is {version.decode()}:"
            f" pip install 'pjsua2-python=={VERSION.decode()}.*'"
        )
    return library
