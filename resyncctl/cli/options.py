"""The options of a rollout as the command line takes them, declared once, for every command that makes or orders one."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Self, cast, get_type_hints

import typer

from resyncctl.cli.state import duration
from resyncctl.errors import InputError
from resyncctl.rollout.model import Action, Engine, OnBusy, Options

if TYPE_CHECKING:
    from resyncctl.cli.state import Common
    from resyncctl.engine.outbound import Outbound

_D: Final = Options()
_PACING: Final = "Pacing"
_SELECTION: Final = "Phones"
_SIP: Final = "SIP"
_BUSY: Final = "Phones in a call"
_MACHINE: Final = "This machine"


def _seconds(text: str, default: float, panel: str) -> object:
    """Return a duration option with its default as people write it."""
    return typer.Option(parser=duration, metavar="DUR", show_default=f"{default:g}s", help=text, rich_help_panel=panel)


Phones = Annotated[
    Path, typer.Argument(metavar="PHONES.csv", help="Registered phones; columns aor, contact, user_agent, …")
]
ActionOption = Annotated[Action, typer.Option(help="What the phones shall do.")]
BatchSize = Annotated[int, typer.Option(min=1, max=100_000, help="Phones of one batch.", rich_help_panel=_PACING)]
BatchInterval = Annotated[float, _seconds("From one batch to the next.", _D.batch_interval, _PACING)]
RandomDelay = Annotated[float, _seconds("Jitter of each phone, DBID_RANDOM_DELAY.", _D.random_delay, _PACING)]
Rate = Annotated[
    float, typer.Option(min=0, max=1_000_000, help="Sends a second at most; 0 = unlimited.", rich_help_panel=_PACING)
]
MaxInFlight = Annotated[
    int, typer.Option(min=1, max=50_000, help="Unanswered requests at most.", rich_help_panel=_PACING)
]
Now = Annotated[bool, typer.Option("--now", help="No batch interval and no random delay.", rich_help_panel=_PACING)]
Attempts = Annotated[
    int | None,
    typer.Option(
        min=1, max=10, help="Tries at a phone. \\[default: 3 for resync, 1 for reboot]", rich_help_panel=_PACING
    ),
]
RetryDelay = Annotated[float, _seconds("Before the first retry; doubles.", _D.retry_delay, _PACING)]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD=GLOB", help="Only matching phones; repeatable.", rich_help_panel=_SELECTION),
]
AllContacts = Annotated[
    bool, typer.Option("--all-contacts", help="Every binding is a target, not every phone.", rich_help_panel=_SELECTION)
]
BusyFileOption = Annotated[
    Path | None, typer.Option(help="File with the AORs that are in a call, one a line.", rich_help_panel=_BUSY)
]
ForcedDelay = Annotated[float, _seconds("Longest wait for a call to end, DBID_RESYNC_DELAY.", _D.forced_delay, _BUSY)]
IdleFor = Annotated[float, _seconds("Wait this long after a call.", _D.idle_for, _BUSY)]
OnBusyOption = Annotated[
    OnBusy | None,
    typer.Option(help="At the forced delay. \\[default: force for resync, skip for reboot]", rich_help_panel=_BUSY),
]
EventOption = Annotated[
    str, typer.Option(metavar="VALUE", help="Event value instead of the vendor's.", rich_help_panel=_SIP)
]
LocalAddress = Annotated[str, typer.Option(metavar="IP[:PORT]", help="Send from here.", rich_help_panel=_SIP)]
OutboundProxy = Annotated[str, typer.Option(metavar="URI", help="Send through this proxy.", rich_help_panel=_SIP)]
From = Annotated[str, typer.Option("--from", metavar="URI", help="From URI of the NOTIFYs.", rich_help_panel=_SIP)]
Identity = Annotated[str, typer.Option(metavar="URI", help="P-Asserted-Identity of the NOTIFYs.", rich_help_panel=_SIP)]
EngineOption = Annotated[
    Engine | None, typer.Option(help="SIP stack that sends. \\[default: asyncio]", rich_help_panel=_SIP)
]
Nameserver = Annotated[
    str, typer.Option(metavar="IP[:PORT]", help="Look host names up there.", rich_help_panel=_MACHINE)
]
Trace = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE.pcap|hep:HOST",
        help="Write what is sent and received to a capture, or to a Homer collector; repeatable.",
        rich_help_panel=_MACHINE,
    ),
]
TlsCa = Annotated[Path | None, typer.Option(help="PEM file: whose certificates to accept.", rich_help_panel=_MACHINE)]
TlsCert = Annotated[
    Path | None, typer.Option(help="PEM file: our certificate, with its chain.", rich_help_panel=_MACHINE)
]
TlsKey = Annotated[Path | None, typer.Option(help="PEM file: the key of it.", rich_help_panel=_MACHINE)]
TlsNoVerify = Annotated[bool, typer.Option("--tls-no-verify", help="Accept any certificate.", rich_help_panel=_MACHINE)]
TimerT1 = Annotated[float, _seconds("First retransmission.", _D.timer_t1, _SIP)]
Timeout = Annotated[float, _seconds("Timer F: give up waiting.", _D.timeout, _SIP)]
IdOption = Annotated[str, typer.Option("--id", metavar="ID", help="Name of the rollout; the same plan resumes it.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the jitter.", rich_help_panel=_PACING)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
PhonesFile = Annotated[
    Path | None,
    typer.Option("--phones", metavar="FILE", help="PHONES.csv, read each time.", rich_help_panel=_SELECTION),
]
SourceName = Annotated[
    str, typer.Option("--source", metavar="NAME", help="A source of the configuration.", rich_help_panel=_SELECTION)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWords:
    """Every run option with its default, in the order of the help; named as in `engine/order.RunOptions`, and `where`."""

    action: ActionOption = _D.action
    batch_size: BatchSize = _D.batch_size
    batch_interval: BatchInterval = _D.batch_interval
    random_delay: RandomDelay = _D.random_delay
    rate: Rate = _D.rate
    max_in_flight: MaxInFlight = _D.max_in_flight
    now: Now = False
    attempts: Attempts = None
    retry_delay: RetryDelay = _D.retry_delay
    where: Where = None
    all_contacts: AllContacts = False
    busy_file: BusyFileOption = None
    forced_delay: ForcedDelay = _D.forced_delay
    idle_for: IdleFor = _D.idle_for
    on_busy: OnBusyOption = None
    event: EventOption = ""
    local_address: LocalAddress = ""
    outbound_proxy: OutboundProxy = ""
    from_uri: From = ""
    identity: Identity = ""
    engine: EngineOption = None
    timer_t1: TimerT1 = _D.timer_t1
    timeout: Timeout = _D.timeout
    seed: Seed = None
    yes: Yes = False

    @classmethod
    def of(cls, options: Mapping[str, object]) -> Self:
        """Fill what `with_run_options` handed over up with the defaults."""
        values = dict(options)
        if "busy_file" in values:
            values["busy_file"] = Path(str(values["busy_file"]))
        for name, kind in (("action", Action), ("on_busy", OnBusy), ("engine", Engine)):
            if name in values:
                values[name] = kind(str(values[name]))
        return cls(**values)  # type: ignore[arg-type]

    def options(self) -> Options:
        """Return them as the planner takes them; raises InputError."""
        if self.timer_t1 < 0.01 or self.timeout < self.timer_t1:
            raise InputError("--timer-t1 is at least 10ms, and --timeout not shorter than it")
        return Options.asked(self, action=self.action, now=self.now, attempts=self.attempts, on_busy=self.on_busy)


@dataclass(frozen=True, slots=True, kw_only=True)
class HereWords:
    """How requests leave this machine: for a rollout that is executed here. The service has its own configuration."""

    nameserver: Nameserver = ""
    trace: Trace = None
    tls_ca: TlsCa = None
    tls_cert: TlsCert = None
    tls_key: TlsKey = None
    tls_no_verify: TlsNoVerify = False

    def refuse(self, why: str) -> None:
        """Raise InputError when one of them is given."""
        given = [f"--{one.name.replace('_', '-')}" for one in dataclasses.fields(self) if getattr(self, one.name)]
        if given:
            verb = "is" if len(given) == 1 else "are"
            raise InputError(
                f"{', '.join(given)} {verb} for a rollout that is executed here, not {why}: what sends there has its own"
                " configuration (nameserver, trace, sip_tls_*)"
            )

    def outbound(self, *, local_address: str = "", engine: Engine | None = None) -> Outbound:
        """Return them as the engine takes them."""
        from resyncctl.engine.outbound import Outbound

        files = {name: str(path.absolute()) for name in _TLS_FILES if (path := getattr(self, name)) is not None}
        verify = "no" if self.tls_no_verify else ""
        return Outbound(
            local_address=local_address, engine=engine or "", nameserver=self.nameserver, tls_verify=verify, **files
        )


_TLS_FILES: Final = ("tls_ca", "tls_cert", "tls_key")


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the run options, if it has a parameter `options: dict[str, object]` beside `context: typer.Context`.

    `options` holds those that the user gave, by the names of `engine/order.RunOptions`, as JSON has them; files are
    absolute. It also holds `where`, a list of conditions, if there are any: in an order that stands beside the options.
    With a parameter `here: HereWords` it has those options too.
    """
    offered = _parameters(RunWords)
    about_here = _parameters(HereWords)
    asked = inspect.signature(command, eval_str=True).parameters
    names = frozenset(one.name for one in offered if "options" in asked)
    here_names = frozenset(one.name for one in about_here if "here" in asked)
    parameters: list[inspect.Parameter] = []
    for parameter in asked.values():
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        parameters += {"options": offered, "here": about_here}.get(parameter.name, own)

    @functools.wraps(command)
    def with_options(**values: object) -> None:
        context = cast("typer.Context", values["context"])
        given = {name: _plain(values[name]) for name in values if name in names and _is_given(context, name)}
        own = {name: value for name, value in values.items() if name not in names | here_names}
        if here_names:
            own["here"] = HereWords(**{name: values[name] for name in here_names})  # type: ignore[arg-type]
        if names:
            own["options"] = given
        command(**own)

    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options


def order_words(
    common: Common, options: Mapping[str, object], *, phones: Path | None, source: str
) -> dict[str, object]:
    """Return the order that `with_run_options`, `--phones` and `--source` make, as JSON has it; raises InputError.

    A phone file is on the machine of the service: with --server its path has to be absolute.
    """
    from resyncctl.engine.order import read_order

    if (phones is None) == (not source):
        raise InputError("give --phones FILE or --source NAME, one of the two")
    if phones is not None and common.server and not phones.is_absolute():
        raise InputError(
            f"--phones {phones}: with --server it is a file on the machine of the service; give its whole path"
        )
    which = {"source": source} if phones is None else {"phones_file": str(phones.absolute())}
    where = {"where": options["where"]} if options.get("where") else {}
    rest = {name: value for name, value in options.items() if name != "where"}
    words = {**which, **where, "options": rest}
    read_order(words)
    return words


@functools.cache
def _parameters(words: type[RunWords | HereWords]) -> list[inspect.Parameter]:
    hints = get_type_hints(words, include_extras=True)
    return [
        inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=item.default, annotation=hints[item.name])
        for item in dataclasses.fields(words)
    ]


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value.absolute())
    return value.value if isinstance(value, Enum) else value
