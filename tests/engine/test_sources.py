"""An order for a source of the configuration: which phones it means, and what its phones read in From."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from resyncctl.clock import from_us
from resyncctl.config import Source
from resyncctl.engine.calendar import When
from resyncctl.engine.hooks import HookEvent, Hooks, new_hook
from resyncctl.engine.launch import Launcher
from resyncctl.engine.listing import source_reports
from resyncctl.engine.order import Order, read_order
from resyncctl.engine.planning import plan_report
from resyncctl.engine.schedules import Policy, Schedules
from resyncctl.errors import NotFoundError, StateError
from resyncctl.logs import make_logger
from resyncctl.rollout.model import RolloutId
from resyncctl.store.audit import Actor
from resyncctl.store.redis_store import RedisStore
from tests.peers.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server")

ADMIN = Actor("admin@pbx")
NOW = 1_800_000_000_000_000
FROM = "sip:resyncctl@pbx.example.com"


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisStore]:
    """Return an empty store."""
    opened = RedisStore(redis_server.url)
    yield opened
    await opened.close()


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Source]:
    """Return two names for one list of phones, of which `hq` has a From domain."""
    phones = tmp_path / "phones.csv"
    phones.write_text("aor\nsip:1000@192.0.2.1\nsip:1001@192.0.2.1\n", encoding="ascii")
    return {"hq": Source(phones, "pbx.example.com"), "lab": Source(phones)}


@pytest.fixture
def launcher(store: RedisStore, sources: dict[str, Source]) -> Launcher:
    """Return a launcher that knows the sources."""
    return Launcher(store, sources)


def order(source: str = "hq", **options: object) -> Order:
    return read_order({"source": source, "options": options})


async def test_phones_of_a_source_are_sent_to_from_its_domain(launcher: Launcher) -> None:
    plan = await launcher.plan(order())
    assert plan.targets == 2
    assert plan.options.from_uri == FROM
    assert plan_report(plan)["options"] == {**plan.options.as_dict(), "from_uri": FROM}


async def test_a_from_of_the_order_goes_before_that_of_the_source(launcher: Launcher) -> None:
    plan = await launcher.plan(order(**{"from": "sip:admin@192.0.2.9"}))
    assert plan.options.from_uri == "sip:admin@192.0.2.9"


async def test_from_stays_open_without_a_domain_of_the_source(launcher: Launcher, sources: dict[str, Source]) -> None:
    assert (await launcher.plan(order("lab"))).options.from_uri == ""
    named = read_order({"phones_file": str(sources["hq"].file)})
    assert (await launcher.plan(named)).options.from_uri == ""


async def test_the_domain_of_a_source_is_in_the_hash_of_the_plan(launcher: Launcher) -> None:
    plans = [await launcher.plan(one) for one in (order("lab"), order(), order("lab", **{"from": FROM}))]
    assert plans[0].hash != plans[1].hash == plans[2].hash


async def test_an_ipv6_address_is_a_domain_too(launcher: Launcher, sources: dict[str, Source]) -> None:
    launcher.sources = {"hq": Source(sources["hq"].file, "[2001:db8::1]")}
    assert (await launcher.plan(order())).options.from_uri == "sip:resyncctl@[2001:db8::1]"


async def test_a_large_list_that_another_process_plans_has_the_domain(
    launcher: Launcher, sources: dict[str, Source]
) -> None:
    rows = ["aor,model", *(f"sip:{n}@192.0.2.1,{'x' * 500}" for n in range(2100))]
    sources["hq"].file.write_text("\n".join(rows), encoding="ascii")
    assert sources["hq"].file.stat().st_size > 1_000_000
    assert (await launcher.plan(order())).options.from_uri == FROM


async def test_a_rollout_that_is_made_of_a_kept_plan_has_the_domain(launcher: Launcher, store: RedisStore) -> None:
    report = await launcher.keep(order())
    launched = await launcher.launch_kept(str(report["plan_hash"]), ADMIN, name="kept")
    assert launched.record.options.from_uri == FROM
    assert (await store.get(RolloutId("kept"))).options.from_uri == FROM


async def test_a_plan_of_another_domain_is_not_launched(launcher: Launcher, sources: dict[str, Source]) -> None:
    report = await launcher.keep(order())
    launcher.sources = {"hq": Source(sources["hq"].file, "pbx.example.net")}
    with pytest.raises(StateError, match=r"what the configuration says of their source, have changed since the plan"):
        await launcher.launch_kept(str(report["plan_hash"]), ADMIN)


async def test_a_schedule_takes_the_domain_that_is_configured_when_it_fires(
    launcher: Launcher, store: RedisStore, sources: dict[str, Source]
) -> None:
    schedules = Schedules(store, launcher)
    when = When.parse(now=from_us(NOW), cron="0 3 * * sun")
    record, plan = await schedules.add("weekly", when=when, order=order(), policy=Policy(), actor=ADMIN, now_us=NOW)
    assert plan.options.from_uri == FROM
    assert "from" not in str(record.order)
    launcher.sources = {"hq": Source(sources["hq"].file, "pbx.example.net")}
    launched = await schedules.run("weekly", ADMIN, now_us=NOW)
    assert launched.record.options.from_uri == "sip:resyncctl@pbx.example.net"


async def test_a_hook_sends_from_the_domain_of_its_source(launcher: Launcher, store: RedisStore) -> None:
    at_us = NOW
    hooks = Hooks(store, launcher, make_logger("error"), now_us=lambda: at_us)
    await hooks.add(new_hook("pbx", {"source": "hq"}, now_us=NOW, secret="a secret of a hook", cool_down=0.0), ADMIN)
    answer = await hooks.call("pbx", event=HookEvent(("1001",)), source="192.0.2.7")
    at_us += 3_600_000_000
    await hooks.fire()
    launched = await store.get(RolloutId(str(answer["rollout"])))
    assert (launched.targets, launched.options.from_uri) == (1, FROM)


async def test_a_source_that_is_not_configured_is_told_with_those_that_are(launcher: Launcher) -> None:
    with pytest.raises(NotFoundError, match=r"there is no source 'nowhere'; the configuration names hq, lab"):
        await launcher.plan(order("nowhere"))


def test_sources_are_listed_by_name_with_their_domain(sources: dict[str, Source], tmp_path: Path) -> None:
    file, gone = str(sources["hq"].file), tmp_path / "gone.csv"
    assert source_reports({**sources, "away": Source(gone)}) == [
        {"name": "away", "file": str(gone), "exists": False, "from_domain": ""},
        {"name": "hq", "file": file, "exists": True, "from_domain": "pbx.example.com"},
        {"name": "lab", "file": file, "exists": True, "from_domain": ""},
    ]
