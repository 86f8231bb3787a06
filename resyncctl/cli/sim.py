"""`resyncctl sim`: simulated phones to rehearse against."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from resyncctl.cli.state import Common, emit, run_async, say
from resyncctl.duration import parse_duration
from resyncctl.errors import InputError, TransportError

if TYPE_CHECKING:
    from resyncctl.sim.behaviour import Behaviour
    from resyncctl.sim.fleet import Fleet
    from resyncctl.sim.port import Registrar
    from resyncctl.sim.roster import SimulatedPhone

T = TypeVar("T")


class Challenge(StrEnum):
    """Who asks for credentials."""

    PHONE = "401"
    PROXY = "407"


class Hash(Enum):
    """Digest algorithms that a simulated phone asks for."""

    MD5 = "MD5"
    SHA_256 = "SHA-256"
    SHA_512_256 = "SHA-512-256"


def sim(
    context: typer.Context,
    phones: Annotated[
        str, typer.Argument(metavar="PHONES_OR_COUNT", help="A CSV file of phones to double, or how many to make up.")
    ],
    csv: Annotated[Path | None, typer.Option(help="Write the phones here, for `resyncctl run`.")] = None,
    listen: Annotated[
        str, typer.Option(metavar="IP[:PORT]", help="Address of the phones; port 0 = any.")
    ] = "127.0.0.1",
    sockets: Annotated[int, typer.Option(min=0, help="Sockets that the phones share; 0 = one each.")] = 1,
    answer: Annotated[
        str, typer.Option(help="Final answers by share, `silent` for none: 200:90%,404:5%,silent:5%.")
    ] = "200",
    delay: Annotated[str, typer.Option(metavar="DUR[-DUR]", help="From request to answer.")] = "0",
    provisional: Annotated[bool, typer.Option("--provisional", help="Say 100 at once.")] = False,
    loss: Annotated[str, typer.Option(metavar="N%", help="Datagrams lost, each way.")] = "0%",
    auth: Annotated[Challenge | None, typer.Option(help="Challenge every NOTIFY.")] = None,
    algorithm: Annotated[Hash, typer.Option(help="Digest algorithm of the challenge.")] = Hash.MD5,
    overloaded: Annotated[int, typer.Option(min=0, help="Each phone answers so many requests with 503 first.")] = 0,
    retry_after: Annotated[int, typer.Option(min=0, help="Seconds in the Retry-After of these.")] = 1,
    boot_time: Annotated[str, typer.Option(metavar="DUR[-DUR]", help="How long a reboot takes.")] = "30s",
    mute_on_reboot: Annotated[str, typer.Option(metavar="N%", help="Phones that reboot without answering.")] = "0%",
    registrar: Annotated[str, typer.Option(metavar="URI", help="Register here after a reboot.")] = "",
    register: Annotated[bool, typer.Option("--register", help="Register at the start, too.")] = False,
    domain: Annotated[str, typer.Option(help="Domain of made-up phones.")] = "sim.invalid",
    seed: Annotated[int, typer.Option(help="Decides who answers what.")] = 0,
) -> None:
    """Simulate phones until Ctrl-C: they answer, refuse, keep silent, challenge, reboot and register again as asked for."""
    common: Common = context.obj
    common.only_here()
    from resyncctl.sim.behaviour import Behaviour, parse_answers
    from resyncctl.sip.digest import Algorithm

    _check(phones, csv, registrar, domain, register=register)
    behaviour = Behaviour(
        seed=seed,
        answers=_read("--answer", parse_answers, answer),
        delay=_read("--delay", _range, delay),
        provisional=provisional,
        loss=_read("--loss", _share, loss),
        challenge=None if auth is None else 401 if auth is Challenge.PHONE else 407,
        algorithm=Algorithm(algorithm.value),
        overloaded=overloaded,
        retry_after=retry_after,
        boot_time=_read("--boot-time", _range, boot_time),
        mute_on_reboot=_read("--mute-on-reboot", _share, mute_on_reboot),
    )
    roster = _phones(phones, domain, seed)
    fleet = run_async(lambda: _simulate(roster, behaviour, csv, listen, sockets, registrar, register=register))
    stats = fleet.stats
    summary = {
        "phones": len(roster),
        "requests": stats.requests,
        "retransmissions": stats.retransmissions,
        "answers": {str(status): count for status, count in sorted(stats.answers.items())},
        "reboots": stats.reboots,
        "registrations": stats.registrations,
        "failed_registrations": stats.failed_registrations,
    }
    if common.as_json:
        emit(summary)
    else:
        say(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in summary.items()))


def _check(phones: str, csv: Path | None, registrar: str, domain: str, *, register: bool) -> None:
    """Raise InputError for options that do not go together."""
    from resyncctl.errors import SipError
    from resyncctl.sip.uri import Uri

    if register and not registrar:
        raise InputError(
            "--register: there is nowhere to register; name the registrar, as in --registrar sip:10.0.0.1:5060"
        )
    try:
        known = Uri.parse(f"sip:1@{domain}").host.lower() == domain.lower()
    except SipError:
        known = False
    if not known:
        raise InputError(f"--domain: {domain[:60]!r} is not a host name; write for example sim.invalid")
    if csv is None:
        return
    if csv.is_dir():
        raise InputError(f"--csv {csv}: is a directory; name a file in it")
    if not phones.isdigit() and csv.absolute() == Path(phones).absolute():
        raise InputError(f"--csv {csv}: is the list of the real phones, which would be lost; name another file")


def _phones(source: str, domain: str, seed: int) -> list[SimulatedPhone]:
    from resyncctl.inventory.csv_file import CsvPhones
    from resyncctl.sim.roster import SimulatedPhone, make_phones
    from resyncctl.vendors import Catalogue

    if source.isdigit():
        count = int(source)
        if not 0 < count <= 200_000:
            raise InputError(f"{source} phones: simulate between 1 and 200000")
        return make_phones(count, domain=domain, seed=seed, catalogue=Catalogue.load())
    return [SimulatedPhone.from_row(values) for _, values, _ in CsvPhones(Path(source)).rows()]


async def _simulate(
    roster: list[SimulatedPhone],
    behaviour: Behaviour,
    csv: Path | None,
    listen: str,
    sockets: int,
    registrar: str,
    *,
    register: bool,
) -> Fleet:
    import asyncio

    from resyncctl.engine.outbound import parse_local
    from resyncctl.sim.fleet import Fleet
    from resyncctl.sim.roster import write_csv
    from resyncctl.transport.ip import IpNetwork
    from resyncctl.vendors import Catalogue

    where = await _registrar(registrar, register=register) if registrar else None
    with _named("--listen"):
        address = parse_local(listen)
    fleet = Fleet(
        IpNetwork(),
        roster,
        behaviour,
        catalogue=Catalogue.load(),
        listen=address,
        sockets=sockets,
        registrar=where,
    )
    with _named("--listen"):
        fleet.open()
    try:
        if csv is not None:
            # Whoever waits for the file finds it whole.
            part = csv.with_name(f"{csv.name}.part")
            count = write_csv(part, fleet.rows())
            part.replace(csv)
            say(f"{_counted(count)} in {csv}; try: resyncctl run {csv}")
        say(f"{_counted(len(roster), 'simulated ')} listening; Ctrl-C ends them")
        running = asyncio.create_task(fleet.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, running.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        fleet.close()
    return fleet


def _counted(count: int, kind: str = "") -> str:
    return f"1 {kind}phone is" if count == 1 else f"{count} {kind}phones are"


async def _registrar(text: str, *, register: bool) -> Registrar:
    from resyncctl.errors import SipError
    from resyncctl.sim.port import Registrar
    from resyncctl.sip.hop import NextHop, Transport
    from resyncctl.sip.uri import Uri
    from resyncctl.transport.resolver import Resolver

    try:
        uri = Uri.parse(text)
    except SipError as error:
        raise InputError(f"--registrar: {error}; write for example sip:10.0.0.1:5060") from error
    hops = await Resolver().resolve(NextHop(uri.address, uri.port, Transport.UDP))
    if not hops:
        raise InputError(f"--registrar: {uri.address} has no address")
    return Registrar(uri, hops[0].address, at_start=register)


@contextlib.contextmanager
def _named(option: str) -> Iterator[None]:
    """Let errors about a local address name the option that `sim` has for it."""
    try:
        yield
    except (InputError, TransportError) as error:
        raise type(error)(str(error).replace("--local-address", option)) from error


def _read(option: str, parse: Callable[[str], T], text: str) -> T:
    """Parse the text of an option, and name it if that fails."""
    try:
        return parse(text)
    except InputError as error:
        raise InputError(f"{option}: {error}") from error


def _range(text: str) -> tuple[float, float]:
    least, dash, most = text.partition("-")
    return parse_duration(least), parse_duration(most if dash else least)


def _share(text: str) -> float:
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise InputError(f"{text!r} is not a share; write for example 5% or 0.05") from None
    return share
