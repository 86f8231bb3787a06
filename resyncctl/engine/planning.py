"""From phones to a plan: one device, one event, one due time each. Memory stays flat: rows are spooled, not kept."""

from __future__ import annotations

import hashlib
import json
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NewType, Self

from resyncctl.engine.pools import Pools
from resyncctl.engine.preview import shown_batches, skipped_examples
from resyncctl.engine.routing import Way, way_to, why_not
from resyncctl.errors import InputError, NothingToDoError, SipError
from resyncctl.inventory.phone import Phone, Selection, line_key
from resyncctl.rollout.device import FromSip, group_bindings, key_of
from resyncctl.rollout.model import Action, Options, Reason, Target
from resyncctl.rollout.pacing import seed_of
from resyncctl.rollout.planner import MAX_BATCH, Columns, load_curve, schedule
from resyncctl.sip.hop import hop_of
from resyncctl.sip.notify import NotifyTemplate, Sender, require_event
from resyncctl.sip.uri import Uri
from resyncctl.store.codec import columns_text, decode_block, decode_text, encode_block
from resyncctl.store.records import BatchIndex, trigger_values
from resyncctl.vendors import Catalogue, Intent, Reboots, Trigger, Vendor

PlanHash = NewType("PlanHash", str)

_SPOOL: Final = 32 * 1024 * 1024
"""Bytes of rows kept in memory while planning; more go to a temporary file that only we can read."""
_FORMAT: Final = "resyncctl-plan-1"
CURVE: Final = 60
"""Columns of a load curve, at most."""


