"""How requests leave this process: from which address, by which SIP engine, with which name server and certificates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Self

from resyncctl.clock import monotonic
from resyncctl.errors import InputError, SipError, TransportError
from resyncctl.rollout.model import Engine
from resyncctl.sip.transaction import Timers
from resyncctl.sip.uac import Result
from resyncctl.sip.uri import parse_hostport
from resyncctl.transport.agent import Agent, Prepare
from resyncctl.transport.endpoint import ANY, Endpoint
from resyncctl.transport.ip import IpNetwork, TlsFiles
from resyncctl.transport.resolver import Resolver, numeric

if TYPE_CHECKING:
    from resyncctl.config import Settings
    from resyncctl.sip.uas import Address
    from resyncctl.transport.trace import Tracer

MakeAgent = Callable[[Timers, Callable[[Result], None], Prepare], Agent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """What is said of how requests leave; '' = nothing is said. Files are paths on the machine that sends."""

    local_address: str = ""
    """IP[:PORT] to send from."""
    engine: str = ""
    nameserver: str = ""
    """IP[:PORT]; '' = those of the system."""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_verify: str = ""
    """`no`: any certificate will do."""

    @classmethod
    def kept(cls, surroundings: Mapping[str, str]) -> Self:
        """Read what a rollout has kept."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: text for name, text in surroundings.items() if name in known})

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        """Read what the configuration says."""
        return cls(
            engine=settings.engine,
            nameserver=settings.nameserver,
            tls_ca=str(settings.sip_tls_ca or ""),
            tls_cert=str(settings.sip_tls_cert or ""),
            tls_key=str(settings.sip_tls_key or ""),
            tls_verify="" if settings.sip_tls_verify else "no",
        )

    def over(self, other: Outbound) -> Outbound:
        """Fill in from `other` what is not said here; a certificate and its key belong together."""
        said = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name)}
        if self.tls_cert:
            said["tls_key"] = self.tls_key
        return Outbound(**({one.name: getattr(other, one.name) for one in fields(other)} | said))

    def said(self) -> dict[str, str]:
        """Return what is said, as a rollout keeps it."""
        return {one.name: text for one in fields(self) if (text := str(getattr(self, one.name)))}

    def resolver(self) -> Resolver:
        """Make the resolver; raises InputError."""
        return Resolver(nameserver=self.nameserver)

    def agents(self, tracer: Tracer | None = None) -> MakeAgent:
        """Return what makes the user agents; raises InputError, or TransportError for an engine that is not there."""
        local = parse_local(self.local_address)
        files = TlsFiles(
            ca=_path(self.tls_ca), cert=_path(self.tls_cert), key=_path(self.tls_key), verify=self.tls_verify != "no"
        )
        if self.engine == Engine.PJSUA2:
            files.context()
            from resyncctl.transport.pjsip.agent import PjsipAgent  # noqa: PLC0415  (only who has the wheel can import it)

            return lambda timers, on_result, prepare: PjsipAgent(
                local=local, timers=timers, on_result=on_result, prepare=prepare, tls=files, tracer=tracer
            )
        network = IpNetwork(files if files != TlsFiles() else None)
        return lambda timers, on_result, prepare: Endpoint(
            network, local=local, timers=timers, on_result=on_result, prepare=prepare, tracer=tracer, clock=monotonic
        )

    def check(self, tracer: Tracer | None = None) -> None:
        """Raise TransportError or InputError when nothing can be sent that way, before a rollout is stored or resumed."""
        self.resolver()
        agent = self.agents(tracer)(Timers(), lambda _: None, lambda *_: None)
        try:
            agent.bind()
        finally:
            agent.close()


def check_engine(engine: str | None) -> None:
    """Raise InputError for a SIP engine that is not installed here."""
    if engine == Engine.PJSUA2:
        from resyncctl.transport.pjsip.library import load  # noqa: PLC0415  (it loads C code)

        try:
            load()
        except TransportError as error:
            raise InputError(str(error)) from error


def parse_local(text: str) -> Address:
    """Read `--local-address IP[:PORT]` ('' = any); raise InputError."""
    if not text:
        return ANY
    try:
        host, port = parse_hostport(f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text)
    except SipError as error:
        raise InputError(f"--local-address: {error}") from error
    if not numeric(host.strip("[]")):  # a name could be another address tomorrow
        raise InputError(
            f"--local-address: {host!r} is not an IP address; write for example 192.0.2.10 or 192.0.2.10:5060"
        )
    return host.strip("[]"), port or 0


def _path(text: str) -> Path | None:
    return Path(text) if text else None
