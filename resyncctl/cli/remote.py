"""The commands of `engine/backend.Backend` on a service elsewhere, through its API."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from resyncctl.cli.client import LARGEST, ApiClient, Server, connected
from resyncctl.engine.backend import News, Page, Planned, Report, WantedHook, WantedSchedule
from resyncctl.engine.order import MAX_INLINE
from resyncctl.engine.results import Row
from resyncctl.errors import InputError, NotFoundError, PhoneListError
from resyncctl.inventory.csv_file import CsvPhones
from resyncctl.store.records import rollout_id

if TYPE_CHECKING:
    from resyncctl.rollout.model import TargetState
    from resyncctl.rollout.states import Command, RolloutState

_MANY = 100
"""Rollouts that are asked for at once when those in certain states are looked for."""


@contextlib.asynccontextmanager
async def open_remote(server: Server) -> AsyncIterator[RemoteBackend]:
    """Work with a service."""
    async with connected(server) as client:
        yield RemoteBackend(client)


class RemoteBackend:
    """See `Backend`."""

    def __init__(self, client: ApiClient) -> None:
        self._api = client

    @property
    def where(self) -> str:
        """The URL of the service."""
        return self._api.where

    # Rollouts

    async def plan(self, phones: Path, order: Mapping[str, object]) -> Planned:
        """Have the phones of a file on this machine planned; errors name its lines. `order` has where and options.

        Raises InputError also for more phones than one request may carry.
        """
        listed = CsvPhones(phones)
        lines: list[int] = []
        rows: list[dict[str, str]] = []
        for line, values, _ in listed.rows():
            if len(rows) <= MAX_INLINE:
                lines.append(line)
                rows.append({name: text for name, text in values.items() if text})
        if len(rows) > MAX_INLINE:
            raise InputError(
                f"{phones}: more than {MAX_INLINE} phones cannot be sent to a service at once; put the list there, name it"
                " under [sources] of its configuration, and use a schedule with --source, or a hook"
            )
        try:
            report = await self._api.post("/v1/plans", {**order, "phones": rows})
        except PhoneListError as error:
            problems = [_at_line(one, lines) for one in error.problems]
            raise PhoneListError(str(phones), problems, error.total) from error
        if listed.ignored:
            notices = [
                *_strings(report["notices"]),
                f"columns without meaning are ignored: {', '.join(listed.ignored)}",
            ]
            report["notices"] = notices
        return Planned(report=report)

    async def launch(self, planned: Planned, *, name: str) -> Report:
        """See Backend."""
        body = {"plan_hash": planned.report["plan_hash"], "id": name}
        launched = await self._api.post("/v1/rollouts", body, once=True)
        return await self.rollout(str(launched["rollout"]))

    async def rollouts(self, count: int, states: Collection[RolloutState] = ()) -> list[Report]:
        """See Backend."""
        if states:
            wanted = {"state": sorted(state.value for state in states)}
            return (await self._api.page("/v1/rollouts", "rollouts", wanted, limit=_MANY)).entries[:count]
        return (await self._api.pages("/v1/rollouts", "rollouts", {}, most=count)).entries

    async def rollout(self, name: str) -> Report:
        """See Backend."""
        return await self._api.get(_path(name))

    async def follow(self, name: str) -> AsyncIterator[News]:
        """See Backend."""
        report = await self.rollout(name)
        if report["finished_at"]:
            yield News(report, last=True)
            return
        async for event in self._api.events(f"{_path(name)}/events"):
            yield News(event.data, last=event.kind == "end")

    async def results(self, name: str, states: Collection[TargetState]) -> AsyncIterator[Row]:
        """See Backend."""
        path, wanted, cursor = f"{_path(name)}/targets", sorted(state.label for state in states), ""
        while True:
            page = await self._api.page(path, "targets", {"state": wanted, "cursor": cursor}, limit=LARGEST)
            for row in page.entries:
                yield Row(**row)  # type: ignore[arg-type]
            cursor = page.more
            if not cursor:
                return

    async def steer(self, name: str, wanted: Command) -> Report:
        """See Backend."""
        return await self._api.post(f"{_path(name)}/{wanted.name.lower()}")

    async def plan_retry(self, name: str, states: Collection[TargetState], *, now: bool, child: str) -> Report:
        """See Backend."""
        return await self._api.post(f"{_path(name)}/retry/plan", _retry(states, now=now, child=child))

    async def retry(self, name: str, states: Collection[TargetState], *, now: bool, child: str) -> Report:
        """See Backend."""
        made = await self._api.post(f"{_path(name)}/retry", _retry(states, now=now, child=child), once=True)
        return await self.rollout(str(made["rollout"]))

    # Schedules

    async def add_schedule(self, wanted: WantedSchedule) -> Report:
        """See Backend."""
        how = {"misfire": wanted.misfire, "grace": wanted.grace, "overlap": wanted.overlap, "replace": wanted.replace}
        body = {**wanted.order, **wanted.times, **how, "name": wanted.name}
        return await self._api.post("/v1/schedules", body, once=True)

    async def schedules(self) -> list[Report]:
        """See Backend."""
        return (await self._api.pages("/v1/schedules", "schedules", {})).entries

    async def schedule(self, name: str) -> Report:
        """See Backend."""
        return await self._api.get(_schedule(name))

    async def fires(self, name: str, count: int) -> list[Report]:
        """See Backend."""
        return _objects((await self._api.get(f"{_schedule(name)}/next", {"count": count}))["fires"])

    async def pause_schedule(self, name: str) -> Report:
        """See Backend."""
        return await self._api.post(f"{_schedule(name)}/pause")

    async def resume_schedule(self, name: str) -> Report:
        """See Backend."""
        return await self._api.post(f"{_schedule(name)}/resume")

    async def remove_schedule(self, name: str) -> None:
        """See Backend."""
        await self._api.delete(_schedule(name))

    async def run_schedule(self, name: str) -> Report:
        """See Backend."""
        made = await self._api.post(f"{_schedule(name)}/run", once=True)
        return await self.rollout(str(made["rollout"]))

    # Hooks

    async def add_hook(self, wanted: WantedHook) -> Report:
        """See Backend."""
        times = {"quiet": wanted.quiet, "max_wait": wanted.max_wait, "cool_down": wanted.cool_down}
        body = {**wanted.order, **times, "name": wanted.name, "auth": wanted.auth}
        made = await self._api.post("/v1/hooks", body)
        return {key: made[key] for key in ("name", "auth", "secret")}

    async def hooks(self) -> list[Report]:
        """See Backend."""
        return _objects((await self._api.get("/v1/hooks"))["hooks"])

    async def remove_hook(self, name: str) -> None:
        """See Backend."""
        await self._api.delete(_hook(name))

    async def call_hook(self, name: str, extensions: Sequence[str], reason: str) -> Report:
        """See Backend."""
        said = {"extension": ",".join(extensions), "reason": reason}
        return await self._api.post(_hook(name), {key: text for key, text in said.items() if text})

    # The service

    async def audit(self, count: int, before: str) -> Page:
        """See Backend."""
        return await self._api.pages("/v1/audit", "entries", {"cursor": before}, most=count)

    async def sources(self) -> list[Report]:
        """See Backend."""
        return _objects((await self._api.get("/v1/sources"))["sources"])

    async def phones(self, source: str, where: Sequence[str], *, count: int) -> Page:
        """See Backend."""
        wanted: dict[str, str | int | list[str]] = {"source": source, "where": list(where)}
        return await self._api.pages("/v1/phones", "phones", wanted, most=count)

    async def vendors(self, user_agent: str = "") -> list[Report]:
        """Return the catalogue of the service, or what of it fits a User-Agent."""
        wanted = {"user_agent": user_agent} if user_agent else {}
        return _objects((await self._api.get("/v1/vendors", wanted))["vendors"])

    async def workers(self) -> list[Report]:
        """See Backend."""
        return _objects((await self._api.get("/v1/workers"))["workers"])

    async def freeze(self, reason: str) -> Report:
        """See Backend."""
        return await self._api.put("/v1/freeze", {"reason": reason})

    async def thaw(self) -> Report:
        """See Backend."""
        await self._api.delete("/v1/freeze")
        return await self.frozen()

    async def frozen(self) -> Report:
        """See Backend."""
        return await self._api.get("/v1/freeze")


def _path(name: str) -> str:
    return f"/v1/rollouts/{rollout_id(name)}"


def _schedule(name: str) -> str:
    return f"/v1/schedules/{_named('schedule', name)}"


def _hook(name: str) -> str:
    return f"/v1/hooks/{_named('hook', name)}"


def _named(what: str, name: str) -> str:
    """Return a name as it goes into a path; one that would be another path names nothing."""
    if not name.strip("."):
        raise NotFoundError(f"there is no {what} {name!r}; `resyncctl {what} list` shows which there are")
    return quote(name, safe="")


def _retry(states: Collection[TargetState], *, now: bool, child: str) -> Report:
    # Whoever is asked at the terminal has agreed by then.
    return {"states": sorted(state.label for state in states), "now": now, "yes": True, "id": child}


def _at_line(problem: str, lines: Sequence[int]) -> str:
    """Name the line of the file where the API names the place in the request (`phones.17: …`)."""
    name, _, text = problem.partition(": ")
    place = name.removeprefix("phones.").partition(".")[0]
    return f"line {lines[int(place)]}: {text}" if place.isdigit() and int(place) < len(lines) else problem


def _objects(value: object) -> list[Report]:
    assert isinstance(value, list)  # noqa: S101  (what the API says)
    return value


def _strings(value: object) -> list[str]:
    assert isinstance(value, list)  # noqa: S101  (what the API says)
    return value