@dataclass(slots=True)
class Release:
    """A batch as it is paced: how many phones, and their first and last due offsets in microseconds."""

    phones: int
    first_due: int
    last_due: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The immutable result of planning: who, when, with which event, and who is skipped and why.

    `blocks` are the batches, compressed; `dues` all due offsets in microseconds.
    """

    hash: PlanHash
    options: Options
    seed: int
    targets: int
    skipped: Mapping[str, int]
    notices: tuple[str, ...]
    will_reboot: int
    """Phones that reboot although a resync was asked for."""
    dangerous: int
    """Phones that `--event` can reset to factory settings."""
    triggers: tuple[Trigger, ...]
    index: BatchIndex
    releases: list[Release] = field(repr=False)
    """The batches as they are paced; stored ones may be cut otherwise."""
    blocks: list[bytes] = field(repr=False)
    dues: array[int] = field(repr=False)

    def batches(self) -> Iterator[tuple[int, list[Target]]]:
        """Yield (number, targets) of every batch."""
        for number, block in enumerate(self.blocks):
            yield number, decode_block(block)

    def skips(self) -> Iterator[Target]:
        """Yield the targets that are skipped."""
        for number, block in enumerate(self.blocks):
            if self.index.first_dues[number] < 0:
                yield from decode_block(block)


def plan_report(plan: Plan) -> dict[str, object]:
    """Return a plan as plain values; offsets are seconds from the start of the rollout."""
    width, curve = load_curve(plan.dues, columns=CURVE)
    return {
        "plan_hash": plan.hash,
        "action": plan.options.action.value,
        "seed": plan.seed,
        "targets": plan.targets,
        "skipped": sum(plan.skipped.values()),
        "skipped_reasons": dict(plan.skipped),
        "batches": len(plan.releases),
        "first_due": min(plan.dues) / 1_000_000 if plan.dues else None,
        "last_due": max(plan.dues) / 1_000_000 if plan.dues else None,
        "load_curve": {"bucket_seconds": width, "sends": curve},
        "will_reboot": plan.will_reboot,
        "dangerous": plan.dangerous,
        "events": [trigger.event for trigger in plan.triggers],
        "notices": list(plan.notices),
        "options": plan.options.as_dict(),
        "shown_batches": shown_batches(plan),
        "skipped_examples": skipped_examples(plan),
        "events_with_body": [trigger.event for trigger in plan.triggers if trigger.body],
    }


@dataclass(slots=True)
class _Counts:
    merged: int = 0
    repeated: int = 0
    not_selected: int = 0
    will_reboot: int = 0
    may_reboot: int = 0
    dangerous: int = 0
    unknown_vendor: int = 0
    unsourced: Counter[str] = field(default_factory=Counter)
    rebooting: Counter[str] = field(default_factory=Counter)


class Planner:
    """Collects phones, then makes a plan of them. One use."""

    def __init__(
        self,
        options: Options,
        catalogue: Catalogue,
        selection: Selection | None = None,
        *,
        pools: Pools | None = None,
    ) -> None:
        """Check what does not depend on phones; raises InputError."""
        self._pools = pools or Pools()
        self._proxy = _check_options(options)
        self._options = options
        self._catalogue = catalogue
        self._selection = selection
        self._counts = _Counts()
        self._triggers: dict[str, Trigger | None] = {}
        self._trigger_list: list[Trigger] = []
        self._spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115  (closed by __exit__)
        self._ends = array("Q")
        self._digest = hashlib.sha256()
        self._instances, self._macs, self._bindings = array("q"), array("q"), array("q")
        self._skips = bytearray()
        self._sites: dict[str, int] = {}
        self._site_of, self._delays = array("l"), array("d")
        self._length = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def add(self, phone: Phone, values: Mapping[str, str] | None = None) -> None:
        """Take a phone. `values` are its columns as text, for the selection. Raises InputError."""
        vendor = self._vendor(phone)
        if self._selection and not self._selection.matches({**(values or {}), "vendor": vendor.id if vendor else ""}):
            self._counts.not_selected += 1
            return
        trigger = self._trigger(vendor)
        profile = phone.profile
        delay = self._options.random_delay if profile.random_delay is None else profile.random_delay
        if self._options.random_delay == 0 and self._options.batch_interval == 0:
            delay = 0.0  # --now
        target = Target(
            aor=phone.aor,
            contact=phone.contact,
            path=phone.path,
            vendor=vendor.id if vendor else "",
            site=phone.site,
            auth_username=phone.auth_username,
            auth_password=phone.auth_password,
            call_id=phone.call_id,
            received=phone.received,
            random_delay="" if profile.random_delay is None else f"{profile.random_delay:g}",
            forced_delay="" if profile.forced_delay is None else f"{profile.forced_delay:g}",
            reboots=self._reboots(phone, trigger),
            trigger=self._number(trigger) if trigger else 0,
            skip=self._skip(phone, trigger),
        )
        self.add_target(
            target,
            delay=delay,
            instance=key_of("instance", phone.instance) if phone.instance else 0,
            mac=key_of("mac", phone.mac) if phone.mac else 0,
        )

    def add_target(self, target: Target, *, delay: float, instance: int = 0, mac: int = 0) -> None:
        """Take a target whose event is decided. `delay` is its random delay; the keys say which device it is, 0 = unknown."""
        row = columns_text([target]).encode("utf-8", "surrogateescape")
        self._spool.write(row)
        self._length += len(row)
        self._ends.append(self._length)
        self._digest.update(row)
        self._instances.append(instance)
        self._macs.append(mac)
        self._bindings.append(key_of("binding", target.aor, target.contact))
        self._skips.append(int(target.skip))
        self._site_of.append(self._sites.setdefault(target.site, len(self._sites)))
        self._delays.append(delay)

    def use_triggers(self, triggers: Iterable[Trigger]) -> None:
        """Take over the triggers that targets of another plan point to."""
        self._trigger_list = list(triggers)

    def make(self, *, seed: int | None = None, name: str = "") -> Plan:
        """Make the plan. The seed is `seed`, else derived from `name` (the rollout's ID), else from targets and options."""
        if not self._ends:
            raise NothingToDoError(
                "no phone is left after --where; nothing to do" if self._counts.not_selected else "no phones"
            )
        options = self._options
        if seed is None:
            options_text = json.dumps(options.as_dict(), sort_keys=True)
            seed = seed_of("id", name) if name else seed_of("content", options_text, self._digest.hexdigest())
        chosen = self._devices()
        lines = self._lines(chosen)
        sent: list[int] = []
        skipped: list[int] = []
        for index in range(len(chosen)):
            if chosen[index] == index:
                (skipped if self._skips[index] else sent).append(index)
        columns = Columns(
            devices=array("q", (self._device_key(index) for index in sent)),
            sites=array("l", (self._site_of[index] for index in sent)),
            random_delays=array("d", (self._delays[index] for index in sent)),
        )
        blocks: list[bytes] = []
        first_dues, sizes, pool_of, dues = array("q"), array("H"), array("B"), array("q")
        total = hashlib.sha256()
        total.update(_FORMAT.encode())
        triggers = [trigger_values(one) for one in self._trigger_list]
        total.update(json.dumps([options.as_dict(), seed, triggers], sort_keys=True).encode())

        def keep(members: list[Target], pool: int = 0) -> None:
            text = columns_text(members)
            total.update(text.encode("utf-8", "surrogateescape"))
            blocks.append(encode_block(text))
            first_dues.append(members[0].due_us)
            sizes.append(len(members))
            pool_of.append(pool)

        releases: list[Release] = []
        for batch in schedule(columns, options, seed):
            members = []
            for place, due, number in zip(batch.targets, batch.dues, batch.released, strict=True):
                target = replace(self._row(sent[place], lines), due_us=due)
                members.append(target)
                self._count(target)
                while number >= len(releases):
                    releases.append(Release(0, due, due))
                release = releases[number]
                release.first_due = min(release.first_due, due) if release.phones else due
                release.phones += 1
                release.last_due = max(release.last_due, due)
            dues.extend(batch.dues)
            for pool, reached in self._by_pool(members):
                keep(reached, pool)
        reasons: Counter[str] = Counter()
        for start in range(0, len(skipped), MAX_BATCH):
            members = [self._row(index, lines) for index in skipped[start : start + MAX_BATCH]]
            reasons.update(member.skip.text for member in members)
            keep(members)
        self._spool.close()
        return Plan(
            hash=PlanHash(total.hexdigest()),
            options=options,
            seed=seed,
            targets=len(sent) + len(skipped),
            skipped=dict(reasons),
            notices=self._notices(),
            will_reboot=self._counts.will_reboot,
            dangerous=self._counts.dangerous,
            triggers=tuple(self._trigger_list),
            index=BatchIndex(first_dues, sizes, pool_of, self._pools.names),
            releases=releases,
            blocks=blocks,
            dues=dues,
        )

    def _by_pool(self, members: list[Target]) -> Iterator[tuple[int, list[Target]]]:
        """Split a batch, so that each part is for one pool; all parts keep their due times."""
        if len(self._pools.names) == 1:
            yield 0, members
            return
        parts: dict[int, list[Target]] = {}
        for target in members:
            parts.setdefault(self._pools.number(target.site), []).append(target)
        yield from sorted(parts.items())

    def _devices(self) -> array[int]:
        """Return for each row the row that stands for its device: the first that can be sent to; count what was merged."""
        plain = array("q", self._bindings)
        for index in range(len(plain)):
            if not self._options.all_contacts and (self._instances[index] or self._macs[index]):
                plain[index] = 0
        repeated = group_bindings([plain])
        self._counts.repeated = sum(1 for index, first in enumerate(repeated) if index != first)
        if self._options.all_contacts:
            return repeated
        first_of = group_bindings([self._instances, self._macs, plain])
        merged = sum(1 for index, first in enumerate(first_of) if index != first)
        self._counts.merged = merged - self._counts.repeated
        stands_for: dict[int, int] = {}
        for index, first in enumerate(first_of):
            if index != first and self._skips[first] and not self._skips[index]:
                stands_for.setdefault(first, index)
        for index, first in enumerate(first_of):
            first_of[index] = stands_for.get(first, first)
        return first_of

    def _lines(self, chosen: array[int]) -> dict[int, list[str]]:
        """Return the AORs of the other lines of each device that has more than one."""
        lines: dict[int, list[str]] = {}
        for index, row in enumerate(chosen):
            if index != row:
                other = self._row(index, {})
                lines.setdefault(row, []).append(line_key(other.aor or other.contact))
        return lines

    def _device_key(self, index: int) -> int:
        if self._options.all_contacts:
            return self._bindings[index]
        return self._instances[index] or self._macs[index] or self._bindings[index]

    def _row(self, index: int, lines: Mapping[int, list[str]]) -> Target:
        start = self._ends[index - 1] if index else 0
        self._spool.seek(start)
        text = self._spool.read(self._ends[index] - start).decode("utf-8", "surrogateescape")
        target = decode_text(text)[0]
        others = lines.get(index)
        return replace(target, lines=",".join(dict.fromkeys(others))) if others else target

    def _vendor(self, phone: Phone) -> Vendor | None:
        if phone.vendor:
            vendor = self._catalogue.get(phone.vendor)
            if vendor is None:
                raise InputError(f"unknown vendor {phone.vendor!r}; `resyncctl vendors list` shows the known ones")
            return vendor
        return self._catalogue.match(phone.user_agent) if phone.user_agent else None

    def _trigger(self, vendor: Vendor | None) -> Trigger | None:
        """Return what to send to a vendor's phones; None = they take no NOTIFY for it."""
        key = vendor.id if vendor else ""
        if key not in self._triggers:
            event = self._options.event
            if event:
                self._triggers[key] = Trigger(
                    event,
                    headers=(),
                    content_type=None,
                    body=None,
                    reboots=Reboots.UNKNOWN,
                    sourced=True,
                    needs_call_id=False,
                    note="--event",
                )
            else:
                self._triggers[key] = self._catalogue.trigger(vendor, Intent(self._options.action.value))
        return self._triggers[key]

    def _number(self, trigger: Trigger) -> int:
        """Return the place of what a trigger sends in the plan's list; what differs in notes only is sent alike."""
        sends = replace(trigger, note="", sourced=True, reboots=Reboots.UNKNOWN)
        if sends not in self._trigger_list:
            self._trigger_list.append(sends)
        return self._trigger_list.index(sends)

    def _skip(self, phone: Phone, trigger: Trigger | None) -> Reason:
        if trigger is None:
            return Reason.NOT_SUPPORTED
        if phone.profile.from_sip is FromSip.IGNORE and _is_check_sync(trigger.event):
            return Reason.IGNORES_CHECK_SYNC
        if trigger.needs_call_id and not phone.call_id:
            return Reason.NO_CALL_ID
        return self._no_way(phone)

    def _no_way(self, phone: Phone) -> Reason:
        """Say why the phone cannot be reached; Reason.NONE when it can."""
        contact = phone.contact or phone.aor
        if not (phone.path or self._proxy or phone.received) and contact.startswith("sip:") and ";" not in contact:
            return Reason.NONE  # nearly all
        try:
            return why_not(way_to(contact, path=phone.path, received=phone.received, proxy=self._proxy))
        except SipError:
            return Reason.TRANSPORT  # one that nobody knows; all else has been looked at

    def _reboots(self, phone: Phone, trigger: Trigger | None) -> str:
        """Say whether a phone reboots although a resync was asked for; see Target.reboots."""
        if trigger is None or self._options.action is Action.REBOOT:
            return ""
        from_sip = phone.profile.from_sip
        if from_sip is not None and _is_check_sync(trigger.event):
            return "yes" if from_sip is FromSip.ALWAYS_REBOOT else ""
        return {Reboots.ALWAYS: "yes", Reboots.DEPENDS: "maybe"}.get(trigger.reboots, "")

    def _count(self, target: Target) -> None:
        """Count a target for the notices."""
        counts = self._counts
        vendor = self._catalogue.get(target.vendor) if target.vendor else None
        trigger = self._trigger(vendor)
        if trigger is None:
            return
        if vendor is None:
            counts.unknown_vendor += 1
        if not trigger.sourced:
            counts.unsourced[vendor.name if vendor else "unknown"] += 1
        if self._options.event and self._catalogue.is_dangerous(vendor, trigger.event):
            counts.dangerous += 1
        if target.reboots == "yes":
            counts.will_reboot += 1
            by_vendor = trigger.reboots is Reboots.ALWAYS and vendor is not None
            counts.rebooting[vendor.name if by_vendor and vendor else "DBID_RESYNC_FROM_SIP=1"] += 1
        counts.may_reboot += target.reboots == "maybe"

    def _notices(self) -> tuple[str, ...]:
        counts = self._counts
        notices = []
        if counts.will_reboot:
            by = ", ".join(f"{name} {count}" for name, count in sorted(counts.rebooting.items()))
            notices.append(f"{_phones(counts.will_reboot)} will reboot although you asked for resync ({by})")
        if counts.dangerous:
            notices.append(
                f"the event {self._options.event!r} can reset {counts.dangerous} of these phones to factory settings"
            )
        if counts.may_reboot:
            notices.append(
                f"{_phones(counts.may_reboot)} may reboot: it depends on their own settings (`resyncctl vendors show`)"
            )
        for name, count in sorted(counts.unsourced.items()):
            notices.append(f"{_phones(count)} of {name}: no source names their event, plain check-sync is sent")
        if counts.unknown_vendor:
            notices.append(f"{_phones(counts.unknown_vendor)} of unknown vendor: the generic event is sent")
        if counts.merged:
            notices.append(f"bindings that are further lines of a target: {counts.merged}")
        if counts.repeated:
            notices.append(f"rows that repeat an earlier row: {counts.repeated}")
        if counts.not_selected:
            notices.append(f"rows not selected by --where: {counts.not_selected}")
        return tuple(notices)


def _phones(count: int) -> str:
    return "1 phone" if count == 1 else f"{count} phones"


def _is_check_sync(event: str) -> bool:
    return event.partition(";")[0].strip().lower() == "check-sync"


def _check_options(options: Options) -> str:
    """Raise InputError for options that no phone could be sent with; return the outbound proxy."""
    try:
        if options.event:
            require_event(options.event)
            if options.action is Action.RESYNC and "reboot" in options.event.lower().replace("reboot=false", ""):
                raise InputError(
                    f"--event {options.event!r} reboots phones: say --action reboot, which is never sent twice after a crash"
                )
        if options.from_uri:
            NotifyTemplate(Sender(options.from_uri, "sip:check@localhost", "check"), "check-sync")
    except SipError as error:
        raise InputError(f"{'--event' if options.event else '--from'}: {error}") from error
    if options.identity:
        _require_uri(options.identity, "--identity", "sip:provisioning@pbx.example.com")
    if options.outbound_proxy:
        proxy = _require_uri(options.outbound_proxy, "--outbound-proxy", "sip:10.0.0.1:5060")
        try:
            why = why_not(Way("", (), hop_of(proxy), through_proxy=True))
        except SipError as error:
            raise InputError(f"--outbound-proxy: {error}; UDP, TCP and TLS are spoken") from error
        if why is not Reason.NONE:
            raise InputError(
                "--outbound-proxy: UDP, TCP and TLS are spoken; write for example sip:10.0.0.1;transport=tcp"
            )
    return options.outbound_proxy


def _require_uri(text: str, option: str, example: str) -> Uri:
    try:
        return Uri.parse(text)
    except SipError as error:
        raise InputError(f"{option}: {error}; write for example {example}") from error
