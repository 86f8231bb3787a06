"""aiosip 0.2.0 as a desk phone, in a process of its own: `with AiosipPhone("400", registrar=…) as phone`.

aiosip 0.2.0 cannot be imported on Python 3.11: it uses `asyncio.coroutine` and `collections.MutableMapping`. The shim
below restores both and lives only here. Its parser, its message builder, its dialog for REGISTER and its digest do the
work; one thing had to be replaced. As published it answers from a second socket, bound to the host and port of the *To*
URI and connected to the *Contact* of the request: with its own port in To that fails ("Address already in use", the
request stays unanswered), without a port the answer comes from a random one, and through a proxy it bypasses the
proxy. Here it has one socket and answers to where the datagram came from (RFC 3581).

What we saw of its parser; each of these stays unanswered unless noted:

- a URI parameter without a value in To, From or Contact (`<sip:400@host;ob>`, `;lr`): ValueError;
- a header field without a space after the colon: it and all fields after it are not seen;
- compact forms are unknown to it: `i:` is answered, with a Call-ID that it invents.

It answers with 200, its header fields sorted by name (Via comes last); registration works without
authentication and with a challenge without qop. A challenge with qop="auth" it answers as if there were none, and
Kamailio refuses that until aiosip gives up: RegisterFailed('Too many unauthorized attempts !').
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import collections.abc
import logging
import os
import signal
import sys
import threading
import time
import types

from tests.peers.phone_process import PhoneProcess, end_with_standard_input, tell


class AiosipPhone(PhoneProcess):
    """The phone as tests see it."""

    def __init__(self, user: str, *, registrar: tuple[str, int] | None = None, password: str = "") -> None:
        """Prepare the phone, which answers every NOTIFY with 200."""
        super().__init__("aiosip", __name__, user, registrar=registrar, password=password)


def restore_removed_names() -> None:
    """Put back what Python 3.10 and 3.11 removed and aiosip 0.2.0 needs."""
    vars(asyncio).setdefault("coroutine", types.coroutine)
    vars(collections).setdefault("MutableMapping", collections.abc.MutableMapping)


async def run(user: str, port: int, registrar: tuple[str, int] | None, password: str) -> None:
    """Be the phone until a signal ends the process."""
    restore_removed_names()
    import aiosip  # noqa: PLC0415  only after the shim
    from aiosip.message import Request, Response  # noqa: PLC0415  only after the shim
    from multidict import CIMultiDict  # noqa: PLC0415  comes with aiosip

    loop = asyncio.get_running_loop()

    class OneSocket(aiosip.UDP):  # type: ignore[misc]  # aiosip has no types
        """aiosip's protocol with one unconnected socket: requests go to the registrar, answers to the sender."""

        sender: tuple[str, int] = ("127.0.0.1", 0)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.sender = addr
            if not data.startswith(b"SIP/2.0 "):
                tell(event="request", text=data.decode(), source=f"{addr[0]}:{addr[1]}", time=time.time())
            super().datagram_received(data, addr)

        def send_message(self, message: aiosip.message.Message) -> None:
            if isinstance(message, Request):
                message.headers["Via"] %= {"protocol": "UDP"}
            destination = registrar if isinstance(message, Request) else self.sender
            self.transport.sendto(str(message).encode(), destination)

    class Phone(aiosip.Application):  # type: ignore[misc]  # aiosip has no types
        """aiosip's application, answering a request of an unknown Call-ID itself."""

        def dispatch(self, protocol: type, message: aiosip.message.Message, addr: tuple[str, int]) -> None:
            if isinstance(message, Response):
                super().dispatch(protocol, message, addr)
                return
            message.to_details.add_tag()
            names = ("Via", "Call-ID", "CSeq")
            answer = Response(
                200 if message.method == "NOTIFY" else 405,
                "OK" if message.method == "NOTIFY" else "Method Not Allowed",
                headers=CIMultiDict({name: message.headers[name] for name in names}),
                from_details=message.from_details,
                to_details=message.to_details,
            )
            socket.send_message(answer)

    phone = Phone(loop=loop)
    local = ("127.0.0.1", port)
    _, socket = await loop.create_datagram_endpoint(lambda: OneSocket(phone, loop), local_addr=local)
    tell(event="listening")
    if registrar is not None:
        phone._protocols[OneSocket, local, registrar] = socket
        aor = f"sip:{user}@{registrar[0]}:{registrar[1]}"
        contact = f"sip:{user}@127.0.0.1:{port}"
        addresses = {"local_addr": local, "remote_addr": registrar}
        dialog = await phone.start_dialog(
            aor, aor, contact_uri=contact, protocol=OneSocket, password=password, **addresses
        )
        try:
            answer = await asyncio.wait_for(dialog.register(expires=300), 5.0)
            tell(event="registered", status=answer.status_code)
        except (aiosip.RegisterFailed, TimeoutError) as failure:
            tell(event="registered", status=repr(failure))
    await asyncio.Event().wait()


def main() -> None:
    """Read the arguments and be the phone."""
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG)
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--registrar", help="host:port")
    parser.add_argument("--password", default="")
    given = parser.parse_args()
    registrar: tuple[str, int] | None = None
    if given.registrar is not None:
        host, _, port = given.registrar.partition(":")
        registrar = (host, int(port))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    asyncio.run(run(given.user, given.port, registrar, given.password))


if __name__ == "__main__":
    main()
