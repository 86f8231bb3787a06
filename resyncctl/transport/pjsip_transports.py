class Change(NamedTuple):
    """A connection stands, or has ended. `faults` are the bits of what is wrong with the certificate."""

    connected: bool
    error: int
    faults: int



@@@
    def attach_udp(self, handle: int, published: Address) -> int:
        """Take over a bound UDP socket; return the transport. Raises TransportError."""
        host = published[0].encode()
        kind = pj.TRANSPORTS[pj.Transport.UDP] + (pj.IPV6 if b":" in host else 0)
        name, transport = pj.HostPort(text_of(host), published[1]), Pointer()
        error = self._library.attach_udp(self._endpoint, kind, handle, byref(name), 1, byref(transport))
        if error or transport.value is None:
            raise TransportError(f"PJSIP cannot use a UDP socket: {self.explain(error)}")
        return transport.value

    def close_udp(self, transport: int) -> None:
        """Close a UDP transport as soon as nothing uses it."""
        self._library.shut_down(transport, 0)

    def start_tcp(self, host: str, published: str) -> int:
        """Return what makes TCP connections from a local address. PJSIP listens there too, on any port."""
        settings, factory = pj.TcpSettings(), Pointer()
        address = pj.pack_address((host, 0))
        self._library.tcp_defaults(byref(settings), ctypes.c_ushort.from_buffer_copy(address).value)
        settings.bind = address
        name = published.encode()
        settings.published = pj.HostPort(text_of(name), 0)
        return self._started(self._library.start_tcp(self._endpoint, byref(settings), byref(factory)), factory, "TCP")

    def start_tls(self, host: str, published: str, *, ca: str, path: str, cert: str, key: str, verify: bool) -> int:
        """Return what makes TLS connections from a local address; names of files, '' for none. TLS 1.2 and nothing else."""
        names = [name.encode() for name in (ca, path, cert, key, published)]
        settings, factory = pj.TlsSettings(), Pointer()
        settings.ca_file, settings.ca_path, settings.certificate_file, settings.key_file, _ = map(text_of, names)
        settings.protocols = pj.TLS_1_2
        settings.verify_server = verify
        settings.ignore_quality_errors = settings.ignore_socket_option_errors = 1
        name = pj.HostPort(text_of(names[-1]), 0)
        address = pj.pack_address((host, 0))
        error = self._library.start_tls(self._endpoint, byref(settings), address, byref(name), 1, byref(factory))
        return self._started(error, factory, "TLS")

    def _started(self, error: int, factory: Pointer, what: str) -> int:
        if error or factory.value is None:
            raise TransportError(f"PJSIP cannot open {what}: {self.explain(error)}")
        return factory.value

    def stop(self, factory: int) -> None:
        """Make no more connections with it."""
        pj.Destroy(pointer_at(factory + pj.FACTORY_DESTROY))(factory)

    def connect(self, factory: int, hop: Hop, on_change: Callable[[Change], None]) -> int:
        """Begin a connection; return the transport, which `on_change` tells of. Raises PjsipError when there cannot be one."""
        transport = Pointer()
        address = pj.pack_address(hop.address)
        tx = self._tx_data()
        name = (hop.name or hop.address[0]).encode()
        write_text(tx + pj.TX_NAME, copied(self._library, pointer_at(tx + pj.TX_POOL), name), len(name))
        choice = pj.Selector(pj.Selector.FACTORY, 1, factory)
        self._early = []
        error = self._library.acquire(
            self._endpoint, kind_of(hop), address, len(address), byref(choice), tx, byref(transport)
        )
        early, self._early = self._early, None
        self._library.drop_tx_data(tx)
        if error or transport.value is None:
            raise PjsipError(error)
        self._connections[transport.value] = on_change
        for known, change in early:
            if known == transport.value:
                on_change(change)
        return transport.value

    def local_address(self, transport: int) -> Address:
        """Return the local address of a connection."""
        return pj.address_at(transport + pj.TRANSPORT_ADDRESS)

    def disconnect(self, transport: int) -> None:
        """End a connection, and forget it; its `on_change` is not called any more."""
        self._connections.pop(transport, None)
        self._library.shut_down(transport, 1)
        self._library.release(transport)

    def _note_state(self, transport: int, state: int, information: int) -> None:
        self._to_transactions(transport, state, information)  # PJSIP's own, which ours has replaced
        on_change = self._connections.get(transport)
        if state not in {pj.CONNECTED, pj.DISCONNECTED} or (on_change is None and self._early is None):
            return
        error, more = pj.STATE.unpack(ctypes.string_at(information, pj.STATE.size))
        faults = ctypes.c_uint32.from_address(pointer_at(more) + pj.TLS_VERIFIED).value if more else 0
        change = Change(state == pj.CONNECTED, error, faults)
        if on_change is not None:
            on_change(change)
        elif self._early is not None:
            self._early.append((transport, change))

    def faults(self, bits: int) -> str:
        """Return PJSIP's text for what is wrong with a certificate."""
        texts = (ctypes.c_char_p * 32)()
        count = pj.Unsigned(len(texts))
        self._library.verify_texts(bits, texts, byref(count))
        return "; ".join((text or b"").decode() for text in texts[: count.value])

class PjsipError(Exception):
    """What PJSIP did not do, as a pj_status_t."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"PJSIP: {status}")


def kind_of(hop: Hop) -> int:
    """Return a hop's pjsip_transport_type_e."""
    return pj.TRANSPORTS[hop.transport] + (pj.IPV6 if ":" in hop.address[0] else 0)


