"""The settings themselves: a frozen value, and what they are when nobody says anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from resyncctl.errors import InputError
from resyncctl.logs import redact_url
from resyncctl.rollout.model import Engine

LogFormat = Literal["auto", "json", "text"]
PREFIX: Final = "RESYNCCTL_"
"""Of every environment variable that is read here."""
FILE_VARIABLE: Final = "RESYNCCTL_CONFIG"
"""Names the file when `--config` does not."""
SECRETS: Final = frozenset({"redis_url"})
"""Settings that may hold a password; they are shown redacted."""


@dataclass(frozen=True, slots=True)
class Source:
    """A phone list, and how phones of it are spoken to."""

    file: Path
    from_domain: str = ""
    """Host of the From URI, an IPv6 address in brackets; '' = the address that is sent from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every command and the service are told. Paths are absolute; `redis_url` '' = the embedded server in `data_dir`."""

    redis_url: str = ""
    data_dir: Path
    log_level: str = "warning"
    log_format: LogFormat = "auto"
    listen: str = "127.0.0.1:8420"
    """HOST:PORT of the API; `address` has it in parts."""
    tls_cert: Path | None = None
    """PEM file with the certificate and its chain; given together with `tls_key`, or not at all."""
    tls_key: Path | None = None
    pool: str = ""
    """Of the phones that this process can reach; '' = those that no pool is named for."""
    pools: tuple[str, ...] = ()
    """`POOL=SITE_GLOB`: which phones are for the workers of which pool; the first that matches decides."""
    requests_per_second: float = 50.0
    """That one client of the API may make on average; it may make twice that at once."""
    max_streams: int = 200
    """Event streams that clients may follow at a time."""
    max_body: int = 32 * 1024 * 1024
    """Bytes of a request."""
    engine: Engine = Engine.ASYNCIO
    """The SIP stack that sends where a rollout asks for none."""
    nameserver: str = ""
    """IP, IP:PORT or [IPv6]:PORT that is asked for proxies and phones; '' = what the system says."""
    trace: tuple[str, ...] = ()
    """Where copies of all SIP messages go: absolute paths of capture files, and `hep:HOST[:PORT]` of Homer collectors."""
    sip_tls_ca: Path | None = None
    """PEM file of the authorities that certificates of phones and proxies are checked against; None = the system's."""
    sip_tls_cert: Path | None = None
    """PEM file of our own certificate towards phones and proxies; `sip_tls_key` None = its key is in the same file."""
    sip_tls_key: Path | None = None
    sip_tls_verify: bool = True
    """False: any certificate of a phone or a proxy will do."""
    sources: Mapping[str, Source] = field(default_factory=lambda: MappingProxyType({}))
    """Phone lists by name."""

    @property
    def address(self) -> tuple[str, int]:
        """Host, without the brackets of IPv6, and port of `listen`; port 0 stands for any free one."""
        return parse_listen(self.listen)

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{one.name}={shown(self, one.name)!r}' for one in fields(self))})"


def shown(settings: Settings, key: str) -> object:
    """Return the value of a setting as anybody may see it, without passwords; `sources.NAME.file` is one of a source."""
    table, _, inner = key.partition(".")
    if inner:
        name, _, last = inner.rpartition(".")
        inside: object = getattr(getattr(settings, table)[name], last)
        return inside
    value: object = getattr(settings, key)
    return redact_url(str(value)) if key in SECRETS else value


def parse_listen(text: str) -> tuple[str, int]:
    """Read `HOST:PORT` or `[IPv6]:PORT`; raise InputError for anything else. Port 0 stands for any free one."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    plain = bool(bare) and not any(letter.isspace() or letter in "[]/@" for letter in bare)
    if (
        not plain
        or (":" in bare) != (bare != host)
        or not (port.isascii() and port.isdigit())
        or int(port[:6]) > 65_535
    ):
        raise InputError(f"{text[:60]!r} is not HOST:PORT; write for example 127.0.0.1:8420 or [::1]:8420")
    return bare, int(port)


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Return the user's data directory: XDG_DATA_HOME/resyncctl, else ~/.local/share/resyncctl; InputError without a home.

    A relative XDG_DATA_HOME counts as unset, as the XDG Base Directory Specification demands.
    """
    share = environ.get("XDG_DATA_HOME", "")
    return (Path(share) if share.startswith("/") else expanded("~/.local/share")) / "resyncctl"


def expanded(folder: str | Path) -> Path:
    """Put the home in for a `~`; raise InputError when it is nobody's."""
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"the data directory {folder} is in no known home ({error}); name another one with --data-dir"
        ) from error
