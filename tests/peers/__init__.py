"""SIP and Redis servers that nobody here wrote, started for one test and stopped by their pid.

    sipp            SIPp as a phone on UDP or TCP: one answer, 100 then 200, busy once, silence, digest challenges
    kamailio        Kamailio as registrar, proxy, edge proxy and next hop of a Path, with JSON-RPC; UDP, TCP, TLS, IPv6
    baresip         baresip, registered over UDP, TCP or TLS
    pjsip_phone     a PJSIP phone in a process of its own; UDP, TCP, TLS, IPv6
    aiosip_phone    an aiosip 0.2.0 phone in a process of its own
    tshark          a capture on loopback, read by Wireshark's dissectors
    redis_server    redis-server with an append-only file, to be killed and restarted
    plain_client    NOTIFY and REGISTER written by hand over a plain socket: UDP, TCP or TLS
    certificates    an authority and certificates of every kind, made with openssl
    digest          digest answers computed with hashlib, independent of the product
    message         a received SIP message and when it was received
    process, waiting, ports    what the above are made of

Everything runs on loopback. Every peer is a context manager with `stop()`; a failure shows the peer's own log.
"""
